"""Songs for anthem: ``anthem odoo.addons.cloud_platform.songs::install_exoscale``."""

import logging
from contextlib import contextmanager

from .faults import CloudPlatformError


def install_exoscale(ctx) -> None:
    """Configure the database for Exoscale; see ``cloud.platform``'s ``install``.

    :param ctx: anthem's context
    :raises CloudPlatformError: when cloud_platform_exoscale is not installed
    :raises ConfigurationError: when the configuration would be wrong
    """
    install(ctx, "exoscale")


def install(ctx, kind: str) -> None:
    """Configure the database for a kind of platform and log what was done.

    :param ctx: anthem's context
    :param kind: one that an installed provider addon offers
    """
    if "cloud.platform" not in ctx.env:
        raise CloudPlatformError(
            "The addon cloud_platform is not installed on this database: install "
            f"cloud_platform_{kind}, then try again."
        )
    with ctx.log(f"Cloud platform: {kind}"), _records_in_song(ctx):
        report = ctx.env["cloud.platform"].install(kind)
        ctx.log_line(f"environment: {report['environment']}")
        for key, value in report["parameters"].items():
            ctx.log_line(f"{key} = {value}")
        ctx.log_line(
            f"attachments moved: {report['moved']} ({report['bytes']} bytes), "
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
