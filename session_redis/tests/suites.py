"""What a store must do, whatever the Redis behind it.

Each suite runs in ``test_store`` on the Redis of the environment, and in
``test_deployments`` on other kinds.
"""

import os
import threading
import time
import traceback
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from unittest.mock import patch

from odoo.http import SESSION_ROTATION_INTERVAL, STORED_SESSION_BYTES, Session
from odoo.service.security import check_session

from .. import record
from .common import USER_ID


class ContractSuite:
    """What Odoo's own file store does."""

    def test_saved_session_is_read_by_another_request(self):
        session = self.new_session(key={"nested": [1, 2.5, None, []]})
        found = self.read_again(session)
        self.assertEqual(dict(found), dict(session))
        self.assertEqual(found.sid, session.sid)
        self.assertFalse(found.is_new)
        self.assertFalse(found.is_dirty)
        self.assertIsInstance(found, Session)

    def test_missing_session_is_new(self):
        sid = self.store.generate_key()
        found = self.store.get(sid)
        self.assertTrue(found.is_new)
        self.assertNotEqual(found.sid, sid)
        self.assertFalse(dict(found))

    def test_invalid_key_is_new_and_costs_no_question(self):
        for key in ("", "a" * 40, "é" * 84, "a" * 83 + "\n", "*" * 84):
            self.assertTrue(self.store.get(key).is_new)
            self.assertFalse(self.store.is_valid_key(key))

    def test_keys_are_like_odoo_s(self):
        key = self.store.generate_key()
        self.assertTrue(self.store.is_valid_key(key))
        self.assertNotEqual(key, self.store.generate_key())

    def test_deleted_session_is_missing(self):
        session = self.new_session()
        self.store.delete(session)
        self.assertMissing(session)

    def test_delete_needs_the_secret(self):
        session = self.new_session()
        forged = self.store.session_class(
            {}, session.sid[:STORED_SESSION_BYTES] + self.store.generate_key()[42:]
        )
        self.store.delete(forged)
        self.assertStored(session)

    def test_forged_secret_reads_nothing(self):
        session = self.new_session(USER_ID)
        forged = session.sid[:STORED_SESSION_BYTES] + "A" * 42
        self.assertTrue(self.store.get(forged).is_new)

    def test_forged_secret_writes_nothing(self):
        session = self.new_session(USER_ID)
        forged = self.store.get(session.sid[:STORED_SESSION_BYTES] + "A" * 42)
        forged.sid = session.sid[:STORED_SESSION_BYTES] + "A" * 42  # as odoo.http does
        forged["debug"] = "1"
        self.store.save(forged)
        self.assertNotEqual(forged.sid[:42], session.sid[:42])
        self.assertEqual(self.read_again(session).uid, USER_ID)
        self.assertStored(forged)

    def test_touch_after_nested_change_is_stored(self):
        session = self.read_again(self.new_session(nested={"a": 1}))
        session["nested"]["a"] = 2
        session.touch()
        self.assertTrue(session.is_dirty)
        self.store.save(session)
        self.assertEqual(self.read_again(session)["nested"], {"a": 2})

    def test_identifiers_without_session_are_missing(self):
        present = [self.new_session().sid[:42] for _ in range(3)]
        absent = {self.store.generate_key()[:42] for _ in range(10_000)}
        missing = self.store.get_missing_session_identifiers([*present, *absent])
        self.assertEqual(missing, absent)
        self.assertEqual(self.store.get_missing_session_identifiers([]), set())

    def test_revoked_identifiers_are_gone(self):
        revoked, other = self.new_session(USER_ID), self.new_session(USER_ID)
        self.store.delete_from_identifiers([revoked.sid[:42]])
        self.assertMissing(revoked)
        self.assertStored(other)

    def test_identifier_must_be_one(self):
        session = self.new_session()
        for identifiers in ([session.sid], ["*"], "abc", [session.sid[:41]]):
            with self.assertRaises(ValueError) as caught:
                self.store.delete_from_identifiers(identifiers)
            self.assertNotIn(session.sid, str(caught.exception))
        self.assertStored(session)

    def test_mark_of_odoo_s_rotation_goes_and_the_session_stays(self):
        session = self.new_session(USER_ID, gc_previous_sessions=True)
        self.store.delete_old_sessions(session)
        self.assertNotIn("gc_previous_sessions", session)
        self.assertStored(session)

    def test_temporary_session_of_a_report(self):
        session = self.read_again(self.new_session(USER_ID))
        temporary = self.store.new()  # as ir.actions.report does
        temporary.update({**session, "debug": "", "_trace_disable": True})
        self.store.save(temporary)
        self.assertEqual(self.read_again(temporary).uid, USER_ID)
        self.store.delete(temporary)
        self.assertMissing(temporary)
        self.assertStored(session)

    def test_vacuum_keeps_sessions(self):
        session = self.new_session()
        self.store.vacuum(max_lifetime=0)
        self.assertStored(session)

    def test_file_of_a_session_is_only_a_name(self):
        sid = self.store.generate_key()
        self.assertIn(sid, self.store.get_session_filename(sid))
        with self.assertRaises(ValueError):
            self.store.get_session_filename("../../etc/passwd")


