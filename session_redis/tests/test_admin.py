import io
import os
import re
import subprocess
import sys
import tempfile

from odoo.tests import TransactionCase, tagged
from odoo.tools import config

from .. import admin, connection
from ..store import RedisSessionStore
from .common import USER_ID, StoreCase, redis_settings
from .redis_server import RedisServer


class AdminSuite:
    """What ``odoo redissessions`` does with all sessions."""

    def admin_store(self):
        """Return a store whose Redis user may SCAN."""
        return self.store

    def test_count_by_kind(self):
        store = self.admin_store()
        before = admin.count(store)
        self.new_session()
        self.new_session(USER_ID)
        session = self.new_session(USER_ID)
        with self.cursor_env() as env:
            self.store.rotate(session, env, soft=True)
        numbers = admin.count(store)
        added = {kind: number - before[kind] for kind, number in numbers.items()}
        self.assertEqual(added, {"with a user": 2, "without a user": 1})
        values = self.settings.model_copy(update={"prefix": "another"})
        others = RedisSessionStore(values, lambda: store.client)
        self.assertEqual(sum(admin.count(others).values()), 0)

    def test_count_for_a_time(self):
        store = self.admin_store()
        self.new_session(USER_ID)
        self.assertEqual(admin.count_for(store, 60), (admin.count(store), True))
        values = self.settings.model_copy(update={"prefix": "another"})
        others = RedisSessionStore(values, lambda: store.client)
        # there are keys, though none of its own
        self.assertFalse(admin.count_for(others, 0)[1])

    def test_damaged_sessions_are_not_counted(self):
        before = admin.count(self.admin_store())
        for damaged in (b"", b"x", b"\2" * 60, b"\1" * 33, b"\1" * 33 + b"[]"):
            key, _previous = self.store._keys(self.store.generate_key())
            self.client.set(key, damaged, px=60000)
        self.assertEqual(admin.count(self.admin_store()), before)

    def test_export_and_import_keep_the_login(self):
        session, other = self.new_session(USER_ID), self.new_session(USER_ID)
        file = io.StringIO()
        admin.export_sessions(self.admin_store(), file)
        for secret in (session.sid[42:], other.sid[42:]):
            self.assertNotIn(secret, file.getvalue())
        self.store.delete(session)
        file.seek(0)
        added, skipped = admin.import_sessions(self.admin_store(), file)
        self.assertGreaterEqual(skipped, 1)
        self.assertEqual(added, 1)
        self.assertEqual(dict(self.read_again(session)), dict(session))
        self.assertStored(other)

    def test_other_files_are_refused(self):
        for text in ("", "{}", "[]", "nonsense", '{"format": "other"}\n{}'):
            with self.assertRaises(admin.AdminError):
                admin.import_sessions(self.store, io.StringIO(text))


@tagged("post_install", "-at_install")
class TestAdmin(AdminSuite, StoreCase):
    """On the Redis of the environment."""

    allow_inherited_tests_method = True


@tagged("post_install", "-at_install")
class TestAdminOfUsers(TransactionCase):
    def setUp(self):
        super().setUp()
        self.settings = redis_settings()
        client = connection.connect(self.settings)
        self.addCleanup(client.close)
        self.store = RedisSessionStore(self.settings, lambda: client)
        self.user = self.env["res.users"].create({"name": "x", "login": "of-a-test"})

    def login(self, living=True):
        session = self.store.new()
        session.update({"uid": self.user.id})
        if living:
            self.store.save(session)
        self.env["res.device.log"].create(
            {
                "session_identifier": session.sid[:42],
                "user_id": self.user.id,
                "first_activity": "2026-01-01 08:00:00",
                "last_activity": "2026-01-01 09:00:00",
                "revoked": False,
            }
        )
        return session

    def test_list_and_revoke(self):
        sessions = [self.login(), self.login()]
        self.login(living=False)
        found = admin.sessions_by_user(self.store, self.env)["of-a-test"]
        self.assertEqual(
            {each["identifier"] for each in found}, {s.sid[:42] for s in sessions}
        )
        self.assertEqual(admin.revoke(self.store, self.env, "of-a-test"), 2)
        for session in sessions:
            self.assertTrue(self.store.get(session.sid).is_new)
        self.assertNotIn("of-a-test", admin.sessions_by_user(self.store, self.env))
        self.assertFalse(self.user.device_ids)

    def test_unknown_user(self):
        with self.assertRaises(admin.AdminError):
            admin.revoke(self.store, self.env, "nobody-has-this")


@tagged("post_install", "-at_install")
class TestCommand(StoreCase):
    """``odoo redissessions``, and a server with variables that cannot be used."""

    @classmethod
    def make_settings(cls):
        server = RedisServer(users=True)
        cls.addClassCleanup(server.stop)
        server.start()
        return server.settings("odoo-admin")

    def run_command(self, *arguments, **variables):
        paths = ",".join(config["addons_path"])
        return subprocess.run(
            [sys.executable, "-m", "odoo", f"--addons-path={paths}", *arguments],
            env={
                **os.environ,
                "ODOO_SESSION_REDIS_PORT": str(self.settings.port),
                "ODOO_SESSION_REDIS_PREFIX": self.settings.prefix,
                "ODOO_SESSION_REDIS_USERNAME": self.settings.username,
                "ODOO_SESSION_REDIS_PASSWORD": self.settings.secret_password(),
                "ODOO_RC": os.devnull,
                **variables,
            },
            capture_output=True,
            text=True,
            timeout=60,
        )

    def test_count_export_and_import(self):
        session = self.new_session(USER_ID)
        result = self.run_command("redissessions", "count")
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertTrue(re.search(r"1 with a user", result.stdout), result.stdout)
        with tempfile.TemporaryDirectory() as folder:
            path = os.path.join(folder, "export")
            result = self.run_command("redissessions", "export", path)
            self.assertEqual(result.returncode, 0, result.stderr)
            self.assertEqual(os.stat(path).st_mode & 0o777, 0o600)
            self.store.delete(session)
            result = self.run_command("redissessions", "import", path)
        self.assertEqual(result.returncode, 0, result.stderr)
        self.assertStored(session)

    def test_fault_is_one_line(self):
        result = self.run_command("redissessions", "count", ODOO_SESSION_REDIS="0")
        self.assertEqual(result.returncode, 1)
        self.assertIn("ODOO_SESSION_REDIS is not true", result.stderr)

    def test_server_stops_with_one_message(self):
        for name, value in [("_PORT", "abc"), ("", "maybe"), ("_DB", "-1")]:
            with self.subTest(name=name):
                result = self.run_command(
                    *("server", "--stop-after-init", "--no-http"),
                    "--load=base,web,session_redis",
                    **{f"ODOO_SESSION_REDIS{name}": value},
                )
                self.assertEqual(result.returncode, os.EX_CONFIG, result.stderr)
                self.assertIn(f"ODOO_SESSION_REDIS{name}='{value}'", result.stderr)
                self.assertNotIn("Traceback", result.stderr)
