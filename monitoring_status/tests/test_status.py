import logging
import os
from unittest.mock import patch

from odoo import http
from odoo.tests import HttpCase, tagged
from odoo.tools import mute_logger

from .. import checks, status

TOKEN = "a long token"


@tagged("post_install", "-at_install")
class TestStatus(HttpCase):
    def setUp(self):
        super().setUp()
        self.startPatcher(patch.object(status, "checker", checks.Checker()))
        self.startPatcher(
            patch.dict(
                os.environ,
                ODOO_MONITORING_TIMEOUT="5",
                ODOO_MONITORING_CACHE="0",
                ODOO_MONITORING_TOKEN=TOKEN,
            )
        )

    def add_part(self, check, name="redis"):
        model = self.registry["monitoring.status"]
        parts = model._parts()
        self.startPatcher(patch.object(model, "_parts", lambda: {**parts, name: check}))

    def fail(self):
        raise ConnectionError("redis.example:6379 is away")

    def test_live(self):
        answer = self.url_open("/monitoring/live")
        self.assertEqual(answer.status_code, 200)
        self.assertEqual(answer.json(), {"status": "ok"})
        self.assertEqual(answer.headers["Content-Type"], "application/json")
        self.assertEqual(answer.headers["Cache-Control"], "no-store")

    def test_live_asks_no_part(self):
        with patch.object(checks.Checker, "results", side_effect=AssertionError):
            self.assertEqual(self.url_open("/monitoring/live").status_code, 200)

    def test_ready(self):
        self.add_part(lambda: None)
        answer = self.url_open("/monitoring/ready")
        self.assertEqual(answer.status_code, 200)
        content = answer.json()
        self.assertEqual(content["status"], "ok")
        for name in ("postgresql", "registry", "redis"):
            self.assertEqual(content["parts"][name], {"status": "ok"})

    @mute_logger(checks.__name__)
    def test_not_ready_tells_the_part_and_nothing_else(self):
        self.add_part(self.fail)
        answer = self.url_open("/monitoring/ready")
        self.assertEqual(answer.status_code, 503)
        content = answer.json()
        self.assertEqual(content["status"], "failing")
        self.assertEqual(content["parts"]["redis"], {"status": "failing"})
        self.assertEqual(content["parts"]["postgresql"], {"status": "ok"})
        self.assertNotIn("example", answer.text)

    @mute_logger(checks.__name__)
    def test_detail_only_with_the_token(self):
        self.add_part(self.fail)
        for value, detailed in (
            (f"Bearer {TOKEN}", True),
            (f"Bearer {TOKEN}x", False),
            ("Bearer", False),
            ("Bearer é", False),
            (f"Basic {TOKEN}", False),
        ):
            answer = self.url_open(
                "/monitoring/ready", headers={"Authorization": value.encode()}
            )
            part = answer.json()["parts"]["redis"]
            self.assertEqual("error" in part, detailed, value)
            self.assertEqual("seconds" in part, detailed, value)
            if detailed:
                self.assertIn("redis.example:6379", part["error"])

    @mute_logger(checks.__name__)
    def test_no_detail_without_a_token_in_the_environment(self):
        self.add_part(self.fail)
        with patch.dict(os.environ, ODOO_MONITORING_TOKEN=""):
            for value in ("Bearer ", "Bearer None", "Bearer"):
                answer = self.url_open(
                    "/monitoring/ready", headers={"Authorization": value}
                )
                self.assertNotIn("error", answer.json()["parts"]["redis"])

    @mute_logger(checks.__name__)
    def test_status_of_the_original(self):
        answer = self.url_open("/monitoring/status")
        self.assertEqual((answer.status_code, answer.json()), (200, {"status": 1}))
        self.add_part(self.fail)
        answer = self.url_open("/monitoring/status")
        self.assertEqual((answer.status_code, answer.json()), (503, {"status": 0}))

    @mute_logger(status.__name__)
    def test_bad_variable_is_not_ready_and_shows_nothing(self):
        with patch.dict(os.environ, ODOO_MONITORING_TIMEOUT="soon"):
            answer = self.url_open("/monitoring/ready")
            self.assertEqual(answer.status_code, 503)
            self.assertNotIn("soon", answer.text)
            self.assertEqual(self.url_open("/monitoring/live").status_code, 200)

    def test_no_session_and_no_cookie(self):
        store = http.root.session_store
        with (
            patch.object(type(store), "new", side_effect=AssertionError),
            patch.object(type(store), "get", side_effect=AssertionError),
            patch.object(type(store), "save", side_effect=AssertionError),
        ):
            for path in sorted(status.PATHS):
                answer = self.url_open(path)
                self.assertEqual(answer.status_code, 200)
                self.assertNotIn("Set-Cookie", answer.headers)

    def test_no_access_log_line(self):
        with self.assertLogs("werkzeug", logging.INFO) as logs:
            for path in sorted(status.PATHS):
                self.url_open(path)
                self.url_open(f"{path}?x=1")
            self.url_open("/monitoring/other")
        [line] = logs.output
        self.assertIn("/monitoring/other", line)

    def test_no_access_log_line_after_a_remote_call_of_the_same_thread(self):
        with self.assertNoLogs("werkzeug", logging.INFO):
            # as CommonRequestHandler of a worker writes it
            logging.getLogger("werkzeug").info(
                '"GET /monitoring/live#res.partner.read HTTP/1.1" 200 -'
            )

    def test_other_methods_are_refused(self):
        answer = self.url_open("/monitoring/ready", data="x")
        self.assertEqual(answer.status_code, 405)
        answer = self.url_open("/monitoring/live", method="HEAD")
        self.assertEqual((answer.status_code, answer.content), (200, b""))