class SecrecySuite:
    def test_redis_has_no_secret_of_a_session(self):
        session = self.new_session(USER_ID)
        old_secret = session.sid[STORED_SESSION_BYTES:]
        with self.cursor_env() as env:
            self.store.rotate(session, env, soft=True)
        new_secret = session.sid[STORED_SESSION_BYTES:]
        self.assertNotEqual(old_secret, new_secret)
        keys = self.keys_of(session)
        content = b"".join(self.client.mget(*keys)) + "".join(keys).encode()
        self.assertIn(b"session_token", content)
        for secret in (old_secret, new_secret):
            self.assertNotIn(secret.encode(), content)

    def test_logs_have_no_session_id(self):
        session = self.new_session(USER_ID)
        stale = self.read_again(session)
        self.store.delete(session)
        stale["debug"] = "1"
        with self.assertLogs("odoo.addons.session_redis", "DEBUG") as logs:
            self.store.save(stale)
        self.assertIn(record.short(session.sid), "".join(logs.output))
        self.assertNotIn(session.sid[42:], "".join(logs.output))
        self.assertNotIn(session.sid, repr(stale))


class GhostSuite:
    """A session that was ended stays so."""

    def test_save_after_logout_elsewhere(self):
        session = self.new_session(USER_ID)
        in_flight, leaving = self.read_again(session), self.read_again(session)
        leaving.logout()
        self.store.rotate(leaving, None)
        in_flight["debug"] = "1"
        self.store.save(in_flight)
        self.assertMissing(session)
        self.assertFalse(in_flight.is_dirty)  # and no cookie
        self.assertStored(leaving)

    def test_save_after_revocation(self):
        session = self.new_session(USER_ID)
        in_flight = self.read_again(session)
        self.store.delete_from_identifiers([session.sid[:42]])
        in_flight["debug"] = "1"
        self.store.save(in_flight)
        self.assertMissing(session)

    def test_soft_rotation_after_revocation(self):
        session = self.new_session(USER_ID)
        in_flight = self.read_again(session)
        self.store.delete_from_identifiers([session.sid[:42]])
        with self.cursor_env() as env:
            self.store.rotate(in_flight, env, soft=True)
        self.assertEqual(in_flight.sid, session.sid)
        self.assertMissing(session)

    def test_hard_rotation_of_a_revoked_login(self):
        session = self.new_session(USER_ID)
        in_flight = self.read_again(session)
        self.store.delete_from_identifiers([session.sid[:42]])
        with self.cursor_env() as env:
            self.store.rotate(in_flight, env)
        self.assertEqual(in_flight.sid, session.sid)
        self.assertMissing(in_flight)

    def test_login_is_kept_though_another_login_took_the_session(self):
        session = self.new_session()
        one, two = self.read_again(session), self.read_again(session)
        for request in (one, two):
            request.update({"uid": USER_ID, "login": "admin"})
            with self.cursor_env() as env:
                self.store.rotate(request, env)
        self.assertEqual(self.read_again(one).uid, USER_ID)
        self.assertEqual(self.read_again(two).uid, USER_ID)

    def test_stale_save_after_new_session_with_the_same_id(self):
        session = self.new_session(USER_ID)
        in_flight = self.read_again(session)
        self.store.delete(session)
        again = self.store.session_class({"debug": ""}, session.sid, new=True)
        self.store.save(again)
        in_flight["debug"] = "1"
        self.store.save(in_flight)
        self.assertIsNone(self.read_again(session).uid)

    def test_logout_with_the_previous_cookie_ends_the_successor(self):
        session = self.new_session(USER_ID)
        late = self.read_again(session)
        with self.cursor_env() as env:
            self.store.rotate(session, env, soft=True)
        late.logout()
        self.store.rotate(late, None)
        self.assertMissing(session)

    def test_forgetting_the_previous_session_keeps_the_present_one(self):
        session = self.new_session(USER_ID)
        with self.cursor_env() as env:
            self.store.rotate(session, env, soft=True)
        present = self.read_again(session)
        present["gc_previous_sessions"] = True
        self.store.delete_old_sessions(present)
        self.assertStored(session)


