import os
from datetime import datetime, timedelta, timezone
from unittest.mock import patch

from odoo.exceptions import AccessError, UserError
from odoo.fields import Command
from odoo.tests import BaseCase, TransactionCase, tagged

from ..configuration import content_uri
from ..exceptions import S3Unavailable
from ..inventory import Known, Listed, merge
from ..models import attachment_s3_inventory
from ..store import S3Store
from .common import CommittedCase, variables

NOW = datetime(2026, 1, 1)
LONG_AGO = datetime(2016, 1, 1, tzinfo=timezone.utc)


def memory_kb():
    """Return the resident memory of this process."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if "VmRSS" in line)


@tagged("post_install", "-at_install")
class TestComparison(BaseCase):
    def pairs(self, listed, known):
        listed = [Listed(uri, 1, NOW) for uri in listed]
        known = [Known(uri, True, 1, 1) for uri in known]
        return [
            (one and one.uri, other and other.uri)
            for one, other in merge(listed, known)
        ]

    def test_same_addresses_are_paired(self):
        self.assertEqual(
            self.pairs("acdf", "bcde"),
            [
                ("a", None),
                (None, "b"),
                ("c", "c"),
                ("d", "d"),
                (None, "e"),
                ("f", None),
            ],
        )
        self.assertEqual(self.pairs("", "a"), [(None, "a")])
        self.assertEqual(self.pairs("a", ""), [("a", None)])
        self.assertEqual(self.pairs("", ""), [])

    def test_store_that_lists_out_of_order_is_refused(self):
        with self.assertRaisesRegex(S3Unavailable, "in order: a comes after b"):
            self.pairs("ba", "ab")


@tagged("post_install", "-at_install")
class TestInventory(CommittedCase):
    def setUp(self):
        super().setUp()
        self.collect()
        with self.environment() as env:
            self.store = env["ir.attachment"]._s3_configuration().store()
            self.prefix = env["attachment.s3.prefix"]._own_prefix()

    def put_orphan(self, content=b"orphan"):
        uri = content_uri(self.store.bucket, self.prefix, content)
        self.objects.put(uri, content)
        self.addCleanup(self.objects.delete, uri)
        return uri

    def take(self, **options):
        """Return the counters of an inventory and the kinds of the findings."""
        found = {}
        with self.environment() as env:
            inventory = env["attachment.s3.inventory"]._take(
                report=lambda finding: found.update({finding.uri: finding.kind}),
                **options,
            )
            [counters] = inventory.read()
        return counters, found

    def test_all_is_well(self):
        _id, uri = self.create_committed(b"fine")
        counters, found = self.take()
        self.assertNotIn(uri, found)
        self.assertGreaterEqual(counters["referenced"], 1)
        self.assertEqual(counters["missing"], 0)
        self.assertTrue(counters["ended_at"])

    def test_missing_object_is_told(self):
        _id, uri = self.create_committed(b"lost")
        self.objects.delete(uri)
        counters, found = self.take()
        self.assertEqual(found[uri], "missing")
        self.assertEqual(counters["missing"], 1)

    def test_reference_deleted_meanwhile_is_not_missing(self):
        id_, uri = self.create_committed(b"deleted during the listing")
        listing = S3Store.list

        def list_late(store, *arguments):
            self.unlink_committed(id_)
            self.objects.delete(uri)
            yield from listing(store, *arguments)

        with patch.object(S3Store, "list", list_late):
            counters, found = self.take()
        self.assertNotIn(uri, found)
        self.assertEqual(counters["missing"], 0)

    def test_wrong_size_is_told(self):
        _id, uri = self.create_committed(b"right size")
        self.objects.put(uri, b"wrong")
        self.addCleanup(self.objects.put, uri, b"right size")
        self.assertEqual(self.take()[1][uri], "wrong size")

    def test_orphan_is_told_and_kept(self):
        uri = self.put_orphan()
        counters, found = self.take()
        self.assertEqual(found[uri], "orphan")
        self.assertEqual((counters["orphans"], counters["orphan_bytes"]), (1, 6))
        self.assertTrue(self.objects.exists(uri))

    def test_fix_deletes_orphans_and_nothing_else(self):
        orphan = self.put_orphan()
        _id, referenced = self.create_committed(b"referenced")
        unknown = f"s3://{self.store.bucket}/{self.prefix}/README"
        foreign = content_uri(self.store.bucket, "another-database", b"orphan")
        for uri in (unknown, foreign):
            self.objects.put(uri, b"not ours")
            self.addCleanup(self.objects.delete, uri)
        counters, found = self.take(fix=True)
        self.assertEqual(counters["deleted"], 1)
        self.assertFalse(self.objects.exists(orphan))
        for uri in (referenced, unknown, foreign):
            self.assertTrue(self.objects.exists(uri), uri)
        self.assertEqual(found[unknown], "unknown")
        self.assertNotIn(foreign, found)

    def test_fix_keeps_what_is_younger_than_the_retention(self):
        uri = self.put_orphan()
        with variables(AWS_ATTACHMENT_RETENTION_DAYS="1"):
            counters, found = self.take(fix=True)
        self.assertEqual(found[uri], "recent")
        self.assertEqual((counters["orphans"], counters["recent"]), (0, 1))
        self.assertTrue(self.objects.exists(uri))

    def test_fix_counts_the_retention_from_the_upload(self):
        """Not from the inventory, else it would take twice as long."""
        uri = self.put_orphan()
        listing = S3Store.list

        def list_old(store, *arguments):
            for entry in listing(store, *arguments):
                yield {**entry, "LastModified": entry["LastModified"] - timedelta(2)}

        with (
            variables(AWS_ATTACHMENT_RETENTION_DAYS="1"),
            patch.object(S3Store, "list", list_old),
        ):
            self.take(fix=True)
        self.assertFalse(self.objects.exists(uri))

    def test_fix_keeps_what_a_running_transaction_refers_to(self):
        uri = self.put_orphan(b"written again")
        with self.environment() as env:
            self.make(env, b"written again")
            env.flush_all()
            self.take(fix=True)
        self.assertTrue(self.objects.exists(uri))
        self.assertNotIn(uri, self.take(fix=True)[1])
        self.assertTrue(self.objects.exists(uri))

    def test_orphan_of_a_savepoint_rollback_is_found(self):
        with self.environment() as env:
            savepoint = env.cr.savepoint()
            uri = self.make(env, b"in a savepoint").store_fname
            savepoint.close(rollback=True)
        self.assertEqual(self.take(fix=True)[1][uri], "orphan")
        self.assertFalse(self.objects.exists(uri))

    def test_unused_object_waits_for_the_collector(self):
        id_, uri = self.create_committed(b"unused")
        self.unlink_committed(id_)
        counters, found = self.take()
        self.assertEqual(found[uri], "noted")
        self.assertEqual((counters["noted"], counters["orphans"]), (1, 0))

    def test_foreign_references_are_looked_at_and_left(self):
        contents = {
            content_uri(self.store.bucket, "original-0123", b"copied"): b"copied",
            f"s3://{self.store.bucket}/{'ab' * 20}": b"of 2016",
        }
        lost = f"s3://{self.store.bucket}/{'cd' * 20}"
        for uri, content in contents.items():
            self.objects.put(uri, content)
            self.addCleanup(self.objects.delete, uri)
        beside = f"s3://{self.store.bucket}/{'ef' * 20}"
        self.objects.put(beside, b"another database's")
        self.addCleanup(self.objects.delete, beside)
        with self.environment() as env:
            for uri, content in {**contents, lost: b"lost"}.items():
                attachment = self.make(env, b"x")
                env.flush_all()
                env.cr.execute(
                    "UPDATE ir_attachment SET store_fname = %s, file_size = %s "
                    "WHERE id = %s",
                    [uri, len(content), attachment.id],
                )
        counters, found = self.take(fix=True)
        self.assertEqual(counters["foreign"], 3)
        self.assertEqual(counters["missing"], 1)
        self.assertEqual(found[lost], "missing")
        for uri in (*contents, beside):
            self.assertTrue(self.objects.exists(uri))
            self.assertNotIn(uri, found)

    def test_a_million_objects_in_bounded_memory(self):
        name = f"{self.prefix}/ab/{'0' * 57}%07d"

        def list_generated(_store, prefix, start_after="", _delimiter=""):
            first = int(start_after[-7:]) + 1 if start_after else 0
            for number in range(first, 1_000_000):
                yield {"Key": name % number, "Size": 5, "LastModified": LONG_AGO}

        before, growth = memory_kb(), []
        with patch.object(S3Store, "list", list_generated), self.environment() as env:
            inventory = env["attachment.s3.inventory"]._take(
                progress=lambda _inventory: growth.append(memory_kb() - before)
            )
            self.assertEqual(inventory.orphans, 1_000_000)
        self.assertGreaterEqual(len(growth), 19)
        self.assertLess(max(growth), 64 * 1024)

    def test_goes_on_where_it_stopped(self):
        uris = {self.put_orphan(os.urandom(8)) for _number in range(5)}
        ids = [self.create_committed(os.urandom(8))[0] for _number in range(3)]
        with patch.object(attachment_s3_inventory, "CHUNK_OBJECTS", 2):
            steps = []
            counters, found = self.take(progress=lambda _inventory: steps.append(1))
        self.assertGreaterEqual(len(steps), 4)
        self.assertEqual(counters["orphans"], 5)
        self.assertLessEqual(uris, set(found))
        self.assertEqual(counters["referenced"], len(ids))

    def test_scheduled_action_tells_and_deletes_nothing(self):
        uri = self.put_orphan()
        with (
            self.environment() as env,
            patch.object(attachment_s3_inventory, "CHUNK_OBJECTS", 1),
            patch.object(attachment_s3_inventory, "RUN_SECONDS", -1),
            self.assertLogs("odoo.addons.attachment_s3", "WARNING") as logs,
        ):
            cron = env.ref("attachment_s3.cron_inventory")
            env["attachment.s3.inventory"].search([], limit=100).unlink()
            inventories = env["attachment.s3.inventory"]
            for _run in range(20):
                env["attachment.s3.inventory"]._cron_take()
                inventory = inventories.search([], limit=1)
                if inventory.ended_at:
                    break
                self.assertTrue(
                    env["ir.cron.trigger"].search_count([("cron_id", "=", cron.id)])
                )
            self.assertTrue(inventory.ended_at)
            self.assertEqual(inventory.orphans, 1)
        self.assertIn("odoo s3inventory tells which", logs.output[-1])
        self.assertTrue(self.objects.exists(uri))

    def test_readonly_is_compared_but_not_fixed(self):
        uri = self.put_orphan()
        with variables(AWS_ATTACHMENT_READONLY="1"):
            self.assertEqual(self.take()[1][uri], "orphan")
            with self.assertRaisesRegex(UserError, "AWS_ATTACHMENT_READONLY"):
                self.take(fix=True)
        self.assertTrue(self.objects.exists(uri))

    def test_store_that_does_not_answer_is_told(self):
        with variables(AWS_HOST="http://127.0.0.1:1", AWS_MAX_ATTEMPTS="1"):
            self.assertRaises(S3Unavailable, self.take)


@tagged("post_install", "-at_install")
class TestInventoryAccess(TransactionCase):
    def test_administrators_only(self):
        for group in ("base.group_user", "base.group_portal", "base.group_public"):
            user = self.env["res.users"].create(
                {
                    "name": group,
                    "login": group,
                    "group_ids": [Command.set(self.env.ref(group).ids)],
                }
            )
            inventories = self.env["attachment.s3.inventory"].with_user(user)
            with self.assertRaises(AccessError):
                inventories._take()
            with self.assertRaises(AccessError):
                inventories.search([])
