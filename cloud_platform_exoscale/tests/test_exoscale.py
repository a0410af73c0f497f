from odoo.addons.cloud_platform.models.cloud_platform import Configuration
from odoo.addons.cloud_platform_generic.tests.common import S3Case
from odoo.tests import tagged


@tagged("post_install", "-at_install")
class TestExoscale(S3Case):
    kind = "exoscale"

    def test_prod_with_its_bucket_is_right(self):
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod")
        self.assertEqual(self.faults(), [])

    def test_rules_of_s3_hold(self):
        self.set_environment("integration", AWS_BUCKETNAME="acme-odoo-prod")
        self.assertEqual(self.subjects(), ["AWS_ATTACHMENT_READONLY"])

    def test_amazon_is_not_exoscale(self):
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod", AWS_HOST="")
        self.assertEqual(self.subjects(), ["AWS_HOST"])
        self.env["ir.config_parameter"].set_param(
            "ir_attachment.s3.host", "sos-ch-gva-2.exo.io"
        )
        self.assertEqual(self.faults(), [])

    def test_invalid_variables_are_faults(self):
        self.set_environment(
            "prod", AWS_ATTACHMENT_READONLY="maybe", STATSD_PORT="no port"
        )
        self.assertEqual(self.subjects(), ["AWS_ATTACHMENT_READONLY", "STATSD_PORT"])

    def test_variables_of_statsd_that_are_missing(self):
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod", ODOO_STATSD="1")
        self.assertEqual(self.subjects(), ["ODOO_STATSD"])

    def test_dry_run_of_the_installation(self):
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod")
        report = self.platform.install("exoscale", dry_run=True)
        self.assertEqual(report["parameters"]["cloud.platform.kind"], "exoscale")
        self.assertEqual(report["parameters"]["ir_attachment.location"], "s3://")

    def test_name_of_statsd_is_resolved_when_it_is_used(self):
        def probe(**variables):
            self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod", **variables)
            configuration = Configuration("prod", self.kind, "s3://")
            return self.platform._probes(configuration)["statsd"]()

        on = {"ODOO_STATSD": "1", "STATSD_PORT": "8125"}
        self.assertIn("not used", probe().detail)
        local = probe(**on, STATSD_HOST="127.0.0.1")
        self.assertEqual(
            (local.detail, local.faults), ("127.0.0.1:8125 is 127.0.0.1", [])
        )
        [fault] = probe(**on, STATSD_HOST="nowhere.invalid").faults
        self.assertEqual(fault.subject, "STATSD_HOST")

    def test_statsd_is_not_asked_for_another_kind(self):
        self.set_environment("test", STATSD_PORT="no port")
        self.assertNotIn(
            "statsd", self.platform._probes(Configuration("test", "s3", "db"))
        )
        self.kind = "s3"
        self.assertEqual(self.subjects("db"), [])
