"""Songs for anthem: ``anthem odoo.addons.cloud_platform.songs::install_exoscale``."""

import logging
from contextlib import contextmanager

from .faults import CloudPlatformError
from .providers import addon_of

#: as in the log of a move
MB = 1024 * 1024


def install_exoscale(ctx) -> None:
    """Configure the database for Exoscale; see ``cloud.platform``'s ``install``.

    :param ctx: anthem's context
    :raises CloudPlatformError: when cloud_platform_exoscale is not installed
    :raises ConfigurationError: when the configuration would be wrong
    """
    install(ctx, "exoscale")


def install_generic(ctx) -> None:
    """Configure the database for any S3 store, as :func:`install_exoscale`."""
    install(ctx, "s3")


def install(ctx, kind: str, dry_run: bool = False) -> None:
    """Configure the database for a kind of platform and log what was done.

    :param ctx: anthem's context
    :param kind: one that an installed provider addon offers
    :param dry_run: write nothing and log what would be done
    :raises CloudPlatformError: when the addon of the kind is not installed
    :raises ConfigurationError: when the configuration would be wrong
    """
    if "cloud.platform" not in ctx.env:
        raise CloudPlatformError(
            "The addon cloud_platform is not installed on this database: install "
            f"{addon_of(kind)}, then try again."
        )
    title = "Cloud platform (dry run)" if dry_run else "Cloud platform"
    with ctx.log(f"{title}: {kind}"), _records_in_song(ctx):
        report = ctx.env["cloud.platform"].install(kind, dry_run=dry_run)
        ctx.log_line(f"environment: {report['environment']}")
        would = "would set " if dry_run else ""
        for key, value in report["parameters"].items():
            ctx.log_line(f"{would}{key} = {value}")
        megabytes = f"{report['bytes'] / MB:.1f} MB"
        if dry_run:
            number = report["attachments"]
            ctx.log_line(f"would move attachments: {number} ({megabytes})")
            return
        ctx.log_line(
            f"attachments moved: {report['moved']} ({megabytes}), "
            f"failed: {report['failed']}"
        )


@contextmanager
def _records_in_song(ctx):
    """Show the log records of addons, such as the progress of a move, in the song.

    anthem silences Odoo's loggers up to ERROR.
    """
    logger = logging.getLogger("odoo.addons")
    handler = _SongHandler(ctx)
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    try:
        yield
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


class _SongHandler(logging.Handler):
    def __init__(self, ctx):
        super().__init__()
        self.ctx = ctx

    def emit(self, record):
        self.ctx.log_line(record.getMessage())
