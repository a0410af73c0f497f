import os
import re
from unittest.mock import patch

from odoo.tests import BaseCase, tagged
from odoo.tools import config, file_path, mute_logger

from .. import metrics, patches
from ..metrics import sanitize
from ..settings import StatsdSettings
from .common import StatsdMixin

_KINDS = {"ms": "timing", "c": "counter", "g": "gauge"}


@tagged("post_install", "-at_install")
class TestMetrics(StatsdMixin, BaseCase):
    def test_names_are_sanitized(self):
        for value, expected in (
            ("res.partner", "res_partner"),
            ("a:b|c@d#e\nf g/h", "a_b_c_d_e_f_g_h"),
            ("é", "_"),
            ("", "_"),
            (None, "None"),
            ("x" * 500, "x" * 80),
        ):
            self.assertEqual(sanitize(value), expected)

    def test_customer_and_environment_are_in_the_name(self):
        self.start_statsd(STATSD_CUSTOMER="a.b c", STATSD_PREFIX="erp.odoo")
        with metrics.active().batch() as batch:
            batch.count("http.status", 3, "x.y")
            batch.timing("http.request", 0.25)
            batch.gauge("worker.memory", 7, "http")
        self.assertEqual(
            self.statsd.lines("erp"),
            [
                "erp.odoo.http.status.a_b_c.prod.x_y:3|c",
                "erp.odoo.http.request.a_b_c.prod:250.000|ms",
                "erp.odoo.worker.memory.a_b_c.prod.http:7|g",
            ],
        )
        self.assertEqual(len(self.statsd.packets), 1)

    def test_packets_are_bounded(self):
        self.start_statsd(STATSD_MAXUDPSIZE="128")
        with metrics.active().batch() as batch:
            for number in range(20):
                batch.count("http.status", 1, number)
        self.statsd.lines("odoo.http.status.acme.prod.19:")
        self.assertGreater(len(self.statsd.packets), 1)
        self.assertLessEqual(max(map(len, self.statsd.packets)), 128)

    def test_dogstatsd_tags(self):
        self.start_statsd(STATSD_DOGSTATSD="1")
        with metrics.active().batch() as batch:
            batch.timing("http.rpc", 1, "res.partner", "read")
        self.assertEqual(
            self.statsd.lines("odoo"),
            [
                "odoo.http.rpc:1000.000|ms|#customer:acme,environment:prod,"
                "model:res_partner,method:read"
            ],
        )

    def test_environment_is_the_running_one_by_default(self):
        self.start_statsd(STATSD_ENVIRONMENT="")
        with metrics.active().batch() as batch:
            batch.count("http.rpc_error", 1)
        self.assertEqual(
            self.statsd.lines("odoo"),
            [f"odoo.http.rpc_error.acme.{sanitize(config['running_env'])}:1|c"],
        )

    def test_long_batch_is_sent_in_parts(self):
        self.start_statsd()
        batch = metrics.active().batch()
        for number in range(150):
            batch.count("http.status", 1, number)
        self.statsd.lines("odoo.http.status.acme.prod.99:")
        self.assertLess(len(batch._sinks[0]._pipeline._stats), 60)

    def test_every_metric_is_in_the_documentation(self):
        path = file_path("monitoring_statsd/readme/USAGE.md")
        with open(path, encoding="utf-8") as file:
            rows = re.findall(
                r"^\| `([a-z0-9_.]+?)(\.<[^`]*)?` \| (\S+) \|", file.read(), re.M
            )
        self.assertEqual(
            {
                name: (kind, tuple(re.findall(r"<(\w+)>", labels)))
                for name, labels, kind in rows
            },
            {
                name: (_KINDS[metric.kind], metric.labels)
                for name, metric in metrics.NAMES.items()
            },
        )

    def test_off_by_default(self):
        with patch.dict(os.environ):
            for name in ("ODOO_STATSD", "STATSD_CUSTOMER"):
                os.environ.pop(name, None)
            self.assertFalse(StatsdSettings().enabled)

    def test_bad_value_is_named_and_metrics_stay_off(self):
        for name, value, expected in (
            ("ODOO_STATSD", "maybe", "boolean"),
            ("STATSD_PORT", "abc", "integer"),
            ("STATSD_PORT", "70000", "65535"),
            ("STATSD_CUSTOMER", "", "must contain the name of the customer"),
        ):
            env = {"ODOO_STATSD": "1", "STATSD_CUSTOMER": "acme", name: value}
            with (
                self.subTest(name, value=value),
                patch.dict(os.environ, env),
                patch.object(metrics, "use") as use,
                self.assertLogs(patches.__name__, "ERROR") as logs,
            ):
                patches.post_load()
                use.assert_not_called()
                [line] = logs.output
                for part in (name, value, expected):
                    self.assertIn(part, line)

    @mute_logger("odoo.addons.monitoring_statsd.metrics")
    def test_fault_in_a_metric_goes_no_further(self):
        with metrics.errors_logged():
            raise UnicodeError
