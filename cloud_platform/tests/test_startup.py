import os
import subprocess
import sys
import tempfile
from unittest.mock import patch

import odoo.addons
import odoo.cli
from odoo.addons.cloud_platform import startup
from odoo.addons.cloud_platform.faults import ConfigurationError, Fault
from odoo.tests import BaseCase, tagged

from .common import CheckCase

LOGGER = "odoo.addons.cloud_platform.startup"
ERROR = ConfigurationError([Fault("VARIABLE", "is wrong", "Correct it")])


@tagged("post_install", "-at_install")
class TestRefusal(CheckCase):
    """When a process is ended; tests/test_refuses_to_start.py ends real ones."""

    def setUp(self):
        super().setUp()
        self.refuse = self.start_patch(patch.object(startup, "refuse"))
        memory = bytearray(len(startup._passed))
        self.start_patch(patch.object(startup, "_passed", memory))
        self.start_patch(patch.object(odoo.cli, "COMMAND", "server"))

    def test_server_stops(self):
        startup.refuse_database("db", ERROR, ready=False)
        self.refuse.assert_called_once()
        self.assertIn("VARIABLE: is wrong", self.refuse.call_args.args[0])

    def test_shell_and_song_go_on(self):
        for command in ("shell", "cloudcheck", None):
            with (
                self.subTest(command=command),
                patch.object(odoo.cli, "COMMAND", command),
                self.assertLogs(LOGGER, "ERROR") as logs,
            ):
                startup.refuse_database("db", ERROR, ready=False)
            self.assertIn("VARIABLE: is wrong", logs.output[0])
        self.refuse.assert_not_called()

    def test_reload_of_a_serving_registry_goes_on(self):
        with self.assertLogs(LOGGER, "ERROR"):
            startup.refuse_database("db", ERROR, ready=True)
        self.refuse.assert_not_called()

    def test_new_registry_of_a_database_that_was_served_goes_on(self):
        startup.passed("db")
        with self.assertLogs(LOGGER, "ERROR"):
            startup.refuse_database("db", ERROR, ready=False)
        self.refuse.assert_not_called()
        startup.refuse_database("another", ERROR, ready=False)
        self.refuse.assert_called_once()


@tagged("post_install", "-at_install")
class TestEnvironmentFaults(CheckCase):
    """What stops a server before any database is loaded."""

    def faults(self, environment, **variables):
        self.set_environment(environment, **variables)
        return [fault.subject for fault in startup.environment_faults()]

    def test_good_environment(self):
        for environment in ("prod", "integration", "test", "dev"):
            with self.subTest(environment=environment):
                self.assertEqual(self.faults(environment), [])

    def test_environment_without_a_folder(self):
        names = ("PROD", "prod ", "prod\n", "default", "tests", "../x")
        for environment in names:
            with self.subTest(environment=environment):
                faults = self.faults(
                    environment, ODOO_SESSION_REDIS_PREFIX="acme-odoo-prod"
                )
                self.assertEqual(faults, ["RUNNING_ENV"])
        [fault] = startup.environment_faults()
        self.assertIn("dev, integration, prod, test", str(fault))

    def test_invalid_variables_all_at_once(self):
        faults = self.faults(
            "prod", ODOO_SESSION_REDIS="maybe", ODOO_SESSION_REDIS_PORT="abc"
        )
        self.assertEqual(faults, ["ODOO_SESSION_REDIS", "ODOO_SESSION_REDIS_PORT"])

    def test_rule_between_variables(self):
        faults = self.faults("prod", ODOO_SESSION_REDIS_URL="redis://redis.example")
        self.assertEqual(faults[0], "ODOO_SESSION_REDIS_URL")

    def test_unsafe_serves_with_a_warning(self):
        self.set_environment(
            "prod", ODOO_SESSION_REDIS="maybe", ODOO_CLOUD_PLATFORM_UNSAFE="1"
        )
        with (
            patch.object(odoo.cli, "COMMAND", "server"),
            patch.object(startup, "refuse") as refuse,
            self.assertLogs(LOGGER, "WARNING"),
        ):
            startup.check_environment()
        refuse.assert_not_called()


@tagged("post_install", "-at_install")
class TestServer(BaseCase):
    """A process of its own; tests/test_refuses_to_start.py has all of its modes."""

    def run_odoo(self, command, **variables):
        with tempfile.TemporaryDirectory() as folder:
            return subprocess.run(
                [
                    *(sys.executable, "-c", "import odoo.cli; odoo.cli.main()"),
                    "--addons-path=" + ",".join(dict.fromkeys(odoo.addons.__path__)),
                    *(command, "--load=base,web,cloud_platform", "--no-http"),
                    *(f"--data-dir={folder}", "--stop-after-init"),
                ],
                # no database: none is needed
                env={**os.environ, "RUNNING_ENV": "prod", **variables},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )

    def test_wrong_variables_of_all_addons_end_it_with_one_message(self):
        result = self.run_odoo(
            "server", ODOO_SESSION_REDIS_PORT="abc", ODOO_CLOUD_PLATFORM_UNSAFE="maybe"
        )
        self.assertEqual(result.returncode, startup.EXIT_CONFIGURATION, result.stdout)
        message = result.stdout.rpartition(" CRITICAL ")[2]
        self.assertIn("2 faults", message)
        self.assertIn("ODOO_SESSION_REDIS_PORT", message)
        self.assertIn("ODOO_CLOUD_PLATFORM_UNSAFE", message)
        self.assertIn("This server does not start.", message)

    def test_right_variables_let_it_start(self):
        result = self.run_odoo("server", ODOO_SESSION_REDIS="0")
        self.assertEqual(result.returncode, 0, result.stdout)
        self.assertNotIn("CRITICAL", result.stdout)
