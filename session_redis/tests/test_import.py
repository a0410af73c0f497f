import json
import os
import tempfile
import threading
from concurrent.futures import ThreadPoolExecutor
from unittest.mock import patch

from odoo import http
from odoo.http import FilesystemSessionStore, Session
from odoo.tests import tagged
from odoo.tools import config

from ..exceptions import SessionStoreUnavailable
from .common import USER_ID, StoreCase


class ImportSuite:
    """Switching the store on logs nobody out."""

    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory(prefix="odoo-session-redis-")
        self.addCleanup(folder.cleanup)
        self.startPatcher(patch.dict(config.options, {"data_dir": folder.name}))
        self.files = FilesystemSessionStore(
            os.path.join(folder.name, "sessions"),
            session_class=Session,
            renew_missing=True,
        )

    def in_file(self, **values):
        """Log in on Odoo's file store."""
        os.makedirs(self.files.path, exist_ok=True)
        session = self.files.new()
        session.update(http.get_default_session(), uid=USER_ID, **values)
        self.files.save(session)
        return session

    def in_key(self, begin="session::", **values):
        """Log in on the 2016 addon, which writes two colons before a prefix."""
        session = self.files.new()
        session.update(http.get_default_session(), uid=USER_ID, **values)
        key = f"{begin}{self.settings.prefix}:{session.sid}"
        self.client.set(key, json.dumps(dict(session)), ex=100)
        return session, key

    def has_file(self, session):
        return os.path.exists(self.files.get_session_filename(session.sid))

    def test_file_is_moved(self):
        session = self.in_file(key=1, gc_previous_sessions=True)
        found = self.store.get(session.sid)
        self.assertFalse(found.is_new)
        self.assertEqual((found.sid, found.uid, found["key"]), (session.sid, 2, 1))
        self.assertNotIn("gc_previous_sessions", found)
        self.assertFalse(self.has_file(session))
        self.assertEqual(dict(self.store.get(session.sid)), dict(found))

    def test_key_of_the_2016_addon_is_moved(self):
        for begin in ("session::", "session:"):
            session, key = self.in_key(begin, key=1)
            found = self.store.get(session.sid)
            self.assertEqual((found.sid, found.uid, found["key"]), (session.sid, 2, 1))
            self.assertFalse(self.client.exists(key))
            self.assertEqual(dict(self.store.get(session.sid)), dict(found))

    def test_moved_session_does_not_come_back_after_the_logout(self):
        for session in (self.in_file(), self.in_key()[0]):
            found = self.store.get(session.sid)
            self.store.delete(found)
            self.assertMissing(session)

    def test_logout_after_a_move_that_was_cut_short(self):
        session = self.in_file()
        with patch("odoo.addons.session_redis.legacy.os.unlink"):
            found = self.store.get(session.sid)
        self.assertTrue(self.has_file(session))
        found.logout()
        self.store.rotate(found, None)
        self.assertMissing(session)

    def test_slow_request_does_not_bring_an_ended_session_back(self):
        session = self.in_file()
        values = dict(session)
        self.store.delete(self.store.get(session.sid))
        self.assertIsNone(self.store._import_file(session.sid, values))
        self.assertMissing(session)

    def test_revoked_before_its_move(self):
        in_file, (in_key, _key) = self.in_file(), self.in_key()
        identifiers = [in_file.sid[:42], in_key.sid[:42]]
        with patch("odoo.addons.session_redis.legacy.delete_files"):
            # on another front end, which has not the file
            self.store.delete_from_identifiers(identifiers)
        self.assertMissing(in_file)
        self.assertFalse(self.has_file(in_file))
        self.assertMissing(in_key)
        missing = self.store.get_missing_session_identifiers(identifiers)
        self.assertEqual(missing, set(identifiers))

    def test_revoked_during_its_move(self):
        session = self.in_file()
        evaluate = self.store._eval

        def revoke_first(*arguments):
            with patch("odoo.addons.session_redis.legacy.delete_files"):
                self.store.delete_from_identifiers([session.sid[:42]])
            return evaluate(*arguments)

        with patch.object(self.store, "_eval", revoke_first):
            self.assertMissing(session)
        self.assertMissing(session)

    def test_revocation_deletes_the_file(self):
        session = self.in_file()
        self.store.delete_from_identifiers([session.sid[:42]])
        self.assertFalse(self.has_file(session))

    def test_all_requests_of_a_page_are_logged_in(self):
        for session in [
            s for _ in range(10) for s in (self.in_file(), self.in_key()[0])
        ]:
            ready = threading.Barrier(16)

            def request(_number, sid=session.sid, ready=ready):
                ready.wait(30)
                return self.store.get(sid).uid

            with ThreadPoolExecutor(16) as pool:
                self.assertEqual(set(pool.map(request, range(16))), {USER_ID})

    def test_outage_keeps_the_file(self):
        session = self.in_file()
        with (
            patch.object(
                self.store,
                "_write_imported",
                side_effect=SessionStoreUnavailable(""),
            ),
            self.assertRaises(SessionStoreUnavailable),
        ):
            self.store.get(session.sid)
        self.assertEqual(self.store.get(session.sid).uid, USER_ID)

    def test_old_rotated_and_damaged_ones_are_not_moved(self):
        old, damaged = self.in_file(), self.in_file()
        os.utime(self.files.get_session_filename(old.sid), (1, 1))
        with open(self.files.get_session_filename(damaged.sid), "w") as file:
            file.write("{")
        rotated = self.in_file(next_sid="x" * 84, deletion_time=1.5)
        for session in (old, damaged, rotated):
            self.assertMissing(session)

    def test_no_folder_is_made(self):
        self.assertMissing(self.store.generate_key())
        self.assertFalse(os.path.exists(self.store.path))

    def test_switched_off(self):
        session = self.in_file()
        values = self.settings.model_copy(update={"import_sessions": False})
        store = type(self.store)(values, lambda: self.client)
        self.assertTrue(store.get(session.sid).is_new)
        self.assertTrue(self.has_file(session))


@tagged("post_install", "-at_install")
class TestImport(ImportSuite, StoreCase):
    """On the Redis of the environment."""

    allow_inherited_tests_method = True
