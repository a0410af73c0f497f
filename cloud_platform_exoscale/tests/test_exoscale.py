import os
from datetime import datetime, timedelta, timezone
from unittest.mock import patch

from odoo.addons.attachment_s3.configuration import configuration
from odoo.addons.attachment_s3.exceptions import S3AccessDenied
from odoo.addons.cloud_platform_exoscale import probes
from odoo.tests import TransactionCase, tagged
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


@tagged("post_install", "-at_install")
class TestExoscale(TransactionCase):
    """What the platform makes of the variables and parameters of attachment_s3."""

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
        set_param("cloud.platform.kind", "exoscale")
        set_param("ir_attachment.location", location)
        return self.platform._find_faults()

    def subjects(self, location="s3://"):
        return [fault.subject for fault in self.faults(location)]

    def test_prod_with_its_bucket_is_right(self):
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod")
        self.assertEqual(self.faults(), [])

    def test_prod_without_a_bucket(self):
        for name in ("", "acme", "acme-odoo-test", "Acme-odoo-prod"):
            with self.subTest(bucket=name):
                self.set_environment("prod", AWS_BUCKETNAME=name)
                self.assertEqual(self.subjects(), ["AWS_BUCKETNAME"])

    def test_database_name_in_the_bucket_name(self):
        self.set_environment("prod", AWS_BUCKETNAME="{db}-odoo-prod")
        with patch.object(self.env.cr, "dbname", "acme"):
            self.assertEqual(self.faults(), [])
        with patch.object(self.env.cr, "dbname", "Acme"):
            self.assertEqual(self.subjects(), ["AWS_BUCKETNAME"])

    def test_bucket_in_the_location_takes_precedence(self):
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod")
        location = "s3://key:open-sesame@acme-odoo-{}"
        self.assertEqual(self.faults(location.format("prod")), [])
        [fault] = self.faults(location.format("test"))
        self.assertEqual(fault.subject, "ir_attachment.location")
        self.assertNotIn("open-sesame", str(fault))

    def test_location_on_integration_may_not_name_the_production_bucket(self):
        self.set_environment("integration", AWS_BUCKETNAME="acme-odoo-integration")
        subjects = self.subjects("s3://key:open-sesame@acme-odoo-prod")
        self.assertEqual(subjects, ["AWS_ATTACHMENT_READONLY"])

    def test_integration_reads_the_production_bucket(self):
        for variable in ("1", "true", "yes"):
            with self.subTest(variable=variable):
                self.set_environment(
                    "integration",
                    AWS_BUCKETNAME="acme-odoo-prod",
                    AWS_ATTACHMENT_READONLY=variable,
                )
                self.assertEqual(self.faults(), [])

    def test_integration_may_not_write_to_the_production_bucket(self):
        for variable in ("", "0", "false"):
            with self.subTest(variable=variable):
                self.set_environment(
                    "integration",
                    AWS_BUCKETNAME="acme-odoo-prod",
                    AWS_ATTACHMENT_READONLY=variable,
                )
                self.assertEqual(self.subjects(), ["AWS_ATTACHMENT_READONLY"])

    def test_readonly_may_be_a_parameter(self):
        self.env["ir.config_parameter"].set_param("ir_attachment.s3.readonly", "1")
        self.set_environment("integration", AWS_BUCKETNAME="acme-odoo-prod")
        self.assertEqual(self.faults(), [])
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod")
        self.assertEqual(self.subjects(), ["ir_attachment.s3.readonly"])

    def test_prod_may_not_do_without_its_store(self):
        self.set_environment(
            "prod", AWS_BUCKETNAME="acme-odoo-prod", DISABLE_ATTACHMENT_STORAGE="1"
        )
        self.assertEqual(self.subjects(), ["DISABLE_ATTACHMENT_STORAGE"])

    def test_amazon_is_not_exoscale(self):
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod", AWS_HOST="")
        self.assertEqual(self.subjects(), ["AWS_HOST"])
        self.env["ir.config_parameter"].set_param(
            "ir_attachment.s3.host", "sos-ch-gva-2.exo.io"
        )
        self.assertEqual(self.faults(), [])

    def test_half_of_the_credentials(self):
        self.set_environment(
            "prod", AWS_BUCKETNAME="acme-odoo-prod", AWS_SECRET_ACCESS_KEY=""
        )
        self.assertEqual(self.subjects(), ["AWS_SECRET_ACCESS_KEY"])

    def test_production_bucket_from_test_and_dev(self):
        for environment in ("test", "dev"):
            with self.subTest(environment=environment):
                self.set_environment(environment, AWS_BUCKETNAME="acme-odoo-prod")
                self.assertEqual(self.subjects("db"), ["AWS_ATTACHMENT_READONLY"])
                self.set_environment(environment)
                self.assertEqual(self.faults("db"), [])

    def test_invalid_variables_are_faults(self):
        self.set_environment(
            "prod", AWS_ATTACHMENT_READONLY="maybe", STATSD_PORT="no port"
        )
        self.assertEqual(self.subjects(), ["AWS_ATTACHMENT_READONLY", "STATSD_PORT"])

    def test_dry_run_of_the_installation(self):
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod")
        report = self.platform.install("exoscale", dry_run=True)
        self.assertEqual(report["parameters"]["cloud.platform.kind"], "exoscale")
        self.assertEqual(report["parameters"]["ir_attachment.location"], "s3://")


@tagged("post_install", "-at_install")
class TestProbes(TransactionCase):
    """The probe of S3 against the object store of this test run."""

    def setUp(self):
        super().setUp()
        self.prefix = "cloudcheck-test"
        get = os.environ.get
        if not get("AWS_HOST") or not get("AWS_BUCKETNAME"):
            self.skipTest("AWS_HOST and AWS_BUCKETNAME name no object store")

    def store(self):
        location = configuration(self.env.cr.dbname, "s3://", None, None)
        return location.store()

    def test_writable_store(self):
        store = self.store()
        result = probes.s3(store, self.prefix, writable=True)
        self.assertEqual(result.faults, [])
        self.assertIn(store.bucket, result.detail)
        self.assertEqual(list(store.list(f"{self.prefix}/")), [])

    def test_readonly_store_gets_no_object(self):
        store = self.store()
        with patch.object(type(store), "put") as put:
            result = probes.s3(store, self.prefix, writable=False)
        put.assert_not_called()
        self.assertEqual(result.faults, [])

    def test_wrong_secret_is_a_named_error(self):
        with (
            patch.dict(os.environ, AWS_SECRET_ACCESS_KEY="wrong"),
            self.assertRaises(S3AccessDenied) as caught,
        ):
            probes.s3(self.store(), self.prefix, writable=True)
        self.assertIn("AWS_SECRET_ACCESS_KEY", str(caught.exception))

    def test_clock_that_is_off_is_a_fault(self):
        for seconds, faults, advice in ((0, 0, 0), (120, 0, 1), (1200, 1, 0)):
            now = datetime.now(timezone.utc) + timedelta(seconds=seconds)
            with (
                self.subTest(seconds=seconds),
                patch.object(probes, "datetime") as clock,
            ):
                clock.now.return_value = now
                result = probes.s3(self.store(), self.prefix, writable=False)
                self.assertEqual(len(result.faults), faults)
                self.assertEqual(len(result.advice), advice)
