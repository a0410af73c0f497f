import logging
import os
from unittest.mock import patch

from odoo.tests import tagged

from .common import CheckCase

BAD_CLIENTS = ("", "-", "Acme", "acme_", "-acme", "acme ", "ac.me", "àcme")


@tagged("post_install", "-at_install")
class TestEnvironments(CheckCase):
    """Each cell of the table of environments, right and wrong."""

    # prod

    def test_prod_with_its_bucket_is_right(self):
        self.set_environment("prod")
        self.bucket("acme-odoo-prod")
        for location in ("s3://", "s3", "s3://key:secret@acme-odoo-prod"):
            with self.subTest(location=location):
                self.set_parameters(location)
                self.assertEqual(self.subjects(), [])

    def test_prod_needs_the_object_store(self):
        self.set_environment("prod")
        self.bucket("acme-odoo-prod")
        for location in ("db", "file", "", "S3://", "s3:/", "s3\n", "db\n"):
            with self.subTest(location=location):
                self.set_parameters(location)
                self.assertIn("ir_attachment.location", self.subjects())

    def test_prod_needs_a_production_bucket(self):
        self.set_environment("prod")
        self.set_parameters("s3://")
        for name in ("", "acme", "acme-odoo-integration", "acme-odoo-test"):
            with self.subTest(bucket=name):
                self.bucket(name)
                self.assertEqual(self.subjects(), ["AWS_BUCKETNAME"])

    def test_bucket_name_matches_as_a_whole(self):
        self.set_environment("prod")
        self.set_parameters("s3://")
        names = [f"{client}-odoo-prod" for client in BAD_CLIENTS]
        names += ["acme-odoo-prod\n", "acme-odoo-prod-2", "acme-odoo-PROD", "odoo-prod"]
        for name in names:
            with self.subTest(bucket=name):
                self.bucket(name)
                self.assertEqual(self.subjects(), ["AWS_BUCKETNAME"])

    def test_client_with_digits_and_hyphens_is_right(self):
        self.set_environment("prod", ODOO_SESSION_REDIS_PREFIX="4-you-odoo-prod")
        self.set_parameters("s3://")
        self.bucket("4-you-odoo-prod")
        self.assertEqual(self.subjects(), [])

    def test_prod_may_not_be_readonly(self):
        self.set_environment("prod")
        self.set_parameters("s3://")
        self.bucket("acme-odoo-prod", readonly=True)
        self.assertEqual(self.subjects(), ["AWS_ATTACHMENT_READONLY"])

    # integration

    def test_integration_reads_the_production_bucket(self):
        self.set_environment("integration")
        self.set_parameters("s3://")
        self.bucket("acme-odoo-prod", readonly=True)
        self.assertEqual(self.subjects(), [])

    def test_integration_may_not_write_to_the_production_bucket(self):
        self.set_environment("integration")
        self.set_parameters("s3://")
        self.bucket("acme-odoo-prod")
        self.assertEqual(self.subjects(), ["AWS_ATTACHMENT_READONLY"])

    def test_integration_writes_to_its_own_bucket(self):
        self.set_environment("integration")
        self.set_parameters("s3://")
        self.bucket("acme-odoo-integration")
        self.assertEqual(self.subjects(), [])

    def test_integration_needs_the_object_store_and_a_bucket(self):
        self.set_environment("integration")
        self.set_parameters("db")
        self.bucket("")
        self.assertEqual(self.subjects(), ["ir_attachment.location"])
        self.set_parameters("s3://")
        self.assertEqual(self.subjects(), ["AWS_BUCKETNAME"])
        self.bucket("acme-odoo-test")
        self.assertEqual(self.subjects(), ["AWS_BUCKETNAME"])

    # test and dev

    def test_test_keeps_attachments_in_the_database(self):
        self.set_environment("test")
        self.set_parameters("db")
        self.assertEqual(self.subjects(), [])
        for location in ("file", "", "s3://"):
            with self.subTest(location=location):
                self.set_parameters(location)
                self.assertEqual(self.subjects(), ["ir_attachment.location"])

    def test_dev_keeps_attachments_in_the_database_or_in_files(self):
        self.set_environment("dev")
        for location in ("db", "file", ""):
            with self.subTest(location=location):
                self.set_parameters(location)
                self.assertEqual(self.subjects(), [])
        self.set_parameters("s3://")
        self.assertEqual(self.subjects(), ["ir_attachment.location"])

    def test_bucket_name_is_no_fault_where_the_location_is_one(self):
        for environment in ("test", "dev", "staging"):
            with self.subTest(environment=environment):
                self.set_environment(environment)
                self.set_parameters("s3://")
                self.bucket("acme")
                self.assertEqual(self.subjects(), ["ir_attachment.location"])

    def test_only_prod_may_write_to_a_production_bucket(self):
        for environment in ("integration", "test", "dev", "staging"):
            for unstructured in (None, "1"):
                self.set_environment(
                    environment, AWS_BUCKETNAME_UNSTRUCTURED=unstructured
                )
                self.set_parameters("s3://" if environment == "integration" else "db")
                for name in ("acme-odoo-prod", "acme.production", "prod-files"):
                    with self.subTest(environment=environment, bucket=name):
                        self.bucket(name)
                        self.assertIn("AWS_ATTACHMENT_READONLY", self.subjects())

    def test_unstructured_bucket_name_is_accepted(self):
        for environment in ("prod", "integration"):
            with self.subTest(environment=environment):
                self.set_environment(environment, AWS_BUCKETNAME_UNSTRUCTURED="1")
                self.set_parameters("s3://")
                self.bucket("files")
                self.assertEqual(self.subjects(), [])

    # sessions

    def test_sessions_in_redis_are_required_except_in_dev(self):
        for environment in ("prod", "integration", "test"):
            for value in (None, "0", "", "off"):
                with self.subTest(environment=environment, value=value):
                    self.prepare(environment, ODOO_SESSION_REDIS=value)
                    self.assertEqual(self.subjects(), ["ODOO_SESSION_REDIS"])
        self.prepare("dev", ODOO_SESSION_REDIS=None, ODOO_SESSION_REDIS_PREFIX=None)
        self.assertEqual(self.subjects(), [])

    def test_address_of_redis_is_required(self):
        for environment in ("prod", "integration", "test"):
            for value in (None, ""):
                with self.subTest(environment=environment, value=value):
                    self.prepare(environment, ODOO_SESSION_REDIS_HOST=value)
                    self.assertEqual(self.subjects(), ["ODOO_SESSION_REDIS_HOST"])

    def test_address_of_redis_may_be_a_url(self):
        self.prepare(
            "prod",
            ODOO_SESSION_REDIS_HOST=None,
            ODOO_SESSION_REDIS_PASSWORD=None,
            ODOO_SESSION_REDIS_URL="rediss://:open-sesame@redis.example/1",
        )
        self.assertEqual(self.subjects(), [])

    def test_address_of_redis_may_be_a_sentinel(self):
        self.prepare(
            "prod",
            ODOO_SESSION_REDIS_HOST=None,
            ODOO_SESSION_REDIS_SENTINEL_HOST="sentinel.example",
            ODOO_SESSION_REDIS_SENTINEL_MASTER_NAME="odoo",
        )
        self.assertEqual(self.subjects(), [])

    def test_password_of_redis_is_required(self):
        for environment in ("prod", "integration", "test"):
            with self.subTest(environment=environment):
                self.prepare(environment, ODOO_SESSION_REDIS_PASSWORD="")
                self.assertEqual(self.subjects(), ["ODOO_SESSION_REDIS_PASSWORD"])

    def test_url_without_password_is_no_password(self):
        self.prepare(
            "prod",
            ODOO_SESSION_REDIS_HOST=None,
            ODOO_SESSION_REDIS_PASSWORD=None,
            ODOO_SESSION_REDIS_URL="redis://redis.example",
        )
        self.assertEqual(self.subjects(), ["ODOO_SESSION_REDIS_PASSWORD"])

    def test_prefix_is_that_of_the_environment(self):
        for environment in ("prod", "integration", "test"):
            others = {"prod", "integration", "test", "dev"} - {environment}
            wrong = [f"acme-odoo-{other}" for other in others]
            wrong += [f"{client}-odoo-{environment}" for client in BAD_CLIENTS]
            wrong += ["", None, f"acme-odoo-{environment}\n", "acme"]
            for prefix in wrong:
                with self.subTest(environment=environment, prefix=prefix):
                    self.prepare(environment, ODOO_SESSION_REDIS_PREFIX=prefix)
                    self.assertEqual(self.subjects(), ["ODOO_SESSION_REDIS_PREFIX"])

    def test_dev_with_redis_may_not_use_the_prefix_of_another(self):
        for prefix in ("acme-odoo-prod", "acme-odoo-integration", "acme-odoo-test"):
            with self.subTest(prefix=prefix):
                self.prepare("dev", ODOO_SESSION_REDIS_PREFIX=prefix)
                self.assertEqual(self.subjects(), ["ODOO_SESSION_REDIS_PREFIX"])
        for prefix in ("acme-odoo-dev", "mine", None):
            with self.subTest(prefix=prefix):
                self.prepare("dev", ODOO_SESSION_REDIS_PREFIX=prefix)
                self.assertEqual(self.subjects(), [])

    def prepare(self, environment, **variables):
        """Set an environment that is right except for the given variables."""
        self.set_environment(environment, **variables)
        if environment in ("prod", "integration"):
            self.set_parameters("s3://")
            self.bucket(f"acme-odoo-{environment}")
        else:
            self.set_parameters("db")

    # the environment itself

    def test_another_environment_follows_the_rules_of_dev_and_is_told(self):
        self.set_environment("staging", ODOO_SESSION_REDIS=None)
        self.set_parameters("file")
        with self.assertLogs("odoo.addons.cloud_platform", logging.INFO) as logs:
            self.platform._check_at_load()
        self.assertIn("staging follows the rules of dev", logs.output[0])
        self.set_parameters("s3://")
        self.assertEqual(self.subjects(), ["ir_attachment.location"])

    def test_environment_that_nothing_names_is_told(self):
        self.set_environment("test")
        self.set_parameters("db")
        for variables in ({}, {"RUNNING_ENV": ""}):
            os.environ.pop("RUNNING_ENV", None)
            os.environ.update(variables)
            with self.subTest(variables=variables):
                self.assertEqual(self.subjects(), ["RUNNING_ENV"])
                [fault] = self.platform._find_faults()
                self.assertIn("'test' by default", str(fault))

    def test_environment_may_be_named_by_odoo_stage(self):
        self.set_environment("test")
        os.environ["ODOO_STAGE"] = os.environ.pop("RUNNING_ENV")
        self.set_parameters("db")
        self.assertEqual(self.subjects(), [])

    # all together

    def test_all_faults_are_found_at_once(self):
        self.set_environment(
            "prod",
            ODOO_SESSION_REDIS_HOST=None,
            ODOO_SESSION_REDIS_PASSWORD=None,
            ODOO_SESSION_REDIS_PREFIX="acme-odoo-test",
        )
        self.set_parameters("s3://")
        self.bucket("acme-odoo-test", readonly=True)
        self.assertEqual(
            self.subjects(),
            [
                "AWS_BUCKETNAME",
                "AWS_ATTACHMENT_READONLY",
                "ODOO_SESSION_REDIS_HOST",
                "ODOO_SESSION_REDIS_PASSWORD",
                "ODOO_SESSION_REDIS_PREFIX",
            ],
        )

    def test_unknown_kind_is_a_fault(self):
        self.set_environment("test")
        self.set_parameters("db", kind="elsewhere")
        self.assertEqual(self.subjects(), ["cloud.platform.kind"])

    def test_invalid_variables_are_faults(self):
        self.set_environment(
            "test", ODOO_SESSION_REDIS_PORT="abc", ODOO_CLOUD_PLATFORM_UNSAFE="maybe"
        )
        self.set_parameters("db")
        self.assertEqual(
            self.subjects(), ["ODOO_CLOUD_PLATFORM_UNSAFE", "ODOO_SESSION_REDIS_PORT"]
        )

    def test_no_secret_is_shown(self):
        self.set_environment(
            "test",
            ODOO_SESSION_REDIS_PASSWORD=None,
            ODOO_SESSION_REDIS_HOST=None,
            ODOO_SESSION_REDIS_URL="redis://:open-sesame@redis.example",
            ODOO_SESSION_REDIS_PREFIX="wrong",
        )
        for location in ("s3://key:open-sesame@bucket", "s3:/key:open-sesame@bucket"):
            self.set_parameters(location)
            text = "\n".join(map(str, self.platform._find_faults()))
            self.assertIn("ir_attachment.location", text)
            self.assertNotIn("open-sesame", text)


