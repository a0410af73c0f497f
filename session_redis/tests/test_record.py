from odoo.http import FilesystemSessionStore
from odoo.tests import BaseCase

from .. import record

ANONYMOUS = {"uid": None, "login": None, "session_token": None}
USER = {"uid": 2, "login": "admin", "session_token": "t"}


class TestMerge(BaseCase):
    def test_changes_of_different_keys_are_kept(self):
        merged = record.merge(
            {**USER, "kept": 1, "mine": 1, "dropped": 1},
            {**USER, "kept": 1, "mine": 2},
            {**USER, "kept": 1, "mine": 1, "dropped": 1, "theirs": 3},
            rotated=False,
        )
        self.assertEqual(merged, {**USER, "kept": 1, "mine": 2, "theirs": 3})

    def test_change_does_not_follow_a_login(self):
        merged = record.merge(ANONYMOUS, {**ANONYMOUS, "cart": 1}, USER, rotated=False)
        self.assertIsNone(merged)

    def test_change_does_not_undo_a_logout(self):
        merged = record.merge(USER, {**USER, "debug": "1"}, ANONYMOUS, rotated=False)
        self.assertIsNone(merged)

    def test_logout_keeps_nothing_of_the_user(self):
        theirs = {**USER, "secret": 1}
        self.assertEqual(record.merge(USER, ANONYMOUS, theirs, False), ANONYMOUS)

    def test_user_is_never_mixed(self):
        other = {"uid": 3, "login": "demo", "session_token": "u"}
        self.assertIsNone(record.merge(ANONYMOUS, USER, other, rotated=False))

    def test_token_of_a_rotated_session_does_not_come_back(self):
        theirs = {**USER, "session_token": "new", "create_time": 5}
        mine = {**USER, "session_token": "mine", "create_time": 2, "debug": "1"}
        merged = record.merge({**USER, "create_time": 1}, mine, theirs, rotated=True)
        self.assertEqual(merged, {**theirs, "debug": "1"})


class TestSuccessor(BaseCase):
    def test_successor_is_valid_and_keeps_the_identifier(self):
        sid = FilesystemSessionStore.generate_key(None)
        successor = record.successor_sid(sid, record.new_nonce())
        self.assertTrue(FilesystemSessionStore.is_valid_key(None, successor))
        self.assertEqual(successor[:42], sid[:42])
        self.assertNotEqual(successor[42:], sid[42:])

    def test_successor_needs_the_predecessor_and_the_nonce(self):
        sids = [FilesystemSessionStore.generate_key(None) for _ in range(2)]
        sids[1] = sids[0][:42] + sids[1][42:]
        nonces = [record.new_nonce(), record.new_nonce()]
        successors = {record.successor_sid(s, n) for s in sids for n in nonces}
        self.assertEqual(len(successors), 4)
        self.assertEqual(
            record.successor_sid(sids[0], nonces[0]),
            record.successor_sid(sids[0], nonces[0]),
        )

    def test_value_of_another_format_is_no_session(self):
        sid = FilesystemSessionStore.generate_key(None)
        for value in (b"", b"{}", b"\x09" * 100):
            with self.assertRaises(record.UnreadableRecord):
                record.decode(sid, value, None)
