import os
from unittest.mock import patch

from odoo.tests import TransactionCase
from odoo.tools import config

ENVIRONMENT = {
    "ODOO_SESSION_REDIS": "1",
    "ODOO_SESSION_REDIS_HOST": "redis.example",
    "ODOO_SESSION_REDIS_PASSWORD": "open-sesame",
    "AWS_HOST": "sos-ch-gva-2.exo.io",
    "AWS_REGION": "ch-gva-2",
    "AWS_ACCESS_KEY_ID": "key",
    "AWS_SECRET_ACCESS_KEY": "secret",
}
OURS = (
    "AWS_",
    "ODOO_SESSION_REDIS",
    "ODOO_STATSD",
    "STATSD_",
    "ODOO_CLOUD",
    "DISABLE_",
)


class S3Case(TransactionCase):
    """What a platform makes of the variables and parameters of attachment_s3."""

    kind = "s3"

    def setUp(self):
        super().setUp()
        self.platform = self.env["cloud.platform"]

    def set_environment(self, environment, **variables):
        values = {
            "RUNNING_ENV": environment,
            "ODOO_SESSION_REDIS_PREFIX": f"acme-odoo-{environment}",
            **ENVIRONMENT,
            **variables,
        }
        others = {k: v for k, v in os.environ.items() if not k.startswith(OURS)}
        for patcher in (
            patch.dict(os.environ, others | values, clear=True),
            patch.dict(config._runtime_options, {"running_env": environment}),
        ):
            patcher.start()
            self.addCleanup(patcher.stop)

    def faults(self, location="s3://"):
        set_param = self.env["ir.config_parameter"].set_param
        set_param("cloud.platform.kind", self.kind)
        set_param("ir_attachment.location", location)
        return self.platform._find_faults()

    def subjects(self, location="s3://"):
        return [fault.subject for fault in self.faults(location)]