@tagged("post_install", "-at_install")
class TestAtLoad(CheckCase):
    def setUp(self):
        super().setUp()
        self.set_environment("prod")
        self.set_parameters("db")  # wrong
        self.refuse = self.start_patch(
            patch("odoo.addons.cloud_platform.startup.refuse_database")
        )

    def test_wrong_configuration_is_refused(self):
        self.platform._register_hook()
        self.refuse.assert_called_once()
        error = self.refuse.call_args.args[1]
        self.assertIn("ir_attachment.location", str(error))

    def test_good_configuration_is_served(self):
        self.set_parameters("s3://")
        self.bucket("acme-odoo-prod")
        self.platform._register_hook()
        self.refuse.assert_not_called()

    def test_no_kind_is_a_warning(self):
        self.set_parameters("db", kind="")
        with self.assertLogs("odoo.addons.cloud_platform", "WARNING") as logs:
            self.platform._register_hook()
        self.assertIn("no cloud.platform.kind", logs.output[0])
        self.refuse.assert_not_called()

    def test_unsafe_is_a_warning_that_tells_the_faults(self):
        os.environ["ODOO_CLOUD_PLATFORM_UNSAFE"] = "1"
        with self.assertLogs("odoo.addons.cloud_platform", "WARNING") as logs:
            self.platform._register_hook()
        self.assertIn("ir_attachment.location", logs.output[0])
        self.refuse.assert_not_called()

    def test_unsafe_0_or_empty_is_safe(self):
        for value in ("0", "", "false"):
            os.environ["ODOO_CLOUD_PLATFORM_UNSAFE"] = value
            self.refuse.reset_mock()
            self.platform._register_hook()
            self.refuse.assert_called_once()