class DamageSuite:
    """Values that another client of Redis has written."""

    def test_damaged_session_is_none_and_its_browser_gets_another(self):
        for damaged in (b'{"uid"', b"\xff\xfe", b"[1]", b"null", b'"x"', b""):
            with self.subTest(damaged=damaged):
                session = self.new_session(USER_ID)
                key, _previous = self.keys_of(session)
                header = self.client.get(key)[: -len(session.stored.json)]
                self.client.set(key, header + damaged, px=60000)
                with self.assertLogs("odoo.addons.session_redis.store", "ERROR"):
                    found = self.read_again(session)
                self.assertTrue(found.is_new)
                found.sid = session.sid  # as odoo.http does
                found["key"] = 1
                with self.assertLogs("odoo.addons.session_redis.store", "ERROR"):
                    self.store.save(found)
                self.assertNotEqual(found.sid, session.sid)
                self.assertEqual(self.read_again(found)["key"], 1)

    def test_session_damaged_during_a_request_is_not_written(self):
        session = self.new_session(USER_ID)
        key, _previous = self.keys_of(session)
        self.client.set(key, self.client.get(key)[:1] + b"another one" * 5, px=60000)
        session["key"] = 1
        with self.assertLogs("odoo.addons.session_redis.store"):
            self.store.save(session)
        self.assertFalse(session.is_dirty)


