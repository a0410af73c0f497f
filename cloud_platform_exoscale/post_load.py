from odoo.modules.module import load_openerp_module

from .variables import s3_faults, statsd_faults


def post_load() -> None:
    """Have the variables of S3 and statsd checked before any database is loaded."""
    from odoo.addons import cloud_platform

    # this addon imports the package, which makes Odoo skip its post_load
    cloud_platform.post_load()
    # apart, because monitoring_statsd cannot be imported in a wrong environment
    cloud_platform.startup.register_variable_faults(s3_faults)
    cloud_platform.startup.register_variable_faults(statsd_faults)
    for addon in ("attachment_s3", "monitoring_statsd"):
        load_openerp_module(addon)
