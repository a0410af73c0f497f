import os
import threading
import time
from unittest.mock import patch

import psycopg2

from odoo import sql_db
from odoo.modules.registry import Registry
from odoo.tests import BaseCase, tagged
from odoo.tools import mute_logger

from .. import checks
from ..checks import Checker
from ..settings import MonitoringStatusSettings

LOGGER = "odoo.addons.monitoring_status.checks"


@tagged("post_install", "-at_install")
class TestChecks(BaseCase):
    def setUp(self):
        super().setUp()
        self.checker = Checker()
        self.parts = {}
        # the test runner holds Odoo's own lock
        self.startPatcher(patch.object(Registry, "_lock", threading.RLock()))
        self.startPatcher(patch.object(checks, "other_parts", lambda: self.parts))
        self.startPatcher(
            patch.dict(
                os.environ, ODOO_MONITORING_TIMEOUT="5", ODOO_MONITORING_CACHE="0"
            )
        )

    def results(self):
        return self.checker.results(MonitoringStatusSettings())

    def test_postgresql_and_registry_work(self):
        results = self.results()
        self.assertEqual(list(results), ["postgresql", "registry"])
        for result in results.values():
            self.assertTrue(result.ok, result)
            self.assertGreater(result.seconds, 0)

    @mute_logger("odoo.sql_db", LOGGER)
    def test_postgresql_that_is_away_fails(self):
        def away(*args, **kwargs):
            raise psycopg2.OperationalError("connection refused")

        with patch.object(sql_db.Connection, "cursor", away):
            result = self.results()["postgresql"]
        self.assertFalse(result.ok)
        self.assertIn("connection refused", result.error)
        self.assertTrue(self.results()["postgresql"].ok)

    @mute_logger(LOGGER)
    def test_registry_that_loads_is_not_ready(self):
        Registry._lock.acquire()
        self.addCleanup(Registry._lock.release)
        with patch.dict(os.environ, ODOO_MONITORING_TIMEOUT="0.2"):
            results = self.results()
        self.assertFalse(results["registry"].ok)
        self.assertTrue(results["postgresql"].ok)

    @mute_logger(LOGGER)
    def test_each_part_is_checked_and_the_failing_one_told(self):
        def fails():
            raise ConnectionError("redis is away")

        self.parts = {"redis": fails, "object_store": lambda: None}
        results = self.results()
        self.assertFalse(results["redis"].ok)
        self.assertEqual(results["redis"].error, "ConnectionError: redis is away")
        self.assertTrue(results["object_store"].ok)
        self.assertTrue(results["postgresql"].ok)

    @mute_logger(LOGGER)
    def test_part_that_hangs_costs_its_timeout_and_one_thread(self):
        release = threading.Event()
        self.addCleanup(release.set)
        started = threading.Semaphore(0)

        def hangs():
            started.release()
            release.wait(60)

        self.parts = {"redis": hangs, "object_store": lambda: None}
        with patch.dict(os.environ, ODOO_MONITORING_TIMEOUT="0.2"):
            for _turn in range(3):
                begin = time.monotonic()
                results = self.results()
                self.assertLess(time.monotonic() - begin, 3)
                self.assertFalse(results["redis"].ok)
                self.assertEqual(results["redis"].error, "no answer in time")
                self.assertTrue(results["object_store"].ok)
        self.assertTrue(started.acquire(timeout=5))
        self.assertFalse(started.acquire(blocking=False), "started more than once")
        running = self.checker._running["redis"]
        release.set()
        self.assertTrue(running.done.wait(10))
        self.assertTrue(self.results()["redis"].ok)

    def test_results_are_kept_so_that_probes_cannot_hammer(self):
        calls = []
        lock = threading.Barrier(8, timeout=30)
        self.parts = {"redis": lambda: calls.append(1)}

        def probe():
            lock.wait()
            self.results()

        with patch.dict(os.environ, ODOO_MONITORING_CACHE="30"):
            threads = [threading.Thread(target=probe) for _number in range(8)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(len(calls), 1)
            # once they are old, the parts are asked again
            self.checker._checked_at -= 31
            self.results()
        self.assertEqual(len(calls), 2)

    def test_change_is_logged_once(self):
        broken = True

        def check():
            if broken:
                raise ConnectionError("away")

        self.parts = {"redis": check}
        # 20: Odoo means a level of its own by "INFO"
        with self.assertLogs(LOGGER, 20) as logs:
            self.results()
            self.results()
            broken = False
            self.results()
            self.results()
        self.assertEqual(
            [(r.levelname, r.getMessage()) for r in logs.records],
            [
                ("WARNING", "Not ready: redis: ConnectionError: away"),
                ("INFO", "Ready again: redis"),
            ],
        )
