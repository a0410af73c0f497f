import os
import threading
from types import SimpleNamespace
from unittest.mock import Mock, patch

import redis

from odoo.addons.cloud_platform import probes
from odoo.addons.cloud_platform.faults import Fault
from odoo.addons.cloud_platform.probes import Result
from odoo.addons.session_redis import connection, settings
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

    def test_user_with_the_rights_of_sessions_only_passes(self):
        """deploy/redis/users.acl gives neither PING nor INFO."""
        administrator = connection.connect(settings.load())
        self.addCleanup(administrator.close)
        administrator.acl_setuser(
            "cloudcheck",
            enabled=True,
            passwords=["+of-a-test"],
            keys=["session:*"],
            commands=["-@all", "+get", "+set", "+del", "+select", "+client|setname"],
        )
        self.addCleanup(administrator.acl_deluser, "cloudcheck")
        user = {
            "ODOO_SESSION_REDIS_USERNAME": "cloudcheck",
            "ODOO_SESSION_REDIS_PASSWORD": "of-a-test",
        }
        self.assertIn("may not run INFO", self.advice("prod", **user))

    def test_files_need_no_redis(self):
        self.set_environment("dev", ODOO_SESSION_REDIS=None)
        self.assertIn("not used", probes.redis().detail)

    def test_redis_that_forgets_at_once_is_a_fault(self):
        with patch.object(redis.Redis, "get", return_value=None):
            [fault] = probes.redis().faults
        self.assertIn("does not keep the key", str(fault))


@tagged("post_install", "-at_install")
class TestRedisAdvice(CheckCase):
    """What a Redis says of itself that this test run's does not."""

    KEEPS = {"aof_enabled": 1, "rdb_last_save_time": 0}

    def advice(self, info, **values):
        values = {"cluster": False, "tls": True, "url": None, "host": "redis", **values}
        result = Result("")
        client = Mock(info=Mock(return_value=info))
        probes._advise_on_redis(client, SimpleNamespace(**values), result)
        return result.advice

    def test_good_redis(self):
        self.assertEqual(self.advice(self.KEEPS), [])
        saves = {"aof_enabled": 0, "rdb_last_save_time": 1}
        self.assertEqual(self.advice(saves), [])

    def test_eviction_of_sessions(self):
        full = {**self.KEEPS, "maxmemory": 1, "maxmemory_policy": "allkeys-lru"}
        [advice] = self.advice(full)
        self.assertIn("maxmemory-policy is allkeys-lru", advice)
        self.assertEqual(self.advice({**full, "maxmemory_policy": "noeviction"}), [])
        self.assertEqual(self.advice({**full, "maxmemory": 0}), [])

    def test_nothing_on_disk(self):
        [advice] = self.advice({"aof_enabled": 0, "rdb_last_save_time": 0})
        self.assertIn("a restart logs all users out", advice)

    def test_connection_that_others_can_read(self):
        for values, advised in (
            ({"host": "redis.example"}, True),
            ({"host": "192.0.2.1"}, True),
            ({"host": "127.0.0.1"}, False),
            ({"host": "localhost"}, False),
            ({"url": "redis://redis.example", "host": "redis.example"}, True),
            ({"url": "rediss://redis.example", "host": "redis.example"}, False),
            ({"url": "unix:///run/redis.sock", "host": None}, False),
        ):
            with self.subTest(values=values):
                url = values.get("url")
                secret = url and SimpleNamespace(get_secret_value=lambda url=url: url)
                advice = self.advice(
                    self.KEEPS, **{**values, "tls": False, "url": secret}
                )
                self.assertEqual(bool(advice), advised)

    def test_nodes_of_a_cluster_are_not_asked(self):
        client = Mock()
        probes._advise_on_redis(client, SimpleNamespace(cluster=True), Result(""))
        client.info.assert_not_called()
