import json
from unittest.mock import patch

from werkzeug.test import EnvironBuilder

from odoo.http import Application, root
from odoo.tests import HttpCase, tagged
from odoo.tools import mute_logger

from .. import memory, metrics
from ..requests import RequestMeasure
from .common import StatsdMixin


@tagged("post_install", "-at_install")
class TestRequests(StatsdMixin, HttpCase):
    def setUp(self):
        super().setUp()
        self.start_statsd()

    def rpc(self, path, model, method, *args):
        return self.url_open(
            path,
            data=json.dumps(
                {
                    "params": {
                        "model": model,
                        "method": method,
                        "args": args,
                        "kwargs": {},
                    }
                }
            ),
            headers={"Content-Type": "application/json"},
        )

    def lines(self):
        return self.statsd.lines("odoo.http.status.")

    def names(self):
        return [line.partition(":")[0] for line in self.lines()]

    def test_page(self):
        self.assertEqual(self.url_open("/web/login").status_code, 200)
        lines = self.lines()
        self.assertRegex(lines[0], r"^odoo\.http\.request\.acme\.prod:\d+\.\d{3}\|ms$")
        self.assertEqual(lines[1], "odoo.http.status.acme.prod.2xx:1|c")
        self.assertRegex(lines[2], r"^odoo\.http\.sql_queries\.acme\.prod:\d+\|c$")
        self.assertRegex(lines[3], r"^odoo\.http\.sql_time\.acme\.prod:\d+\.\d{3}\|ms$")
        self.assertEqual(len(self.statsd.packets), 1)

    def test_memory_of_the_process_now_and_then(self):
        with patch.object(memory, "_next_sample", 0):
            for _turn in range(3):
                self.url_open("/web/login")
        self.statsd.lines("odoo.worker.memory.")
        self.statsd.lines("odoo.http.status.")
        samples = [
            line
            for packet in self.statsd.packets
            for line in packet.split("\n")
            if ".memory." in line
        ]
        self.assertRegex(
            samples[0], r"^odoo\.worker\.memory\.acme\.prod\.threaded:\d{7,}\|g$"
        )
        self.assertEqual(len(samples), 1)

    def test_static_file_is_counted_once(self):
        self.assertEqual(self.url_open("/web/static/img/logo.png").status_code, 200)
        self.assertIn("odoo.http.status.acme.prod.2xx", self.names())
        self.assertEqual(self.names().count("odoo.http.request.acme.prod"), 1)

    def test_probes_are_not_counted(self):
        for path in ("/web/health", "/monitoring/live"):
            self.url_open(path)
        self.url_open("/web/login")
        self.assertEqual(self.names().count("odoo.http.request.acme.prod"), 1)

    def test_missing_page_is_counted_once(self):
        self.assertEqual(self.url_open("/nothing/here").status_code, 404)
        self.assertIn("odoo.http.status.acme.prod.4xx", self.names())
        self.assertEqual(self.names().count("odoo.http.request.acme.prod"), 1)

    def test_button_by_model_and_method(self):
        self.authenticate("admin", "admin")
        partner = self.env["res.partner"].create({"name": "Button"})
        self.statsd.forget()
        for path in ("", "/res.partner/action_archive", "/res.partner.action_archive"):
            self.rpc(
                f"/web/dataset/call_button{path}",
                "res.partner",
                "action_archive",
                partner.ids,
            )
            self.assertIn(
                "odoo.http.button.acme.prod.res_partner.action_archive", self.names()
            )
            self.statsd.forget()

    def test_rpc_by_model_and_method(self):
        self.authenticate("admin", "admin")
        self.statsd.forget()
        self.rpc("/web/dataset/call_kw/x", "res.partner", "search_count", [])
        self.assertIn("odoo.http.rpc.acme.prod.res_partner.search_count", self.names())

    @mute_logger("odoo.http")
    def test_error_of_an_rpc_is_counted(self):
        self.authenticate("admin", "admin")
        self.statsd.forget()
        answer = self.rpc("/web/dataset/call_kw/x", "res.partner", "read")
        self.assertIn("error", answer.json())
        self.assertIn("odoo.http.rpc_error.acme.prod", self.names())
        self.assertIn("odoo.http.status.acme.prod.2xx", self.names())

    @mute_logger("odoo.http")
    def test_names_that_a_client_invents_make_no_metric(self):
        self.authenticate("admin", "admin")
        for model, method in (
            ("invented.model", "read"),
            ("res.partner", "invented"),
            ("res.partner", "_compute_display_name"),
            ("res.partner", "id"),
        ):
            self.statsd.forget()
            self.rpc(f"/web/dataset/call_kw/{model}/{method}", model, method, [])
            self.assertFalse([n for n in self.names() if ".http.rpc." in n], method)

    @mute_logger("odoo.addons.monitoring_statsd.metrics")
    def test_fault_while_measuring_does_not_reach_the_request(self):
        with patch.object(metrics.Metrics, "batch", side_effect=RuntimeError):
            self.assertEqual(self.url_open("/web/login").status_code, 200)

    def test_the_answer_does_not_wait_for_its_metrics(self):
        with patch.object(RequestMeasure, "send", autospec=True) as send:
            environ = EnvironBuilder("/web/static/img/logo.png").get_environ()
            body = root(environ, lambda *_arguments: None)
            self.assertTrue(b"".join(body))
            send.assert_not_called()
            body.close()
            send.assert_called_once()

    def test_a_request_without_an_answer_is_measured_too(self):
        self.assertRaises(KeyError, root, {"PATH_INFO": "/web/login"}, None)
        self.assertIn("odoo.http.status.acme.prod.5xx", self.names())

    def test_wrapped_once(self):
        wrapped = Application.__call__
        self.start_statsd()
        self.assertIs(Application.__call__, wrapped)
