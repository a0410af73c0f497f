from odoo.modules.module import load_openerp_module

from .statsd import statsd_faults


def post_load() -> None:
    """Have the variables of S3 and statsd checked before any database is loaded."""
    from odoo.addons import cloud_platform, cloud_platform_generic

    # this addon imports the package, which makes Odoo skip its post_load
    cloud_platform_generic.post_load()
    cloud_platform.startup.register_variable_faults(statsd_faults)
    load_openerp_module("monitoring_statsd")
