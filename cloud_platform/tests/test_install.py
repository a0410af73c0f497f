import logging
from contextlib import nullcontext
from types import SimpleNamespace
from unittest.mock import patch

from odoo.addons.cloud_platform import songs
from odoo.addons.cloud_platform.faults import CloudPlatformError, ConfigurationError
from odoo.exceptions import AccessError
from odoo.tests import new_test_user, tagged

from .common import CheckCase


@tagged("post_install", "-at_install")
class TestInstall(CheckCase):
    def setUp(self):
        super().setUp()
        self.set_parameters("file", kind="")
        self.env["ir.config_parameter"].search(
            [("key", "in", ("cloud.platform.kind", "ir_attachment.location"))]
        ).unlink()
        attachments = type(self.env["ir.attachment"])
        self.force_storage = self.start_patch(
            patch.object(attachments, "force_storage")
        )
        self.env["ir.attachment"].create({"name": "a", "raw": b"x" * 5000})

    def parameters(self):
        get_param = self.env["ir.config_parameter"].get_param
        return get_param("cloud.platform.kind"), get_param("ir_attachment.location")

    def install_on(self, environment, bucket="", readonly=False):
        self.set_environment(environment)
        self.bucket(bucket, readonly)
        return self.platform.install("test")

    def test_location_is_that_of_the_environment(self):
        for environment, bucket, readonly, location in (
            ("prod", "acme-odoo-prod", False, "s3://"),
            ("integration", "acme-odoo-prod", True, "s3://"),
            ("test", "", False, "db"),
            ("dev", "", False, "db"),
            ("staging", "", False, "db"),
            ("prod", "acme-odoo-prod", False, "s3://"),  # and back
        ):
            with self.subTest(environment=environment):
                self.install_on(environment, bucket, readonly)
                self.assertEqual(self.parameters(), ("test", location))

    def test_attachments_move_when_the_store_is_writable(self):
        report = self.install_on("prod", "acme-odoo-prod")
        self.force_storage.assert_called_once_with()
        self.assertGreaterEqual(report["attachments"], 1)
        self.assertGreaterEqual(report["bytes"], 5000)

    def test_attachments_stay_elsewhere(self):
        self.install_on("integration", "acme-odoo-prod", readonly=True)
        self.install_on("test")
        self.install_on("dev")
        self.force_storage.assert_not_called()

    def test_accepted_location_is_kept(self):
        self.set_parameters("file")
        self.install_on("dev")
        self.assertEqual(self.parameters()[1], "file")
        self.set_parameters("s3://key:open-sesame@acme-odoo-prod")
        report = self.install_on("prod", "acme-odoo-prod")
        self.assertIn("open-sesame", self.parameters()[1])
        self.assertNotIn("open-sesame", str(report))

    def test_again_changes_nothing(self):
        self.install_on("prod", "acme-odoo-prod")
        before = self.parameters()
        self.platform.install("test")
        self.assertEqual(self.parameters(), before)

    def test_wrong_configuration_writes_nothing(self):
        with self.assertRaises(ConfigurationError) as caught:
            self.install_on("prod", "acme-odoo-test")
        self.assertIn("AWS_BUCKETNAME", str(caught.exception))
        self.assertEqual(self.parameters(), (False, False))
        self.force_storage.assert_not_called()

    def test_unsafe_installs_with_a_warning_that_tells_the_faults(self):
        self.set_environment("prod", ODOO_CLOUD_PLATFORM_UNSAFE="1")
        self.bucket("acme-odoo-test")
        with self.assertLogs("odoo.addons.cloud_platform", "WARNING") as logs:
            self.platform.install("test")
        self.assertIn("AWS_BUCKETNAME", logs.output[0])
        self.assertEqual(self.parameters(), ("test", "s3://"))

    def test_dry_run_writes_nothing(self):
        self.set_environment("prod")
        self.bucket("acme-odoo-prod")
        report = self.platform.install("test", dry_run=True)
        self.assertEqual(report["parameters"]["ir_attachment.location"], "s3://")
        self.assertGreaterEqual(report["attachments"], 1)
        self.assertEqual(self.parameters(), (False, False))
        self.force_storage.assert_not_called()

    def test_others_than_administrators_may_not_install(self):
        self.set_environment("test")
        for groups in ("base.group_user", "base.group_portal", "base.group_public"):
            with self.subTest(groups=groups):
                user = new_test_user(self.env, groups.replace(".", "_"), groups)
                with self.assertRaises(AccessError):
                    self.platform.with_user(user).install("test")
        self.assertEqual(self.parameters(), (False, False))


@tagged("post_install", "-at_install")
class TestSongs(CheckCase):
    kind = "exoscale"

    def setUp(self):
        super().setUp()
        self.lines = []
        self.ctx = SimpleNamespace(
            env=self.env, log=lambda name: nullcontext(), log_line=self.lines.append
        )

    def test_song_installs(self):
        self.set_environment("test")
        songs.install_exoscale(self.ctx)
        get_param = self.env["ir.config_parameter"].get_param
        self.assertEqual(get_param("cloud.platform.kind"), "exoscale")
        self.assertIn("ir_attachment.location = db", self.lines)

    def test_song_shows_the_records_of_addons(self):
        self.set_environment("test")
        logger = logging.getLogger("odoo.addons")
        before = logger.level, logger.propagate, list(logger.handlers)
        songs.install_exoscale(self.ctx)
        self.assertTrue(
            any("installed the platform exoscale" in line for line in self.lines)
        )
        after = logger.level, logger.propagate, list(logger.handlers)
        self.assertEqual(after, before)

    def test_song_names_the_missing_addon(self):
        self.start_patch(patch.object(type(self.platform), "_kinds", lambda _: {}))
        with self.assertRaisesRegex(CloudPlatformError, "cloud_platform_exoscale"):
            songs.install_exoscale(self.ctx)

    def test_song_names_the_addon_on_a_database_without_any(self):
        self.ctx.env = {}
        with self.assertRaisesRegex(CloudPlatformError, "cloud_platform_exoscale"):
            songs.install_exoscale(self.ctx)
