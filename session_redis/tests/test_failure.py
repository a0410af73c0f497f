import json
import signal
import threading
import time
from pathlib import Path
from unittest.mock import patch

from pydantic import SecretStr

from odoo import http
from odoo.tests import BaseCase, tagged

from .. import connection, observer
from ..exceptions import SessionStoreUnavailable
from ..store import RedisSessionStore
from .common import USER_ID, redis_settings
from .redis_server import CuttingProxy, RedisServer, free_port
from .suites import TokenEnv

#: two retries of half a second each, their backoff, and a slow machine
FEW_SECONDS = 4


@tagged("post_install", "-at_install")
class TestFailure(BaseCase):
    """No fault of Redis looks like a missing session, and none hangs."""

    def setUp(self):
        super().setUp()
        self.server = RedisServer(
            "appendonly yes",
            "appendfsync always",
            "save ''",
            "enable-debug-command yes",
        )
        self.addCleanup(self.server.stop)
        self.server.start()
        self.store = self.new_store()
        self.session = self.store.new()
        self.session.update(http.get_default_session(), uid=USER_ID, login="admin")
        self.store.save(self.session)

    def new_store(self, **values):
        values = redis_settings(
            **{
                "host": "127.0.0.1",
                "port": self.server.port,
                "password": None,
                "prefix": "test",
                **values,
            }
        )
        client = connection.connect(values)
        self.addCleanup(client.close)
        return RedisSessionStore(values, lambda: client)

    def assertUnavailable(self, function, *arguments):
        started = time.monotonic()
        with self.assertRaises(SessionStoreUnavailable) as caught:
            function(*arguments)
        self.assertLess(time.monotonic() - started, FEW_SECONDS)
        return str(caught.exception)

    def assertAllUnavailable(self, store=None):
        store = store or self.store
        for function, argument in [
            (store.get, self.session.sid),
            (store.save, self.session),
            (store.delete, self.session),
            (store.get_missing_session_identifiers, [self.session.sid[:42]]),
            (store.delete_from_identifiers, [self.session.sid[:42]]),
        ]:
            with self.subTest(operation=function.__name__):
                self.assertUnavailable(function, argument)

    def assertStillLoggedIn(self):
        self.assertEqual(self.store.get(self.session.sid).uid, USER_ID)

    def test_refused(self):
        self.server.kill()
        self.assertAllUnavailable()

    def test_killed_and_started_again(self):
        self.server.kill()
        self.assertUnavailable(self.store.get, self.session.sid)
        self.server.start()
        self.assertStillLoggedIn()
        self.session["key"] = 1
        self.store.save(self.session)
        self.assertEqual(self.store.get(self.session.sid)["key"], 1)

    def test_idle_connection_that_was_closed_costs_no_error(self):
        self.server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
        self.assertStillLoggedIn()

    def test_paused(self):
        self.server.process.send_signal(signal.SIGSTOP)
        self.assertUnavailable(self.store.get, self.session.sid)
        self.assertUnavailable(self.store.save, self.session)
        self.server.process.send_signal(signal.SIGCONT)
        self.assertStillLoggedIn()

    def test_writes_paused(self):
        self.server.command("CLIENT", "PAUSE", "60000", "WRITE")
        self.assertStillLoggedIn()
        self.assertUnavailable(self.store.save, self.session)
        self.server.command("CLIENT", "UNPAUSE")
        self.store.save(self.session)

    def test_save_whose_answer_was_lost_is_no_conflict(self):
        write = self.store._write

        def twice(*arguments):
            write(*arguments)
            return write(*arguments)  # redis-py's retry

        self.session["key"] = 1
        with patch.object(self.store, "_write", twice):
            self.store.save(self.session)
        self.assertEqual(self.store.get(self.session.sid)["key"], 1)
        self.assertTrue(self.session.is_dirty)

    def test_hard_rotation_whose_answer_was_lost_keeps_the_login(self):
        replace = self.store._replace

        def twice(*arguments):
            replace(*arguments)
            return replace(*arguments)  # redis-py's retry

        old_sid = self.session.sid
        with patch.object(self.store, "_replace", twice):
            self.store.rotate(self.session, TokenEnv())
        self.assertNotEqual(self.session.sid, old_sid)
        self.assertStillLoggedIn()
        self.assertTrue(self.store.get(old_sid).is_new)

    def test_name_that_leads_to_another_master(self):
        """A replica took over, its name moved, and connections to the old one live."""
        other = RedisServer(f"replicaof 127.0.0.1 {self.server.port}")
        self.addCleanup(other.stop)
        other.start()
        deadline = time.monotonic() + 20
        while b"master_link_status:up" not in other.raw("INFO", "replication"):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.05)
        proxy = CuttingProxy(self.server.port)
        self.addCleanup(proxy.stop)
        store = self.new_store(port=proxy.port)
        session = store.get(self.session.sid)
        other.command("REPLICAOF", "NO", "ONE")
        self.server.command("REPLICAOF", "127.0.0.1", str(other.port))
        proxy.target = other.port
        session["key"] = 1
        store.save(session)
        self.assertEqual(store.get(session.sid)["key"], 1)

    def test_replica_after_failover(self):
        self.server.command("REPLICAOF", "127.0.0.1", str(free_port()))
        self.assertStillLoggedIn()
        self.assertUnavailable(self.store.save, self.session)
        self.assertUnavailable(self.store.delete, self.session)
        self.server.command("REPLICAOF", "NO", "ONE")
        self.store.save(self.session)
        self.assertStillLoggedIn()

    def test_out_of_memory(self):
        self.server.command("CONFIG", "SET", "maxmemory", "1")
        self.assertStillLoggedIn()
        self.assertUnavailable(self.store.save, self.session)
        self.assertStillLoggedIn()
        self.store.delete(self.session)  # a logout and a revocation still work
        self.assertTrue(self.store.get(self.session.sid).is_new)

    def test_out_of_memory_keeps_what_would_be_replaced(self):
        addon_2016 = self.store.new()
        key = f"{self.store.key_prefix}{addon_2016.sid}"
        self.server.command("SET", key, json.dumps({"uid": USER_ID}))
        self.server.command("CONFIG", "SET", "maxmemory", "1")
        self.assertUnavailable(self.store.rotate, self.session, TokenEnv())
        self.assertUnavailable(self.store.get, addon_2016.sid)
        self.server.command("CONFIG", "SET", "maxmemory", "0")
        self.assertStillLoggedIn()
        self.assertEqual(self.store.get(addon_2016.sid).uid, USER_ID)

    def test_loading(self):
        self.server.command("DEBUG", "POPULATE", "3000")
        self.server.command("SAVE")
        self.server.kill()
        self.server.start(
            *("--appendonly", "no", "--key-load-delay", "2000"),
            *("--loading-process-events-interval-bytes", "1024"),
        )
        reason = self.assertUnavailable(self.store.get, self.session.sid)
        self.assertIn("loading", reason)

    def test_wrong_password(self):
        self.server.command("CONFIG", "SET", "requirepass", "right")
        store = self.new_store(password=SecretStr("wrong-one"))
        reason = self.assertUnavailable(store.get, self.session.sid)
        self.assertIn("password", reason)
        self.assertNotIn("wrong-one", reason)
        reason = self.assertUnavailable(
            self.new_store().get, self.session.sid
        )  # no password at all
        self.assertIn("Authentication", reason)

    def test_file_of_the_password_is_gone(self):
        values = self.store._settings.model_copy(
            update={"password_file": Path(self.server.folder.name) / "password"}
        )
        store = RedisSessionStore(values, lambda: connection.connect(values))
        reason = self.assertUnavailable(store.get, self.session.sid)
        self.assertIn("No such file", reason)
        values.password_file.write_text("")
        self.assertEqual(store.get(self.session.sid).uid, USER_ID)

    def test_wrong_database(self):
        reason = self.assertUnavailable(self.new_store(db=99).get, self.session.sid)
        self.assertIn("DB index", reason)

    def test_unknown_host(self):
        store = self.new_store(host="no-such-host.invalid")
        self.assertUnavailable(store.get, self.session.sid)

    def test_cut_in_the_middle_of_an_answer(self):
        proxy = CuttingProxy(self.server.port)
        self.addCleanup(proxy.stop)
        store = self.new_store(port=proxy.port)
        self.assertEqual(store.get(self.session.sid).uid, USER_ID)
        proxy.cut_after_bytes = 60
        self.assertUnavailable(store.get, self.session.sid)
        proxy.cut_after_bytes = None
        self.assertEqual(store.get(self.session.sid).uid, USER_ID)

    def test_all_connections_in_use(self):
        store = self.new_store(pool_size=1, pool_timeout=0.2)
        taken = store.client.connection_pool.get_connection()
        reason = self.assertUnavailable(store.get, self.session.sid)
        self.assertIn("connection", reason.lower())
        store.client.connection_pool.release(taken)
        self.assertEqual(store.get(self.session.sid).uid, USER_ID)

    def test_waits_for_a_connection(self):
        store = self.new_store(pool_size=2)
        failures = []

        def reader():
            try:
                for _ in range(20):
                    store.get(self.session.sid)
            except SessionStoreUnavailable as error:
                failures.append(error)

        threads = [threading.Thread(target=reader) for _ in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertFalse(failures)

    def test_observers_see_operations_and_errors(self):
        seen = []
        self.addCleanup(observer.observers.clear)
        observer.observers.append(lambda *arguments: seen.append(arguments))
        self.store.get(self.session.sid)
        self.server.kill()
        self.assertUnavailable(self.store.save, self.session)
        (name, seconds, error, retries), failed = seen
        self.assertEqual((name, error, retries), ("get", None, 0))
        self.assertTrue(0 < seconds < 1)
        self.assertEqual(failed[0], "save")
        self.assertIsInstance(failed[2], Exception)
        self.assertGreaterEqual(failed[3], 2)  # also of the connection within a try

    def test_observers_see_a_retry_that_helped(self):
        seen = []
        self.addCleanup(observer.observers.clear)
        observer.observers.append(lambda *arguments: seen.append(arguments))
        proxy = CuttingProxy(self.server.port)
        self.addCleanup(proxy.stop)
        store = self.new_store(port=proxy.port)
        store.get(self.session.sid)
        proxy.cut_next(60)
        self.assertEqual(store.get(self.session.sid).uid, USER_ID)
        store.get(self.session.sid)
        self.assertEqual([retries for *_rest, retries in seen], [0, 1, 0])
        self.assertEqual([error for _n, _s, error, _r in seen], [None] * 3)
