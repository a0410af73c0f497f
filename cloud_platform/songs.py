"""Songs for anthem: ``anthem odoo.addons.cloud_platform.songs::install_exoscale``."""

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
    with ctx.log(f"Cloud platform: {kind}"):
        report = ctx.env["cloud.platform"].install(kind)
        ctx.log_line(f"environment: {report['environment']}")
        for key, value in report["parameters"].items():
            ctx.log_line(f"{key} = {value}")
        ctx.log_line(
            f"attachments moved: {report['attachments']} ({report['bytes']} bytes)"
        )
