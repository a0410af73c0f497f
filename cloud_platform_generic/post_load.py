from odoo.modules.module import load_openerp_module

from .variables import s3_faults


def post_load() -> None:
    """Have the variables of S3 checked before any database is loaded.

    An addon for another S3 provider has this as its own ``post_load``.
    """
    from odoo.addons import cloud_platform

    # this addon imports the package, which makes Odoo skip its post_load
    cloud_platform.post_load()
    cloud_platform.startup.register_variable_faults(s3_faults)
    load_openerp_module("attachment_s3")
