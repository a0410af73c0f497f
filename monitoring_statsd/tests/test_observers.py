import sys
import types
from unittest.mock import patch

from odoo.tests import HttpCase, tagged
from odoo.tools import mute_logger

from .. import metrics, observers, requests
from .common import StatsdMixin

S3 = "odoo.addons.attachment_s3.observers"
REDIS = "odoo.addons.session_redis.observer"


@tagged("post_install", "-at_install")
class TestObservers(StatsdMixin, HttpCase):
    def setUp(self):
        super().setUp()
        # the contract of the two addons, of which none needs to be there
        self.s3 = types.SimpleNamespace(observers=[], move_observers=[])
        self.redis = types.SimpleNamespace(observers=[])
        self.startPatcher(patch.dict(sys.modules, {S3: self.s3, REDIS: self.redis}))

    def operation(self, name="get", seconds=0.5, size=0, error=None):
        return types.SimpleNamespace(
            name=name, seconds=seconds, bytes=size, error=error
        )

    def test_nobody_listens_while_metrics_are_off(self):
        with patch.object(metrics, "_metrics", None):
            self.env["ir.cron"]._register_hook()
        self.assertFalse(self.s3.observers)
        self.assertFalse(self.s3.move_observers)
        self.assertFalse(self.redis.observers)

    def test_nothing_is_sent_once_metrics_are_off(self):
        self.start_statsd()
        metrics._metrics = None
        with self.assertNoLogs("odoo.addons.monitoring_statsd.metrics"):
            observers.observe_s3(self.operation())
            observers.observe_redis("get", 0.001, None, 0)

    def test_addon_that_is_not_loaded_is_no_error(self):
        self.start_statsd()
        del sys.modules[S3]
        self.env["ir.cron"]._register_hook()
        self.assertEqual(self.redis.observers, [observers.observe_redis])

    def test_registry_loaded_again_listens_once(self):
        self.start_statsd()
        for _turn in range(2):
            self.env["ir.cron"]._register_hook()
        self.assertEqual(self.s3.observers, [observers.observe_s3])
        self.assertEqual(self.s3.move_observers, [observers.observe_move])
        self.assertEqual(self.redis.observers, [observers.observe_redis])

    def test_operations_outside_of_a_request_leave_at_once(self):
        self.start_statsd()
        observers.observe_s3(self.operation(size=1000))
        observers.observe_redis("save", 0.001, None, 0)
        self.assertEqual(
            self.statsd.lines("odoo.redis."),
            [
                "odoo.s3.operation.acme.prod.get:500.000|ms",
                "odoo.s3.bytes.acme.prod.get:1000|c",
                "odoo.redis.operation.acme.prod.save:1.000|ms",
            ],
        )

    def test_progress_of_a_move(self):
        self.start_statsd()
        observers.observe_move(
            types.SimpleNamespace(
                database="a.b",
                total=9,
                moved=3,
                failed=1,
                total_bytes=1e20,
                moved_bytes=10.0,
            )
        )
        self.assertEqual(
            self.statsd.lines("odoo.migration.bytes"),
            [
                "odoo.migration.attachments.acme.prod.a_b.total:9|g",
                "odoo.migration.attachments.acme.prod.a_b.moved:3|g",
                "odoo.migration.attachments.acme.prod.a_b.failed:1|g",
                f"odoo.migration.bytes.acme.prod.a_b.total:{10**20}|g",
                "odoo.migration.bytes.acme.prod.a_b.moved:10|g",
            ],
        )

    def test_errors_are_counted_by_class(self):
        self.start_statsd()
        observers.observe_s3(self.operation("put", error=ConnectionError("x")))
        observers.observe_redis("get", 0.001, TimeoutError(), 2)
        lines = self.statsd.lines("odoo.redis.retries")
        self.assertIn("odoo.s3.error.acme.prod.put.ConnectionError:1|c", lines)
        self.assertIn("odoo.redis.error.acme.prod.get.TimeoutError:1|c", lines)
        self.assertIn("odoo.redis.retries.acme.prod.get:2|c", lines)

    def test_operations_of_a_request_leave_with_it(self):
        self.start_statsd()
        with requests.RequestMeasure({"PATH_INFO": "/"}) as measure:
            observers.observe_s3(self.operation())
            observers.observe_redis("get", 0.001, None, 0)
            self.assertIs(requests.current().batch(), requests.current().batch())
        measure.send()
        self.statsd.lines("odoo.http.request")
        [packet] = self.statsd.packets
        self.assertIn("odoo.s3.operation.acme.prod.get:", packet)
        self.assertIn("odoo.redis.operation.acme.prod.get:", packet)

    @mute_logger("odoo.addons.monitoring_statsd.metrics")
    def test_fault_does_not_reach_the_store(self):
        self.start_statsd()
        observers.observe_s3(object())
