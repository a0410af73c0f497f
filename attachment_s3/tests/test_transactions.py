import os
import threading
import time
from unittest.mock import patch

import psycopg2

from odoo import SUPERUSER_ID, api
from odoo.service.model import retrying
from odoo.tests import tagged

from ..exceptions import S3Unavailable
from ..models import attachment_s3_prefix
from ..store import S3Store
from .common import CommittedCase, Operations, variables


@tagged("post_install", "-at_install")
class TestTransactions(CommittedCase):
    def test_deletion_is_collected(self):
        id_, uri = self.create_committed(os.urandom(10))
        self.unlink_committed(id_)
        self.assertTrue(self.objects.exists(uri))
        self.collect()
        self.assertFalse(self.objects.exists(uri))
        self.assertEqual(self.garbage(uri), 0)

    def test_delete_then_rollback_keeps_object(self):
        id_, uri = self.create_committed(os.urandom(10))
        with self.environment(commit=False) as env:
            env["ir.attachment"].browse(id_).unlink()
        self.assertEqual(self.garbage(uri), 0)
        self.collect()
        self.assertTrue(self.objects.exists(uri))

    def test_delete_then_savepoint_rollback_keeps_object(self):
        id_, uri = self.create_committed(os.urandom(10))
        with self.environment() as env:
            savepoint = env.cr.savepoint()
            env["ir.attachment"].browse(id_).unlink()
            savepoint.close(rollback=True)
        self.assertEqual(self.garbage(uri), 0)
        self.collect()
        self.assertTrue(self.objects.exists(uri))

    def test_failed_upload_is_not_committed_by_a_caller_that_goes_on(self):
        raw = os.urandom(10)
        failure = S3Unavailable("as if")
        with self.assertRaisesRegex(S3Unavailable, "as if"), self.environment() as env:
            with (
                patch.object(S3Store, "put", side_effect=failure),
                self.assertRaises(S3Unavailable),
            ):
                self.make(env, raw)
            with self.assertRaises(S3Unavailable), env.cr.savepoint():
                self.fail("no savepoint begins")
            env.cr.commit()
        _id, uri = self.create_committed(raw)
        self.assertTrue(self.objects.exists(uri))

    def test_failed_upload_in_a_savepoint_lets_the_rest_be_committed(self):
        for flush in (True, False):
            with self.environment() as env:
                kept = self.make(env, os.urandom(10))
                with (
                    patch.object(S3Store, "put", side_effect=S3Unavailable("as if")),
                    self.assertRaises(S3Unavailable),
                    env.cr.savepoint(flush=flush),
                ):
                    self.make(env, os.urandom(10))
                env.cr.commit()
                uri = kept.store_fname
            self.assertTrue(self.objects.exists(uri))

    def test_copy_prepared_in_a_savepoint_that_is_rolled_back(self):
        """PostgreSQL releases the locks that were taken in it."""
        raw = os.urandom(10)
        id_, uri = self.create_committed(raw)
        with self.environment() as env:
            savepoint = env.cr.savepoint()
            [values] = env["ir.attachment"].browse(id_).copy_data()
            savepoint.close(rollback=True)
            self.unlink_committed(id_)
            copy = env["ir.attachment"].create(values)
            self.collect()
            env.cr.commit()
            self.assertEqual(copy.raw, raw)
        self.collect()
        self.assertTrue(self.objects.exists(uri))

    def test_copy_of_what_was_collected_meanwhile_is_tried_again(self):
        id_, _uri = self.create_committed(os.urandom(10))
        with self.environment(commit=False) as env:
            [values] = env["ir.attachment"].browse(id_).copy_data()
            self.unlink_committed(id_)
            self.collect()
            with self.assertRaises(psycopg2.errors.SerializationFailure):
                env["ir.attachment"].create(values)

    def test_lost_object_is_repaired_by_who_has_the_file(self):
        raw = os.urandom(10)
        _id, uri = self.create_committed(raw)
        self.objects.delete(uri)
        self.create_committed(raw)
        self.assertFalse(self.objects.exists(uri), "not known to be lost")
        with self.environment() as env:
            env["attachment.s3.inventory"]._take()
        self.create_committed(raw)
        self.assertEqual(self.objects.get(uri), raw)

    def test_serialization_retry_keeps_what_is_referenced(self):
        raw, other = os.urandom(10), os.urandom(10)
        id_, uri = self.create_committed(raw)
        conflicts = []
        with self.environment(commit=False) as env:

            def overwrite():
                attachment = env["ir.attachment"].browse(id_)
                attachment.raw = other
                env.flush_all()
                if not conflicts:
                    conflicts.append(True)
                    raise psycopg2.errors.SerializationFailure("as if")
                attachment.raw = raw

            pause = patch("odoo.service.model.time.sleep")
            code = patch("odoo.service.model.errorcodes.lookup", return_value="40001")
            with pause, code:
                retrying(overwrite, env)
        self.collect()
        self.assertTrue(self.objects.exists(uri))
        with self.environment() as env:
            self.assertEqual(env["ir.attachment"].browse(id_).raw, raw)

    def test_upload_then_rollback_is_collected(self):
        with self.environment(commit=False) as env:
            uri = self.make(env, os.urandom(10)).store_fname
        self.assertTrue(self.objects.exists(uri))
        self.assertEqual(self.garbage(uri), 1)
        self.collect()
        self.assertFalse(self.objects.exists(uri))

    def test_upload_then_rollback_keeps_what_another_one_has(self):
        raw = os.urandom(10)
        with self.environment(commit=False) as env:
            uri = self.make(env, raw).store_fname
        id_, same_uri = self.create_committed(raw)
        self.assertEqual(uri, same_uri)
        self.collect()
        self.assertTrue(self.objects.exists(uri))
        self.assertEqual(self.garbage(uri), 0)

    def test_retention_keeps_an_unused_object(self):
        id_, uri = self.create_committed(os.urandom(10))
        self.unlink_committed(id_)
        with variables(AWS_ATTACHMENT_RETENTION_DAYS="1"):
            self.collect()
        self.assertTrue(self.objects.exists(uri))
        self.assertEqual(self.garbage(uri), 1)

    def test_same_content_of_a_committed_attachment_is_not_sent(self):
        raw = os.urandom(10)
        _id, uri = self.create_committed(raw)
        with Operations() as operations:
            _id, same_uri = self.create_committed(raw)
        self.assertEqual(uri, same_uri)
        self.assertEqual(operations.names, [])

    def test_store_that_refuses_a_delete_is_asked_again(self):
        id_, uri = self.create_committed(os.urandom(10))
        self.unlink_committed(id_)

        def refuse(self, keys):
            return dict.fromkeys(keys, "AccessDenied")

        logger = "odoo.addons.attachment_s3.models.attachment_s3_garbage"
        with (
            patch.object(S3Store, "delete", refuse),
            self.assertLogs(logger, "WARNING"),
        ):
            self.collect()
        self.assertTrue(self.objects.exists(uri))
        self.assertEqual(self.garbage(uri), 1)
        self.collect()
        self.assertFalse(self.objects.exists(uri))

    def test_collector_that_is_stopped_loses_nothing(self):
        id_, uri = self.create_committed(os.urandom(10))
        self.unlink_committed(id_)
        delete = S3Store.delete

        def delete_and_break(self, keys):
            delete(self, keys)
            raise S3Unavailable("the line is cut")

        with (
            patch.object(S3Store, "delete", delete_and_break),
            self.assertLogs("odoo.addons.attachment_s3", "ERROR"),
        ):
            self.collect()
        self.assertEqual(self.garbage(uri), 1)
        self.collect()
        self.assertEqual(self.garbage(uri), 0)

    def test_same_content_written_after_it_was_collected(self):
        """The writer's view of the database is older than deletion and collection."""
        raw = os.urandom(10)
        id_, uri = self.create_committed(raw)
        with self.environment() as env:
            self.assertTrue(env["ir.attachment"].browse(id_).exists())
            self.unlink_committed(id_)
            self.collect()
            self.assertFalse(self.objects.exists(uri))
            # still sees the first one
            self.assertTrue(env["ir.attachment"].search([("store_fname", "=", uri)]))
            self.make(env, raw)
        self.assertTrue(self.objects.exists(uri))

    def test_collector_leaves_what_is_being_written(self):
        raw = os.urandom(10)
        id_, uri = self.create_committed(raw)
        with self.environment() as env:
            self.make(env, raw)  # not sent: the first one is there
            self.unlink_committed(id_)
            self.in_thread(self.collect).finish()
            self.assertTrue(self.objects.exists(uri))
        self.collect()
        self.assertTrue(self.objects.exists(uri))
        self.assertEqual(self.garbage(uri), 0)

    def test_writer_waits_for_the_collector_and_sends_again(self):
        raw = os.urandom(10)
        id_, uri = self.create_committed(raw)
        self.unlink_committed(id_)
        collecting, go_on = threading.Event(), threading.Event()
        delete = S3Store.delete

        def slow_delete(self, keys):
            if uri.partition(f"{self.bucket}/")[2] in keys:
                collecting.set()
                if not go_on.wait(20):
                    raise TimeoutError
            return delete(self, keys)

        with patch.object(S3Store, "delete", slow_delete):
            collector = self.in_thread(self.collect)
            self.assertTrue(collecting.wait(20))
            writer = self.in_thread(lambda: self.create_committed(raw))
            writer.join(0.5)
            self.assertTrue(writer.is_alive(), "the writer does not wait")
            go_on.set()
            collector.finish()
            writer.finish()
        self.assertTrue(self.objects.exists(uri))
        self.collect()
        self.assertTrue(self.objects.exists(uri))

    def test_two_writers_a_deleter_and_the_collector(self):
        raw = os.urandom(10)
        stop = threading.Event()

        def create_and_delete():
            for _ in range(15):
                id_, _uri = self.create_committed(raw)
                self.check_content(id_, raw)
                self.unlink_committed(id_)

        def collect():
            while not stop.is_set():
                self.collect()

        writers = [self.in_thread(create_and_delete) for _ in range(2)]
        collector = self.in_thread(collect)
        try:
            for writer in writers:
                writer.finish(60)
        finally:
            stop.set()
            collector.finish(60)

    def check_content(self, id_, raw):
        """Fail unless a committed attachment has its content.

        S3 replaces an object in one instant. rclone does not: while one writer sends
        what is there already, the others do not find it.
        """
        deadline = time.monotonic() + 5
        while True:
            with self.environment() as env:
                if env["ir.attachment"].browse(id_).raw == raw:
                    return
            if time.monotonic() > deadline:
                raise AssertionError("a committed attachment lost its content")

    def test_deletions_of_one_content_do_not_wait_for_each_other(self):
        raw = os.urandom(10)
        first, uri = self.create_committed(raw)
        second, _uri = self.create_committed(raw)
        with self.environment() as env:
            env["ir.attachment"].browse(first).unlink()
            self.in_thread(lambda: self.unlink_committed(second)).finish()
        self.collect()
        self.assertFalse(self.objects.exists(uri))


