from odoo import models
from odoo.addons.cloud_platform.faults import Fault

from ..statsd import statsd_faults, statsd_probe

KIND = "exoscale"


class CloudPlatform(models.AbstractModel):
    _inherit = "cloud.platform"

    # overrides

    def _s3_kinds(self):
        return {**super()._s3_kinds(), KIND: "Exoscale"}

    def _variable_faults(self, kind):
        faults = super()._variable_faults(kind)
        return faults + statsd_faults() if kind == KIND else faults

    def _check_s3(self, configuration):
        faults = super()._check_s3(configuration)
        if faults or configuration.kind != KIND:
            return faults
        if not self._stores_objects(configuration):
            return []
        if self._s3_configuration(configuration).connection.host:
            return []
        return [
            Fault(
                "AWS_HOST",
                self.env._("is not set, so that attachments would go to Amazon S3"),
                self.env._("Set it to sos-<zone>.exo.io"),
            )
        ]

    def _probes(self, configuration):
        questions = super()._probes(configuration)
        if configuration.kind == KIND:
            questions["statsd"] = statsd_probe
        return questions
