import os
from unittest.mock import patch

from odoo.exceptions import AccessError
from odoo.tests import tagged
from odoo.tools import SQL

from ..configuration import LOCATION
from ..exceptions import S3Unavailable
from ..placement import PLACEMENT
from ..store import S3Store
from .common import PNG, CommittedCase, Operations, variables

LOGGER = "odoo.addons.attachment_s3.models.attachment_s3_migration"


@tagged("post_install", "-at_install")
class TestMigration(CommittedCase):
    """Only the attachments of the tests move: the others are out of its sight."""

    def setUp(self):
        super().setUp()
        model = self.registry["attachment.s3.migration"]
        condition = model._condition

        def own_condition(migration, target):
            return SQL(
                "name = 'attachment_s3 test' AND %s", condition(migration, target)
            )

        self.enterContext(patch.object(model, "_condition", own_condition))
        self.addCleanup(self.set_parameter, LOCATION, "s3://")

    def make_elsewhere(self, location, *contents, **vals):
        """Return the ids of new attachments that are elsewhere."""
        self.set_parameter(LOCATION, location)
        ids = [self.create_committed(raw, **vals)[0] for raw in contents]
        self.set_parameter(LOCATION, "s3://")
        return ids

    def move(self, location="s3://"):
        self.set_parameter(LOCATION, location)
        with self.environment() as env:
            return env["ir.attachment"].force_storage()

    def values(self, ids, *names):
        with self.environment() as env:
            return [
                tuple(attachment[name] for name in names)
                for attachment in env["ir.attachment"].browse(ids)
            ]

    def path(self, id_):
        with self.environment() as env:
            attachment = env["ir.attachment"]
            return attachment._full_path(attachment.browse(id_).store_fname)

    def test_every_direction(self):
        contents = [os.urandom(10) for _ in range(3)]
        ids = self.make_elsewhere("db", *contents)
        for location, in_s3, in_database in (
            ("s3://", True, False),
            ("file", False, False),
            ("s3://", True, False),
            ("db", False, True),
            ("file", False, False),
            ("db", False, True),
        ):
            report = self.move(location)
            self.assertEqual(report, {"moved": 3, "bytes": 30, "failed": 0})
            rows = self.values(ids, "store_fname", "db_datas", "raw", "file_size")
            for (fname, stored, raw, size), content in zip(rows, contents, strict=True):
                self.assertEqual(raw, content)
                self.assertEqual(size, 10)
                self.assertEqual((fname or "").startswith("s3://"), in_s3)
                self.assertEqual(bool(stored), in_database)
            self.assertEqual(self.move(location)["moved"], 0)

    def test_source_in_the_bucket_is_collected(self):
        _id, uri = self.create_committed(os.urandom(10))
        self.move("db")
        self.assertTrue(self.objects.exists(uri))
        self.set_parameter(LOCATION, "s3://")
        self.collect()
        self.assertFalse(self.objects.exists(uri))

    def test_local_source_is_removed_after_the_commit(self):
        [id_] = self.make_elsewhere("file", os.urandom(10))
        path = self.path(id_)
        self.assertTrue(os.path.exists(path))
        self.move()
        self.assertTrue(os.path.exists(path))
        with self.environment() as env:
            env["ir.attachment"]._gc_file_store()
        self.assertFalse(os.path.exists(path))

    def test_local_file_of_several_rows_is_sent_once(self):
        raw = os.urandom(10)
        ids = self.make_elsewhere("file", raw, raw, raw)
        with Operations() as operations:
            self.assertEqual(self.move()["moved"], 3)
        self.assertEqual(operations.names, ["put"])
        self.assertEqual(self.values(ids, "raw"), [(raw,)] * 3)

    def test_missing_source_is_reported_and_left(self):
        good, bad = os.urandom(10), os.urandom(10)
        ids = self.make_elsewhere("file", bad, good)
        path = self.path(ids[0])
        os.rename(path, path + ".away")
        with self.assertLogs(LOGGER, "ERROR") as logs:
            report = self.move()
        self.assertEqual((report["moved"], report["failed"]), (1, 1))
        self.assertIn(str(ids[0]), logs.output[0])
        [(fname, checksum)] = self.values(ids[:1], "store_fname", "checksum")
        self.assertFalse(fname.startswith("s3://"))
        self.assertTrue(checksum)
        os.rename(path + ".away", path)
        self.assertEqual(self.move()["moved"], 1)
        self.assertEqual(self.values(ids, "raw"), [(bad,), (good,)])

    def test_damaged_source_is_reported_and_left(self):
        [id_] = self.make_elsewhere("file", b"as it was")
        path = self.path(id_)
        with open(path, "wb") as file:
            file.write(b"damaged")
        with self.assertLogs(LOGGER, "ERROR"):
            self.assertEqual(self.move()["failed"], 1)
        [(fname,)] = self.values([id_], "store_fname")
        self.assertFalse(fname.startswith("s3://"))
        os.unlink(path)

    def test_missing_object_is_never_an_empty_value(self):
        id_, uri = self.create_committed(os.urandom(10))
        self.objects.delete(uri)
        with self.assertLogs(LOGGER, "ERROR"):
            self.assertEqual(self.move("db")["failed"], 1)
        self.assertEqual(self.values([id_], "store_fname"), [(uri,)])

    def test_truncated_upload_is_noticed(self):
        raw = os.urandom(10)
        [id_] = self.make_elsewhere("db", raw)
        put = S3Store.put

        def put_less(self, key, content):
            return put(self, key, content[:-1])

        with patch.object(S3Store, "put", put_less), self.assertLogs(LOGGER, "ERROR"):
            self.assertEqual(self.move()["failed"], 1)
        self.assertEqual(self.values([id_], "db_datas"), [(raw,)])

    def test_outage_keeps_what_was_moved(self):
        contents = [os.urandom(10) for _ in range(4)]
        ids = self.make_elsewhere("db", *contents)
        batch = patch(f"{LOGGER}.BATCH_ROWS", 2)
        put, calls = S3Store.put, []

        def put_twice(self, key, content):
            calls.append(key)
            if len(calls) > 2:
                raise S3Unavailable("the line is cut")
            return put(self, key, content)

        with (
            batch,
            variables(AWS_ATTACHMENT_THREADS="1"),
            patch.object(S3Store, "put", put_twice),
            self.assertRaises(S3Unavailable),
        ):
            self.move()
        moved = [bool(fname) for (fname,) in self.values(ids, "store_fname")]
        self.assertEqual(moved, [True, True, False, False])
        self.assertEqual(self.move()["moved"], 2)
        self.assertEqual(self.values(ids, "raw"), [(raw,) for raw in contents])

    def test_change_beside_the_migration_wins(self):
        [id_] = self.make_elsewhere("db", b"old")
        put = S3Store.put

        def put_while_changed(store, key, content):
            if content == b"old":
                with self.environment() as env:
                    env["ir.attachment"].browse(id_).raw = b"new"
            return put(store, key, content)

        with (
            patch.object(S3Store, "put", put_while_changed),
            patch("odoo.service.model.time.sleep"),
        ):
            report = self.in_thread(self.move).finish()
        self.assertEqual(report, {"moved": 0, "bytes": 0, "failed": 0})
        [(raw, fname)] = self.values([id_], "raw", "store_fname")
        self.assertEqual(raw, b"new")
        self.assertTrue(fname.startswith("s3://"))

    def test_small_files_go_to_the_database(self):
        ids = self.make_elsewhere("file", PNG, mimetype="image/png")
        self.set_parameter(PLACEMENT, "{}")
        self.addCleanup(self.set_parameter, PLACEMENT, False)
        self.move()
        self.assertTrue(self.values(ids, "store_fname")[0][0].startswith("s3://"))
        self.set_parameter(PLACEMENT, False)
        self.assertEqual(self.move()["moved"], 1)
        self.assertEqual(self.values(ids, "store_fname", "raw"), [(False, PNG)])

    def test_progress_is_recorded(self):
        self.make_elsewhere("db", b"one", b"two")
        self.move()
        with self.environment() as env:
            run = env["attachment.s3.migration"].search([], limit=1)
            self.assertEqual((run.target, run.state), ("s3", "done"))
            self.assertEqual((run.total, run.moved, run.failed), (2, 2, 0))
            self.assertEqual((run.total_bytes, run.moved_bytes), (6, 6))
            self.assertTrue(run.ended_at)

    def test_only_administrators_move(self):
        with self.environment() as env, self.assertRaises(AccessError):
            env["ir.attachment"].with_user(env.ref("base.public_user")).force_storage()