@tagged("post_install", "-at_install")
class TestOwnership(CommittedCase):
    """A copy is simulated by what tells it from its original."""

    def identity(self, **changes):
        original = attachment_s3_prefix.identity
        names = ("dbname", "uuid", "running_env", "neutralized")

        def changed(*args):
            values = dict(zip(names, original(*args), strict=True))
            return tuple({**values, **changes}.values())

        return patch.object(attachment_s3_prefix, "identity", changed)

    def test_copy_reads_but_never_deletes(self):
        for change in (
            {"dbname": "renamed"},
            {"uuid": "another"},
            {"running_env": "integration"},
            {"neutralized": True},
        ):
            raw = os.urandom(10)
            id_, uri = self.create_committed(raw)
            with self.identity(**change):
                with self.environment() as env:
                    attachment = env["ir.attachment"].browse(id_)
                    self.assertEqual(attachment.raw, raw)
                    copy = attachment.copy()
                    own = copy.store_fname
                    self.assertNotEqual(own, uri)
                    (attachment + copy).unlink()
                self.collect()
                self.assertFalse(self.objects.exists(own), change)
            self.assertTrue(self.objects.exists(uri), change)
            self.objects.delete(uri)

    def test_copy_forgets_what_it_may_not_delete(self):
        id_, uri = self.create_committed(os.urandom(10))
        self.unlink_committed(id_)
        with self.identity(uuid="another"):
            self.collect()
        self.assertEqual(self.garbage(uri), 0)
        self.assertTrue(self.objects.exists(uri))
        self.objects.delete(uri)

    def test_prefix_is_stable(self):
        uris = {self.create_committed(os.urandom(10))[1] for _ in range(2)}
        self.registry.clear_all_caches()
        uris.add(self.create_committed(os.urandom(10))[1])
        self.assertEqual(len({uri.split("/")[3] for uri in uris}), 1)

    def test_concurrent_first_writers_agree_on_the_prefix(self):
        barrier = threading.Barrier(4)

        def own_prefix():
            with self.registry.cursor() as cr:
                env = api.Environment(cr, SUPERUSER_ID, {})
                barrier.wait(20)
                model = env["attachment.s3.prefix"]
                return type(model)._prefix_of.__wrapped__(
                    model, self.registry.db_name, "concurrent", "prod", False
                )

        threads = [self.in_thread(own_prefix) for _ in range(4)]
        self.assertEqual(len({thread.finish() for thread in threads}), 1)
        with self.environment() as env:
            env.cr.execute("DELETE FROM attachment_s3_prefix WHERE uuid = 'concurrent'")

    def test_another_bucket_is_left_alone(self):
        id_, uri = self.create_committed(os.urandom(10))
        self.unlink_committed(id_)
        with variables(AWS_BUCKETNAME="another-odoo-prod"), Operations() as operations:
            self.collect()
        self.assertEqual(operations.names, [])
        self.assertTrue(self.objects.exists(uri))
        self.objects.delete(uri)

    def test_collector_sees_a_neutralization_that_the_caches_do_not(self):
        """As Odoo's restore does it: by SQL, with the registry loaded."""
        id_, uri = self.create_committed(os.urandom(10))
        self.addCleanup(self.registry.clear_all_caches)
        self.addCleanup(self.set_parameter, "database.is_neutralized", False)
        with self.environment() as env:
            env.cr.execute(
                """INSERT INTO ir_config_parameter (key, value)
                   VALUES ('database.is_neutralized', 'true')"""
            )
        self.unlink_committed(id_)
        self.collect()
        self.assertTrue(self.objects.exists(uri))
        with self.environment() as env:
            env["attachment.s3.inventory"]._take(fix=True)
        self.assertTrue(self.objects.exists(uri))

    def test_neutralized_database_owns_nothing(self):
        id_, uri = self.create_committed(os.urandom(10))
        self.unlink_committed(id_)
        with self.environment(commit=False) as env:
            prefix = env["attachment.s3.prefix"].search([]).mapped("prefix")
            self.assertTrue(prefix)
            from odoo.modules.neutralize import get_neutralization_queries

            for query in get_neutralization_queries(["attachment_s3"]):
                env.cr.execute(query)
            env.invalidate_all()
            self.assertFalse(env["attachment.s3.prefix"].search([]))
            self.assertFalse(env["attachment.s3.garbage"].search([]))
        self.collect()
        self.assertFalse(self.objects.exists(uri))
