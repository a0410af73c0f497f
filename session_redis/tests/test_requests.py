import json
from unittest.mock import patch

from odoo import http
from odoo.tests import HttpCase, tagged
from odoo.tools import reset_cached_properties

from .. import connection
from ..post_load import install
from ..store import RedisSessionStore
from .redis_server import Monitor, RedisServer, check_commands


class RequestsCase(HttpCase):
    """A Redis of its own, as the user of ``deploy/redis/users.acl``."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.server = RedisServer(
            "appendonly yes", "appendfsync always", "save ''", users=True
        )
        cls.addClassCleanup(cls.server.stop)
        cls.server.start()
        cls.settings = cls.server.settings("odoo")
        cls.client = connection.connect(cls.settings)
        cls.addClassCleanup(cls.client.close)
        cls.store = RedisSessionStore(cls.settings, lambda: cls.client)
        cls.addClassCleanup(
            setattr,
            http.Application,
            "session_store",
            vars(http.Application)["session_store"],
        )
        cls.addClassCleanup(vars(http.root).pop, "session_store", None)
        install(cls.store)

    def setUp(self):
        super().setUp()
        self.session = None

    def login(self):
        self.opener.cookies.clear()
        page = self.url_open("/web/login").text
        token = page.partition('name="csrf_token" value="')[2].partition('"')[0]
        response = self.url_open(
            "/web/login",
            data={"login": "admin", "password": "admin", "csrf_token": token},
            allow_redirects=False,
        )
        self.assertEqual(response.status_code, 303, response.text[:500])
        return self.opener.cookies["session_id"]

    def session_info(self):
        return self.url_open(
            "/web/session/get_session_info",
            data=json.dumps({"params": {}}),
            headers={"Content-Type": "application/json"},
            allow_redirects=False,
        )


@tagged("post_install", "-at_install")
class TestRequests(RequestsCase):
    """Odoo's own requests on the store, and what Redis is asked."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.addClassCleanup(
            check_commands,
            Monitor(cls.server),
            cls.settings.prefix,
            {"mget", "eval", "evalsha", "get", "set", "del", "exists"},
        )

    def test_login_and_logout(self):
        sid = self.login()
        self.assertEqual(self.store.get(sid).uid, self.env.ref("base.user_admin").id)
        self.assertEqual(self.session_info().json()["result"]["username"], "admin")
        self.url_open("/web/session/logout", allow_redirects=False)
        self.assertTrue(self.store.get(sid).is_new)
        self.assertIn("error", self.session_info().json())

    def test_rotation_after_three_hours(self):
        sid = self.login()
        session = self.store.get(sid)
        session["create_time"] -= http.SESSION_ROTATION_INTERVAL
        self.store.save(session)
        self.assertEqual(self.session_info().json()["result"]["username"], "admin")
        successor = self.opener.cookies["session_id"]
        self.assertNotEqual(successor, sid)
        self.assertEqual(successor[:42], sid[:42])
        # a request that was sent before the answer arrived
        self.opener.cookies.clear()
        self.opener.cookies.set("session_id", sid)
        response = self.session_info()
        self.assertEqual(response.json()["result"]["username"], "admin")
        self.assertEqual(response.cookies["session_id"], successor)

    def test_revoked_device_is_logged_out(self):
        sid = self.login()
        self.url_open("/odoo")
        device = self.env["res.device"].search(
            [("session_identifier", "=", sid[:42])], limit=1
        )
        self.assertTrue(device)
        device._revoke()
        self.assertTrue(self.store.get(sid).is_new)
        response = self.url_open("/odoo", allow_redirects=False)
        self.assertIn("/web/login", response.headers["Location"])

    def test_anonymous_reader_has_no_session(self):
        self.opener.cookies.clear()
        with patch.object(self.store, "save") as save:
            self.url_open("/web/health").raise_for_status()
            save.assert_not_called()

    def test_store_is_the_one_of_the_application(self):
        self.assertIs(http.root.session_store, self.store)
        reset_cached_properties(http.root)
        self.assertIs(http.root.session_store, self.store)

    def test_vacuum(self):
        sid = self.login()
        self.url_open("/odoo")
        logs = self.env["res.device.log"].sudo()
        gone = "a" * 42
        for identifier in (sid[:42], gone):
            logs.create(
                {
                    "session_identifier": identifier,
                    "user_id": self.env.ref("base.user_admin").id,
                    "first_activity": "2020-01-01 08:00:00",
                    "last_activity": "2020-01-01 09:00:00",
                    "revoked": False,
                }
            )
        with patch.object(self.env.cr, "commit"):
            logs._ResDeviceLog__update_revoked()
        self.env["ir.http"]._gc_sessions()
        revoked = logs.search([("revoked", "=", True)]).mapped("session_identifier")
        self.assertIn(gone, revoked)
        self.assertNotIn(sid[:42], revoked)
        self.assertEqual(self.session_info().json()["result"]["username"], "admin")

    def test_key_of_the_2016_addon_is_moved(self):
        sid = self.login()
        session = self.store.get(sid)
        old_sid = self.store.generate_key()
        token = self.env.ref("base.user_admin")._compute_session_token(old_sid)
        key = f"session::{self.settings.prefix}:{old_sid}"
        values = {**session, "session_token": token}
        self.client.set(key, json.dumps(values), ex=100)
        self.opener.cookies.clear()
        self.opener.cookies.set("session_id", old_sid)
        self.assertEqual(self.session_info().json()["result"]["username"], "admin")
        self.assertFalse(self.client.exists(key))


@tagged("post_install", "-at_install")
class TestOutage(RequestsCase):
    def assertUnavailable(self, response):
        self.assertEqual(response.status_code, 503)
        self.assertTrue(int(response.headers["Retry-After"]) > 0)
        self.assertNotIn("Set-Cookie", response.headers)
        with self.assertRaises(ValueError):  # the web client's sign of a lost server
            response.json()

    def test_outage_is_503_and_keeps_the_login(self):
        sid = self.login()
        self.server.kill()
        for path in ("/odoo", "/web/static/img/favicon.ico", "/web/health"):
            with self.subTest(path=path), self.assertLogs("odoo.http", "ERROR") as logs:
                self.assertUnavailable(self.url_open(path, allow_redirects=False))
            self.assertEqual(len(logs.output), 1)
            self.assertNotIn(sid[42:], logs.output[0])
        with self.assertLogs("odoo.http", "ERROR"):
            self.assertUnavailable(self.session_info())
        self.server.start()
        self.assertEqual(self.opener.cookies["session_id"], sid)
        self.assertEqual(self.session_info().json()["result"]["username"], "admin")

    def test_request_that_cannot_save_is_503_and_changes_nothing(self):
        sid = self.login()
        self.server.command("CLIENT", "PAUSE", "60000", "WRITE")
        for path in ("/odoo?debug=1", "/web/session/logout"):
            with self.subTest(path=path), self.assertLogs("odoo.http", "ERROR"):
                self.assertUnavailable(self.url_open(path, allow_redirects=False))
        self.server.command("CLIENT", "UNPAUSE")
        self.assertEqual(self.store.get(sid).debug, "")
        self.assertEqual(self.session_info().json()["result"]["username"], "admin")
