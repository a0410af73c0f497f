from odoo import models
from odoo.addons.cloud_platform.faults import variable_value
from odoo.addons.cloud_platform.models.cloud_platform import ObjectStore
from odoo.tools import str2bool

from ..variables import variable_faults

KIND = "exoscale"
READONLY = "ir_attachment.s3.readonly"


class CloudPlatform(models.AbstractModel):
    _inherit = "cloud.platform"

    def _kinds(self):
        return {**super()._kinds(), KIND: "Exoscale"}

    def _variable_faults(self, kind):
        faults = super()._variable_faults(kind)
        return faults + variable_faults() if kind == KIND else faults

    def _object_store(self, configuration):
        if configuration.kind != KIND:
            return super()._object_store(configuration)
        from odoo.addons.attachment_s3.settings import S3Settings

        settings = S3Settings()
        bucket_setting = "AWS_BUCKETNAME"
        bucket = variable_value(settings, bucket_setting) or ""
        _keys, separator, own_bucket = configuration.location.rpartition("@")
        if separator:
            bucket, bucket_setting = own_bucket, "ir_attachment.location"
        readonly = bool(variable_value(settings, "AWS_ATTACHMENT_READONLY"))
        readonly_setting = "AWS_ATTACHMENT_READONLY"
        parameter = self.env["ir.config_parameter"].sudo().get_param(READONLY, "")
        if not readonly and str2bool(parameter, False):
            readonly, readonly_setting = True, READONLY
        return ObjectStore(
            bucket=bucket.replace("{db}", self.env.cr.dbname),
            readonly=readonly,
            bucket_setting=bucket_setting,
            readonly_setting=readonly_setting,
        )
