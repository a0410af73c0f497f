from odoo import models
from odoo.tools import config


class IrHttp(models.AbstractModel):
    _inherit = "ir.http"

    # overrides

    def session_info(self):
        info = super().session_info()
        if self.env.user._is_internal():
            info["cloud_platform_environment"] = config["running_env"]
        return info
