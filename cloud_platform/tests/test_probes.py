import os
import threading
from unittest.mock import patch

from odoo.addons.cloud_platform import probes
from odoo.addons.cloud_platform.faults import Fault
from odoo.addons.cloud_platform.probes import Result
from odoo.tests import BaseCase, tagged
from odoo.tools import config

from .common import CheckCase


class TestRun(BaseCase):
    def test_result_is_that_of_the_probe(self):
        result = Result("found")
        self.assertIs(probes.run("Service", lambda: result), result)

    def test_error_of_a_client_library_is_a_fault(self):
        def probe():
            raise ConnectionError("refused")

        [fault] = probes.run("Service", probe).faults
        self.assertEqual(fault.subject, "Service")
        self.assertIn("ConnectionError: refused", str(fault))

    def test_probe_that_hangs_is_a_fault(self):
        end = threading.Event()
        self.addCleanup(end.set)
        with patch.object(probes, "PROBE_SECONDS", 0.1):
            [fault] = probes.run("Service", end.wait).faults
        self.assertIn("no answer within 0.1 seconds", str(fault))

    def test_name_that_cannot_be_resolved_is_a_fault(self):
        [fault] = probes.resolve("STATSD_HOST", "nowhere.invalid", 8125).faults
        self.assertEqual(fault.subject, "STATSD_HOST")
        self.assertFalse(probes.resolve("STATSD_HOST", "127.0.0.1", 8125).faults)

    def test_old_postgresql_is_a_fault(self):
        self.assertEqual(probes.postgresql(150004).detail, "PostgreSQL 15.4")
        self.assertFalse(probes.postgresql(150004).faults)
        self.assertTrue(probes.postgresql(120001).faults)

    def test_sessions_that_are_not_server_wide_are_a_fault(self):
        def faults(*modules):
            with patch.dict(config._runtime_options, {"server_wide_modules": modules}):
                return probes.server_wide_modules("cloud_platform_exoscale").faults

        self.assertTrue(faults("base", "web"))
        self.assertFalse(faults("base", "web", "session_redis"))
        self.assertFalse(faults("base", "web", "cloud_platform_exoscale"))


@tagged("post_install", "-at_install")
class TestReport(CheckCase):
    def setUp(self):
        super().setUp()
        self.set_environment("prod", ODOO_SESSION_REDIS_PASSWORD="open-sesame")
        self.set_parameters("s3://key:open-sesame@acme-odoo-prod")
        self.bucket("acme-odoo-prod")
        answers = {"Service": lambda: self.answer}
        self.answer = Result("found")
        self.start_patch(
            patch.object(type(self.platform), "_probes", lambda *_: answers)
        )

    def test_report_of_a_good_configuration(self):
        report = self.platform._report()
        self.assertTrue(report["ok"])
        self.assertEqual(report["environment"], "prod")
        self.assertEqual(report["location"], "s3://")
        self.assertEqual({r.status for r in report["checks"].values()}, {"ok"})
        self.assertEqual(report["probes"], {"Service": self.answer})
        self.assertNotIn("open-sesame", str(report))

    def test_fault_of_a_probe_is_not_ok(self):
        self.answer = Result(faults=[Fault("Service", "is away", "Start it")])
        self.assertFalse(self.platform._report()["ok"])
        self.assertTrue(self.platform._report(probe=False)["ok"])

    def test_fault_of_a_check_is_not_ok(self):
        self.bucket("acme-odoo-test")
        report = self.platform._report(probe=False)
        self.assertFalse(report["ok"])
        self.assertEqual(report["checks"]["name of the bucket"].status, "fault")

    def test_advice_is_no_fault(self):
        self.answer = Result(advice=["do better"])
        self.assertTrue(self.platform._report()["ok"])

    def test_services_are_not_asked_with_invalid_variables(self):
        self.set_environment("prod", ODOO_SESSION_REDIS_PORT="abc")
        report = self.platform._report()
        self.assertEqual(report["probes"], {})
        self.assertFalse(report["ok"])


@tagged("post_install", "-at_install")
class TestRedis(CheckCase):
    def advice(self, environment, **variables):
        redis = {
            name: value
            for name, value in os.environ.items()
            if name.startswith("ODOO_SESSION_REDIS")
        }
        self.set_environment(environment, **{**redis, **variables})
        result = probes.redis()
        self.assertEqual(result.faults, [])
        return " ".join(result.advice)

    def test_long_sessions_of_the_environment_test_are_advised_against(self):
        self.assertNotIn("86400", self.advice("prod"))
        self.assertIn("86400", self.advice("test"))
        expiration = {"ODOO_SESSION_REDIS_EXPIRATION": "86400"}
        self.assertNotIn("86400", self.advice("test", **expiration))