class RotationSuite:
    def rotated(self):
        session = self.new_session(USER_ID, key=1)
        old_sid = session.sid
        with self.cursor_env() as env:
            self.store.rotate(session, env, soft=True)
        return session, old_sid

    def test_soft_rotation_keeps_the_identifier_and_the_values(self):
        session, old_sid = self.rotated()
        self.assertNotEqual(session.sid, old_sid)
        self.assertEqual(session.sid[:42], old_sid[:42])
        found = self.read_again(session)
        self.assertEqual(dict(found), dict(session))
        self.assertEqual(found["key"], 1)
        self.assertNotIn("next_sid", found)
        self.assertTrue(session.is_dirty)
        self.assertFalse(session.should_rotate)

    def test_tokens_fit_the_session_ids(self):
        session, old_sid = self.rotated()
        with self.cursor_env() as env:
            user = env["res.users"].browse(USER_ID)
            for sid in (old_sid, session.sid):
                token = user._compute_session_token(sid)
                self.assertEqual(self.read_again(sid).session_token, token)

    def test_previous_session_names_its_successor_and_its_end(self):
        session, old_sid = self.rotated()
        previous = self.read_again(old_sid)
        self.assertEqual(previous["next_sid"], session.sid)
        self.assertAlmostEqual(previous["deletion_time"], time.time() + 120, delta=5)
        self.assertEqual(previous.uid, USER_ID)
        ttl = self.client.ttl(self.keys_of(session)[1])
        self.assertTrue(110 < ttl <= 120, ttl)

    def test_late_request_on_a_front_end_whose_clock_is_ahead_keeps_the_login(self):
        session, old_sid = self.rotated()
        ahead = time.time() + 3600
        with patch("time.time", lambda: ahead), self.cursor_env() as env:
            late = self.read_again(old_sid)
            self.assertTrue(check_session(late, env))
        self.assertStored(session)

    def test_request_with_the_previous_cookie_adopts_the_successor(self):
        session, old_sid = self.rotated()
        late = self.read_again(old_sid)
        late["late"] = 1
        with self.cursor_env() as env:
            self.store.rotate(late, env, soft=True)
        self.assertEqual(late.sid, session.sid)
        found = self.read_again(session)
        self.assertEqual(found["late"], 1)
        self.assertEqual(dict(found), dict(late))
        self.assertEqual(found.session_token, session.session_token)

    def test_save_with_the_previous_cookie_reaches_the_successor(self):
        session, old_sid = self.rotated()
        late = self.read_again(old_sid)
        late["late"] = 1
        self.store.save(late)
        found = self.read_again(session)
        self.assertEqual(found["late"], 1)
        self.assertEqual(found.session_token, session.session_token)
        self.assertNotIn("next_sid", found)
        self.assertEqual(self.read_again(old_sid)["next_sid"], session.sid)

    def test_new_password_during_a_rotation_keeps_the_login(self):
        session, old_sid = self.rotated()
        late = self.read_again(old_sid)
        late.session_token = "token of the new password"
        with self.cursor_env() as env:
            self.store.rotate(late, env, soft=True)
            token = env["res.users"].browse(USER_ID)._compute_session_token(session.sid)
        self.assertEqual(self.read_again(session).session_token, token)

    def test_in_flight_request_keeps_its_change_when_another_rotates(self):
        session = self.new_session(USER_ID)
        in_flight = self.read_again(session)
        with self.cursor_env() as env:
            self.store.rotate(session, env, soft=True)
        in_flight["mine"] = 1
        self.store.save(in_flight)
        found = self.read_again(session)
        self.assertEqual(found["mine"], 1)
        self.assertEqual(found.session_token, session.session_token)

    def test_hard_rotation_deletes_the_old_session(self):
        session = self.new_session(USER_ID)
        old_sid = session.sid
        with self.cursor_env() as env:
            self.store.rotate(session, env)
            token = env["res.users"].browse(USER_ID)._compute_session_token(session.sid)
        self.assertNotEqual(session.sid[:42], old_sid[:42])
        self.assertMissing(old_sid)
        self.assertEqual(self.read_again(session).session_token, token)

    def test_rotation_of_a_user_needs_an_environment(self):
        session = self.new_session(USER_ID)
        with self.assertRaises(ValueError):
            self.store.rotate(session, None, soft=True)
        self.assertStored(session)

    def test_32_threads_rotate_to_one_successor_and_lose_nothing(self):
        session = self.new_session(USER_ID)
        session["create_time"] -= SESSION_ROTATION_INTERVAL
        self.store.save(session)
        count = 32
        ready = threading.Barrier(count)

        def request(number):
            own = self.read_again(session)
            own[f"key{number}"] = number
            with self.cursor_env() as env:
                env["res.users"].browse(USER_ID)._compute_session_token(own.sid)
                ready.wait(30)
                self.store.rotate(own, env, soft=True)
            return own.sid

        with ThreadPoolExecutor(count) as pool:
            sids = set(pool.map(request, range(count)))
        self.assertEqual(len(sids), 1)
        found = self.store.get(sids.pop())
        self.assertEqual(
            {key: found.get(key) for key in (f"key{n}" for n in range(count))},
            {f"key{n}": n for n in range(count)},
        )

    def test_32_threads_save_and_lose_nothing(self):
        session = self.new_session(USER_ID)
        count = 32
        ready = threading.Barrier(count)

        def request(number):
            own = self.read_again(session)
            own[f"key{number}"] = number
            ready.wait(30)
            self.store.save(own)

        with ThreadPoolExecutor(count) as pool:
            list(pool.map(request, range(count)))
        found = self.read_again(session)
        self.assertEqual([n for n in range(count) if found.get(f"key{n}") != n], [])

    def test_4_processes_rotate_to_one_successor_and_lose_nothing(self):
        session = self.new_session(USER_ID)
        wait, go = os.pipe()
        answers, answer = os.pipe()
        children = []
        for number in range(4):
            if child := os.fork():
                children.append(child)
                continue
            status = 1
            try:  # nothing of the parent's connections is used: the pool notices
                os.close(go)
                own = self.read_again(session)
                own[f"key{number}"] = number
                os.read(wait, 1)
                self.store.rotate(own, TokenEnv(), soft=True)
                os.write(answer, own.sid.encode() + b"\n")
                status = 0
            except Exception:
                traceback.print_exc()
            finally:
                os._exit(status)
        for descriptor in (wait, go, answer):
            os.close(descriptor)
        for child in children:
            self.assertEqual(os.waitpid(child, 0)[1], 0)
        with os.fdopen(answers) as pipe:
            sids = pipe.read().split()
        self.assertEqual((len(sids), len(set(sids))), (4, 1))
        found = self.store.get(sids[0])
        self.assertEqual([found.get(f"key{n}") for n in range(4)], [0, 1, 2, 3])


class TokenEnv(dict):
    """An environment for processes without a database."""

    cr = SimpleNamespace(dbname=None, closed=True)

    def __missing__(self, model):
        return self

    def browse(self, _uid):
        return self

    def _compute_session_token(self, sid):
        return f"token of {record.short(sid)}"
