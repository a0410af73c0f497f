"""What attachment_s3 makes of its variables."""

from odoo.addons.cloud_platform.faults import Fault, settings_faults


def s3_faults() -> list[Fault]:
    """Return what is wrong with the variables of S3."""
    # not at the top: an import before attachment_s3 is loaded would make Odoo skip its
    # post_load
    from odoo.addons.attachment_s3.settings import S3Settings

    return settings_faults(S3Settings)
