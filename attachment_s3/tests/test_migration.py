import os
import tracemalloc
from unittest.mock import patch

import psycopg2

from odoo.exceptions import AccessError, UserError
from odoo.tests import tagged
from odoo.tools import SQL

from .. import observers, progress
from ..configuration import LOCATION
from ..exceptions import S3Unavailable
from ..placement import PLACEMENT
from ..store import MIB, S3Store
from .common import PNG, CommittedCase, Operations, variables

LOGGER = "odoo.addons.attachment_s3.models"
TRANSFER = f"{LOGGER}.attachment_s3_transfer"
SWEEP = f"{LOGGER}.attachment_s3_sweep"


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
        self.addCleanup(self.forget_moves)

    def forget_moves(self):
        with self.environment() as env:
            env["attachment.s3.migration"].search([]).unlink()
            env["ir.cron.trigger"].search(
                [("cron_id", "=", env.ref("attachment_s3.cron_migrate").id)]
            ).unlink()

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

    def current(self, *names):
        """Return what the last move says of itself."""
        with self.environment() as env:
            run = env["attachment.s3.migration"]._current()
            return run[names[0]] if len(names) == 1 else [run[name] for name in names]

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

    def test_local_file_of_rows_of_two_batches(self):
        raw = os.urandom(10)
        ids = self.make_elsewhere("file", raw, raw, raw)
        path = self.path(ids[0])
        with patch(f"{TRANSFER}.BATCH_ROWS", 1):
            self.assertEqual(self.move()["moved"], 3)
            with self.environment() as env:
                env["ir.attachment"]._gc_file_store()
        self.assertFalse(os.path.exists(path))
        self.assertEqual(self.values(ids, "raw"), [(raw,)] * 3)
        self.assertEqual(len(set(self.values(ids, "store_fname"))), 1)

    def test_missing_source_is_reported_and_left(self):
        good, bad = os.urandom(10), os.urandom(10)
        ids = self.make_elsewhere("file", bad, good)
        path = self.path(ids[0])
        os.rename(path, path + ".away")
        with self.assertLogs(LOGGER, "ERROR") as logs:
            report = self.move()
        self.assertEqual((report["moved"], report["failed"]), (1, 1))
        self.assertIn(f"{ids[0]} (attachment_s3 test)", logs.output[0])
        self.assertIn(f"{ids[0]} (attachment_s3 test)", self.current("failures"))
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
        batch = patch(f"{TRANSFER}.BATCH_ROWS", 2)
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
            run = env["attachment.s3.migration"]._current()
            self.assertEqual(
                (run.target, run.state, run.status), ("s3", "done", "done")
            )
            self.assertEqual((run.total, run.moved, run.failed), (2, 2, 0))
            self.assertEqual((run.total_bytes, run.moved_bytes), (6, 6))
            self.assertTrue(run.ended_at)
            self.assertEqual((run.percent, run.seconds_left), (100, 0))
            self.assertGreater(run.megabytes_per_second, 0)

    def test_progress_is_seen_while_it_moves(self):
        self.make_elsewhere("db", *(os.urandom(10) for _ in range(4)))
        put, seen = S3Store.put, []

        def put_and_look(store, key, content):
            names = ("status", "total", "moved", "percent", "seconds_left")
            seen.append(self.current(*names))
            return put(store, key, content)

        with (
            patch(f"{TRANSFER}.BATCH_ROWS", 1),
            patch.object(S3Store, "put", put_and_look),
        ):
            self.move()
        self.assertEqual(
            [values[:4] for values in seen],
            [["running", 4, done, 25.0 * done] for done in range(4)],
        )
        left = [values[4] for values in seen]
        self.assertEqual(left[0], 0)  # not known yet
        self.assertGreater(left[1], 0)

    def test_observers_see_each_batch_and_the_end(self):
        self.make_elsewhere("db", b"one", b"two")
        seen = []
        self.addCleanup(observers.move_observers.remove, seen.append)
        observers.move_observers.append(seen.append)
        with patch(f"{TRANSFER}.BATCH_ROWS", 1):
            self.move()
        self.assertEqual(
            [(move.state, move.moved, move.failed, move.moved_bytes) for move in seen],
            [
                ("running", 0, 0, 0),
                ("running", 1, 0, 3),
                ("running", 2, 0, 6),
                ("done", 2, 0, 6),
            ],
        )
        self.assertEqual(
            {(m.database, m.target, m.total, m.total_bytes) for m in seen},
            {(self.registry.db_name, "s3", 2, 6)},
        )

    def test_error_ends_the_move_as_failed_without_secrets(self):
        self.make_elsewhere("db", b"content")
        secret = os.environ["AWS_SECRET_ACCESS_KEY"]

        def fail(_store, _key, _content):
            raise RuntimeError(f"line cut while {secret} was sent")

        with patch.object(S3Store, "put", fail), self.assertRaises(RuntimeError):
            self.move()
        state, error, ended_at = self.current("state", "error", "ended_at")
        self.assertEqual(state, "failed")
        self.assertEqual(error, "RuntimeError: line cut while *** was sent")
        self.assertTrue(ended_at)

    def test_error_of_the_store_does_not_wait_for_all_others(self):
        self.make_elsewhere("db", *(os.urandom(10) for _ in range(20)))
        calls = []

        def fail(_store, key, _content):
            calls.append(key)
            raise S3Unavailable("the line is cut")

        with (
            variables(AWS_ATTACHMENT_THREADS="1"),
            patch.object(S3Store, "put", fail),
            self.assertRaises(S3Unavailable),
        ):
            self.move()
        self.assertLess(len(calls), 10)
        self.assertEqual(self.current("error"), "S3Unavailable: the line is cut")

    def test_second_move_is_refused_while_one_runs(self):
        ids = self.make_elsewhere("db", b"content")
        put, refusals = S3Store.put, []

        def put_and_start_another(store, key, content):
            with self.environment(commit=False) as env:
                for start in (
                    env["ir.attachment"].force_storage,
                    env["attachment.s3.migration"]._start_in_background,
                ):
                    try:
                        start()
                    except UserError as error:
                        refusals.append(str(error))
            return put(store, key, content)

        with patch.object(S3Store, "put", put_and_start_another):
            self.assertEqual(self.move()["moved"], 1)
        self.assertEqual(len(refusals), 2)
        for refusal in refusals:
            self.assertIn("moved already", refusal)
        self.assertTrue(self.values(ids, "store_fname")[0][0].startswith("s3://"))

    def test_dead_move_is_told_as_interrupted(self):
        with self.environment() as env:
            id_ = progress.create(env.cr, "s3")
        self.assertEqual(self.current("id", "state", "status")[0], id_)
        self.assertEqual(self.current("status"), "interrupted")
        with progress.exclusive(self.registry.db_name) as cr:
            self.assertTrue(cr)
            self.assertEqual(self.current("status"), "running")
        self.make_elsewhere("db", b"content")
        self.move()
        with self.environment() as env:
            run = env["attachment.s3.migration"].browse(id_)
            self.assertEqual(run.state, "interrupted")
            run.action_cancel()
            self.assertEqual(run.state, "cancelled")

    def test_lock_is_free_after_a_move(self):
        self.make_elsewhere("db", b"content")
        self.move()
        with self.environment() as env:
            self.assertFalse(progress.is_locked(env.cr))
        with progress.exclusive(self.registry.db_name) as cr:
            self.assertTrue(cr)

    def test_cancelled_move_stops_after_its_batch(self):
        ids = self.make_elsewhere("db", *(os.urandom(10) for _ in range(3)))
        put = S3Store.put

        def put_while_cancelled(store, key, content):
            with self.environment() as env:
                env["attachment.s3.migration"]._current().action_cancel()
            return put(store, key, content)

        with (
            patch(f"{TRANSFER}.BATCH_ROWS", 1),
            patch.object(S3Store, "put", put_while_cancelled),
        ):
            self.assertEqual(self.move()["moved"], 1)
        self.assertEqual(self.current("state", "moved"), ["cancelled", 1])
        moved = [bool(fname) for (fname,) in self.values(ids, "store_fname")]
        self.assertEqual(moved, [True, False, False])
        self.assertEqual(self.move()["moved"], 2)

    # in the background

    def start(self):
        with self.environment() as env:
            return env["attachment.s3.migration"]._start_in_background().id

    def run_cron(self, turn_seconds=0):
        """Run the scheduled action as the server does; tell whether it was ready."""
        with (
            patch("odoo.addons.base.models.ir_cron.MIN_TIME_PER_JOB", turn_seconds),
            self.environment() as env,
        ):
            cron = env.ref("attachment_s3.cron_migrate")
            env.cr.execute(
                """SELECT 1 FROM ir_cron_trigger
                    WHERE cron_id = %s AND call_at <= %s""",
                [cron.id, env.cr.now()],
            )
            ready = bool(env.cr.rowcount)
            env.cr.rollback()
            env["ir.cron"]._process_jobs_loop(env.cr, job_ids=[cron.id])
        return ready

    def test_background_move_takes_turns_until_done(self):
        contents = [os.urandom(10) for _ in range(25)]
        ids = self.make_elsewhere("db", *contents)
        run = self.start()
        self.assertEqual(self.current("id", "status"), [run, "waiting"])
        self.assertEqual(self.values(ids[:1], "store_fname"), [(False,)])
        moved = []
        with patch(f"{TRANSFER}.BATCH_ROWS", 1):
            while self.run_cron():
                moved.append(self.current("moved"))
        # Odoo calls an action ten times a turn; then the others have theirs
        self.assertEqual(moved, [10, 20, 25])
        self.assertEqual(self.current("id", "state", "total"), [run, "done", 25])
        self.assertEqual(self.values(ids, "raw"), [(raw,) for raw in contents])
        self.assertFalse(self.run_cron())

    def test_background_move_goes_on_after_its_process_died(self):
        ids = self.make_elsewhere("db", b"one", b"two")
        run = self.start()
        with self.environment() as env:  # as it is left by who was killed
            env["attachment.s3.migration"].browse(run).write(
                {"state": "running", "total": 2, "moved": 1, "position": ids[0]}
            )
        self.assertEqual(self.current("status"), "interrupted")
        with self.assertLogs(LOGGER, "WARNING"):
            self.run_cron()
        self.assertEqual(self.current("id", "state", "moved"), [run, "done", 2])
        self.assertTrue(self.values(ids[1:], "store_fname")[0][0])

    def test_background_move_is_cancelled_while_it_waits(self):
        ids = self.make_elsewhere("db", b"content")
        run = self.start()
        with self.environment() as env:
            env["attachment.s3.migration"].browse(run).action_cancel()
        self.run_cron()
        self.assertEqual(self.current("id", "state"), [run, "cancelled"])
        self.assertEqual(self.values(ids, "store_fname"), [(False,)])

    def test_background_move_waits_for_another_one(self):
        self.make_elsewhere("db", b"content")
        self.start()
        with progress.exclusive(self.registry.db_name):
            self.run_cron()
            self.assertEqual(self.current("moved"), 0)
        self.assertFalse(self.run_cron())  # in a minute
        with self.environment() as env:
            env.cr.execute("UPDATE ir_cron_trigger SET call_at = create_date")
        self.assertTrue(self.run_cron())
        self.assertEqual(self.current("state", "moved"), ["done", 1])

    def test_background_move_fails_when_the_location_changes(self):
        ids = self.make_elsewhere("db", b"content")
        self.start()
        self.set_parameter(LOCATION, "db")
        with self.assertLogs("odoo.addons.base.models.ir_cron", "ERROR"):
            self.run_cron()
        state, error = self.current("state", "error")
        self.assertEqual(state, "failed")
        self.assertIn(LOCATION, error)
        self.assertEqual(self.values(ids, "store_fname"), [(False,)])

    def test_background_move_is_started_once(self):
        self.make_elsewhere("db", b"content")
        self.start()
        with self.assertRaises(UserError):
            self.start()
        self.run_cron()

    # after an installation or upgrade

    def sweep(self):
        with self.environment() as env:
            env.cr.execute("SELECT now() AT TIME ZONE 'UTC' - interval '1 minute'")
            [(since,)] = env.cr.fetchall()
            env["attachment.s3.sweep"]._sweep(since)

    def test_strays_go_to_the_bucket(self):
        contents = [os.urandom(10) for _ in range(3)]
        ids = self.make_elsewhere("file", *contents[:2])
        ids += self.make_elsewhere("db", contents[2])
        ids += self.make_elsewhere("file", PNG, mimetype="image/png")
        paths = [self.path(id_) for id_ in (ids[0], ids[1], ids[3])]
        self.sweep()
        rows = self.values(ids, "store_fname", "raw")
        self.assertEqual([raw for _fname, raw in rows], [*contents, PNG])
        self.assertTrue(all(fname.startswith("s3://") for fname, _raw in rows[:3]))
        self.assertFalse(rows[3][0])  # a small image
        self.assertFalse([path for path in paths if os.path.exists(path)])

    def test_strays_are_swept_by_several_processes_at_once(self):
        contents = [os.urandom(10) for _ in range(20)]
        ids = self.make_elsewhere("file", *contents)
        path = self.path(ids[0])
        with patch(f"{TRANSFER}.BATCH_ROWS", 3):
            sweepers = [self.in_thread(self.sweep) for _ in range(3)]
            for sweeper in sweepers:
                sweeper.finish()
        rows = self.values(ids, "store_fname", "raw")
        self.assertEqual([raw for _fname, raw in rows], contents)
        # in the database: who met another left the rest there for the next move
        local = [fname for fname, _ in rows if fname and not fname.startswith("s3://")]
        self.assertEqual(local, [])
        self.assertFalse(os.path.exists(path))

    def test_older_contents_are_no_strays(self):
        ids = self.make_elsewhere("file", os.urandom(10))
        with self.environment() as env:
            env.cr.execute(
                SQL(
                    """UPDATE ir_attachment SET write_date = write_date - interval '1d'
                        WHERE id = ANY(%s)""",
                    ids,
                )
            )
        self.sweep()
        self.assertFalse(self.values(ids, "store_fname")[0][0].startswith("s3://"))

    def test_strays_wait_in_the_database_while_the_store_is_away(self):
        contents = [os.urandom(10) for _ in range(3)]
        ids = self.make_elsewhere("file", *contents)
        in_s3 = self.create_committed(b"already there")[0]
        put, calls = S3Store.put, []

        def put_once(store, key, content):
            calls.append(key)
            if len(calls) > 1:
                raise S3Unavailable("the line is cut")
            return put(store, key, content)

        with (
            patch(f"{TRANSFER}.BATCH_ROWS", 1),
            patch.object(S3Store, "put", put_once),
            self.assertLogs(LOGGER, "ERROR"),
        ):
            self.sweep()
        rows = self.values(ids, "store_fname", "raw")
        self.assertEqual([raw for _fname, raw in rows], contents)
        self.assertTrue(rows[0][0].startswith("s3://"))
        self.assertEqual([fname for fname, _raw in rows[1:]], [False, False])
        self.assertTrue(self.values([in_s3], "store_fname")[0][0])
        self.assertEqual(self.current("status"), "waiting")
        self.run_cron()
        self.assertTrue(all(fname for (fname,) in self.values(ids, "store_fname")))

    def test_strays_wait_in_the_database_when_the_time_is_over(self):
        ids = self.make_elsewhere("file", os.urandom(10))
        with (
            patch(f"{SWEEP}.SWEEP_SECONDS", 0),
            self.assertLogs(LOGGER, "WARNING"),
        ):
            self.sweep()
        self.assertEqual(self.values(ids, "store_fname"), [(False,)])
        self.assertEqual(self.current("status"), "waiting")

    def test_strays_go_to_the_database_when_the_bucket_is_not_written(self):
        for variable in ("AWS_ATTACHMENT_READONLY", "DISABLE_ATTACHMENT_STORAGE"):
            raw = os.urandom(10)
            ids = self.make_elsewhere("file", raw)
            with variables(**{variable: "1"}), Operations() as operations:
                self.sweep()
            self.assertEqual(operations.names, [])
            self.assertEqual(self.values(ids, "store_fname", "raw"), [(False, raw)])

    def test_no_strays_where_files_belong(self):
        ids = self.make_elsewhere("file", os.urandom(10))
        self.set_parameter(LOCATION, "file")
        self.sweep()
        self.assertTrue(os.path.exists(self.path(ids[0])))

    def test_missing_stray_is_left(self):
        [id_] = self.make_elsewhere("file", os.urandom(10))
        path = self.path(id_)
        os.rename(path, path + ".away")
        self.addCleanup(os.rename, path + ".away", path)
        with self.assertLogs(LOGGER, "ERROR"):
            self.sweep()
        self.assertTrue(self.values([id_], "store_fname")[0][0])

    # what may move

    def test_plan_tells_all_places_and_changes_nothing(self):
        in_files = self.make_elsewhere("file", b"12345", b"gone")
        self.make_elsewhere("db", b"123")
        path = self.path(in_files[1])
        os.rename(path, path + ".away")
        self.addCleanup(os.rename, path + ".away", path)
        with self.environment() as env:
            before = env["attachment.s3.migration"].search_count([])
            plan = env["attachment.s3.migration"]._plan("s3", look=True)
            self.assertEqual(
                plan,
                {
                    "file": {"number": 2, "bytes": 9, "missing": 1},
                    "db": {"number": 1, "bytes": 3, "missing": None},
                },
            )
            self.assertEqual(env["attachment.s3.migration"]._count("s3"), (3, 12))
            after = env["attachment.s3.migration"].search_count([])
            self.assertEqual(before, after)

    def test_plan_in_pages(self):
        self.make_elsewhere("db", *(os.urandom(10) for _ in range(5)))
        with patch(f"{TRANSFER}.PAGE_ROWS", 2), self.environment() as env:
            self.assertEqual(env["attachment.s3.migration"]._count("s3"), (5, 50))

    def test_move_to_where_new_contents_do_not_go_is_refused(self):
        with self.environment() as env:
            target = env["attachment.s3.migration"]._target
            self.assertEqual(target(), "s3")
            self.assertEqual(target("s3"), "s3")
            with self.assertRaisesRegex(UserError, "to db while new ones go to s3"):
                target("db")
        self.set_parameter(LOCATION, "file")
        with self.environment() as env:
            target = env["attachment.s3.migration"]._target
            self.assertEqual(target("file"), "file")
            for other in ("s3", "db"):
                with self.assertRaisesRegex(UserError, "new ones go to file"):
                    target(other)

    def test_read_only_bucket_is_left_for_the_database_when_asked(self):
        with self.environment() as env, variables(AWS_ATTACHMENT_READONLY="1"):
            target = env["attachment.s3.migration"]._target
            self.assertEqual(target("db"), "db")
            for other in (None, "s3", "file"):
                with self.assertRaisesRegex(UserError, "AWS_ATTACHMENT_READONLY"):
                    target(other)
        with self.environment() as env, variables(DISABLE_ATTACHMENT_STORAGE="1"):
            target = env["attachment.s3.migration"]._target
            for other in (None, "db", "s3", "file"):
                with self.assertRaisesRegex(UserError, "DISABLE_ATTACHMENT_STORAGE"):
                    target(other)

    def test_unknown_location_is_told_without_its_value(self):
        self.set_parameter(LOCATION, "sss://key:secret@bucket")
        with (
            self.environment() as env,
            self.assertRaisesRegex(UserError, LOCATION) as caught,
        ):
            env["ir.attachment"].force_storage()
        self.assertNotIn("secret", str(caught.exception))

    # memory

    def test_filestore_that_is_read_only_moves(self):
        contents = [os.urandom(10) for _ in range(2)]
        ids = self.make_elsewhere("file", *contents)
        model = self.registry["ir.attachment"]
        full_path = model._full_path

        def without_checklist(attachment, path):
            # nothing can be made in it, also by root
            return "/proc/self" if path == "checklist" else full_path(attachment, path)

        with (
            patch.object(model, "_full_path", without_checklist),
            patch(f"{TRANSFER}.BATCH_ROWS", 1),
            self.assertLogs(TRANSFER, "WARNING") as logs,
        ):
            report = self.move()
        self.assertEqual(report["moved"], 2)
        self.assertEqual(len(logs.output), 2)
        rows = self.values(ids, "store_fname", "raw")
        self.assertEqual([raw for _fname, raw in rows], contents)
        self.assertTrue(all(fname.startswith("s3://") for fname, _raw in rows))

    def test_collector_of_local_files_leaves_what_is_being_written(self):
        content = os.urandom(10)
        [id_] = self.make_elsewhere("db", content)
        model = self.registry["ir.attachment"]
        write, blocked = model._file_write, []

        def write_then_collect(attachment, *args):
            fname = write(attachment, *args)
            with self.environment() as env:
                env.cr.execute("SET LOCAL lock_timeout TO '100ms'")
                try:
                    env.cr.execute(
                        "LOCK ir_attachment IN SHARE MODE", log_exceptions=False
                    )
                except psycopg2.errors.LockNotAvailable:
                    blocked.append(fname)
                    env.cr.rollback()
                else:
                    env["ir.attachment"]._gc_file_store_unsafe()
            return fname

        with patch.object(model, "_file_write", write_then_collect):
            self.move("file")
        self.assertEqual(self.values([id_], "raw"), [(content,)])
        self.assertEqual(len(blocked), 1)

    def test_half_written_local_file_is_written_again(self):
        content = os.urandom(1000)
        [id_] = self.make_elsewhere("file", content)
        path = self.path(id_)
        self.move()
        with open(path, "wb") as file:  # as a process that died left it
            file.write(content[:100])
        report = self.move("file")
        self.assertEqual(report, {"moved": 1, "bytes": 1000, "failed": 0})
        self.assertEqual(self.values([id_], "raw"), [(content,)])

    def test_large_local_file_is_not_read_into_memory(self):
        size = 65 * MIB
        [id_] = self.make_elsewhere("file", os.urandom(MIB) * 65)
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        with Operations() as operations:
            self.assertEqual(self.move()["bytes"], size)
        _now, peak = tracemalloc.get_traced_memory()
        self.assertEqual(operations.names, ["put", "head"])
        self.assertLess(peak, 32 * MIB)
        [(fname, stored)] = self.values([id_], "store_fname", "file_size")
        self.assertEqual(stored, size)
        self.assertEqual(len(self.objects.get(fname)), size)

    def test_large_damaged_file_is_left(self):
        [id_] = self.make_elsewhere("file", b"as it was")
        path = self.path(id_)
        with open(path, "wb") as file:
            file.write(b"damaged")
        self.addCleanup(os.unlink, path)
        with patch(f"{TRANSFER}.STREAM_BYTES", 1), self.assertLogs(LOGGER, "ERROR"):
            self.assertEqual(self.move()["failed"], 1)

    # who

    def test_only_administrators_move(self):
        with self.environment() as env:
            run = env["attachment.s3.migration"].browse(progress.create(env.cr, "s3"))
            user = env["res.users"].create({"name": "s3", "login": "attachment_s3"})
            for call in (
                env["ir.attachment"].with_user(user).force_storage,
                run.with_user(user)._start_in_background,
                run.with_user(user)._current,
                run.with_user(user).action_cancel,
            ):
                with self.assertRaises(AccessError):
                    call()
            with self.assertRaises(AccessError):
                run.with_user(user).read(["state"])
            administrator = env.ref("base.user_admin")
            self.assertEqual(run.with_user(administrator)._current(), run)
            run.with_user(administrator).action_cancel()
            self.assertEqual(run.state, "cancelled")
            with self.assertRaises(AccessError):
                run.with_user(administrator).write({"state": "done"})
            env.cr.rollback()
