import os
from datetime import datetime, timedelta, timezone
from unittest.mock import patch

from odoo.addons.attachment_s3.configuration import configuration
from odoo.addons.attachment_s3.exceptions import S3AccessDenied
from odoo.addons.cloud_platform.models.cloud_platform import Configuration
from odoo.addons.cloud_platform_generic import probes
from odoo.tests import TransactionCase, tagged

from .common import S3Case


@tagged("post_install", "-at_install")
class TestGeneric(S3Case):
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

    def test_amazon_needs_no_host(self):
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod", AWS_HOST="")
        self.assertEqual(self.faults(), [])

    def test_invalid_variables_are_faults(self):
        self.set_environment(
            "prod", AWS_ATTACHMENT_READONLY="maybe", AWS_READ_TIMEOUT="soon"
        )
        self.assertEqual(
            self.subjects(), ["AWS_ATTACHMENT_READONLY", "AWS_READ_TIMEOUT"]
        )

    def test_malformed_location_is_a_fault_without_its_secret(self):
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod")
        location = "s3://key:open-sesame"
        configuration = Configuration("prod", "s3", location)
        [fault] = self.platform._find_faults(configuration)
        self.assertEqual(fault.subject, "ir_attachment.location")
        self.assertNotIn("open-sesame", str(fault))

    def test_installation(self):
        self.set_environment("test")
        report = self.platform.install_generic()
        self.assertEqual(report["parameters"]["cloud.platform.kind"], "s3")
        self.assertEqual(self.platform._configuration().kind, "s3")

    def test_dry_run_of_the_installation(self):
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod")
        report = self.platform.install("s3", dry_run=True)
        self.assertEqual(report["parameters"]["cloud.platform.kind"], "s3")
        self.assertEqual(report["parameters"]["ir_attachment.location"], "s3://")

    def test_dry_run_of_the_move(self):
        self.env["ir.config_parameter"].set_param("ir_attachment.location", "db")
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod")
        before = self.platform.install("s3", dry_run=True)
        self.env["ir.attachment"].create({"name": "a", "raw": b"x" * 5000})
        after = self.platform.install("s3", dry_run=True)
        self.assertEqual(after["attachments"] - before["attachments"], 1)
        self.assertEqual(after["bytes"] - before["bytes"], 5000)


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

    def test_store_that_gives_back_something_else_is_a_fault(self):
        store = self.store()
        with patch.object(type(store), "get", return_value=b"something else"):
            [fault] = probes.s3(store, self.prefix, writable=True).faults
        self.assertEqual(fault.subject, "AWS_BUCKETNAME")
        self.assertEqual(list(store.list(f"{self.prefix}/")), [])

    def test_key_that_may_not_delete_is_a_fault(self):
        store = self.store()
        written = []

        def delete(_store, keys):
            written.extend(keys)
            return {key: S3AccessDenied("refused") for key in keys}

        with patch.object(type(store), "delete", delete):
            [fault] = probes.s3(store, self.prefix, writable=True).faults
        store.delete(written)
        self.assertIn("may not delete: refused", str(fault))

    def test_store_is_asked_under_the_own_prefix_when_attachments_are_there(self):
        platform = self.env["cloud.platform"]

        def questions(kind, location):
            return platform._probes(Configuration("prod", kind, location))

        question = questions("s3", "s3://")["S3"]
        prefix = self.env["attachment.s3.prefix"]._own_prefix()
        self.assertEqual(question.args[1], prefix)
        self.assertEqual(question().faults, [])
        self.assertEqual(list(self.store().list(f"{prefix}/cloudcheck/")), [])
        # what is wrong with the last one is told by a check
        for kind, location in (("s3", "db"), ("other", "s3://"), ("s3", "s3://key:x")):
            with self.subTest(kind=kind, location=location):
                self.assertNotIn("S3", questions(kind, location))

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


@tagged("post_install", "-at_install")
class TestPage(S3Case):
    """What the page in the settings tells of attachment_s3 and does with it."""

    def setUp(self):
        super().setUp()
        self.set_environment("prod", AWS_BUCKETNAME="acme-odoo-prod")
        set_param = self.env["ir.config_parameter"].set_param
        set_param("cloud.platform.kind", "s3")
        set_param("ir_attachment.location", "s3://")
        for model in ("migration", "collection", "inventory"):
            self.env[f"attachment.s3.{model}"].search([]).unlink()
        self.page = self.env["cloud.platform.page"]

    def test_before_anything_was_done(self):
        page = self.page.read_page()
        self.assertEqual(page["migration"], {})
        self.assertEqual(page["collection"], "never")
        self.assertEqual(page["inventory"], {"faulty": False, "text": "never"})

    def test_move_is_begun_shown_and_cancelled(self):
        self.page.move_attachments()
        migration = self.page.read_page()["migration"]
        self.assertEqual((migration["status"], migration["moving"]), ("waiting", True))
        self.assertIn("Waiting", migration["status_title"])
        self.page.cancel_move()
        migration = self.page.read_page()["migration"]
        self.assertEqual(
            (migration["status"], migration["moving"]), ("cancelled", False)
        )

    def test_last_collection(self):
        values = {"ended_at": "2026-01-02 03:04:05", "deleted": 6}
        self.env["attachment.s3.collection"].create(values)
        self.assertRegex(
            self.page.read_page()["collection"], "2026.*: 6 objects deleted$"
        )
        self.env["attachment.s3.collection"].create(
            {"ended_at": "2026-01-03 03:04:05", "error": "S3 is away"}
        )
        self.assertRegex(
            self.page.read_page()["collection"], "2026.*: 0 objects deleted S3 is away$"
        )

    def test_last_inventory_that_ended(self):
        inventories = self.env["attachment.s3.inventory"]
        inventories.create(
            {"ended_at": "2026-01-02 03:04:05", "objects": 7, "orphans": 5}
        )
        inventories.create({"objects": 8, "missing": 1})  # not at its end
        shown = self.page.read_page()["inventory"]
        self.assertFalse(shown["faulty"])
        self.assertIn("7 objects, 0 missing, 0 of wrong size, 5 orphans", shown["text"])
        for fault in ("missing", "wrong_size"):
            with self.subTest(fault=fault):
                inventories.create({"ended_at": "2026-01-04 03:04:05", fault: 1})
                self.assertTrue(self.page.read_page()["inventory"]["faulty"])
