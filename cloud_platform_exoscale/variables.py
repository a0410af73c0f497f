"""What the addons of this platform make of their variables."""

from odoo.addons.cloud_platform.faults import Fault, settings_faults

# Imports of attachment_s3 and monitoring_statsd are in the functions: at the top, and
# before these addons are loaded, they would make Odoo skip their post_load.


def variable_faults() -> list[Fault]:
    """Return what is wrong with the variables of S3 and statsd."""
    return [*s3_faults(), *statsd_faults()]


def s3_faults() -> list[Fault]:
    """Return what is wrong with the variables of S3."""
    from odoo.addons.attachment_s3.settings import S3Settings

    return settings_faults(S3Settings)


def statsd_faults() -> list[Fault]:
    """Return what is wrong with the variables of statsd."""
    from odoo.addons.monitoring_statsd.settings import (
        StatsdSettings,
        StatsdSettingsError,
    )

    if faults := settings_faults(StatsdSettings):
        return faults
    try:
        StatsdSettings().check()
    except StatsdSettingsError as error:
        return [Fault("ODOO_STATSD", str(error).rstrip("."), "Correct the variables")]
    return []
