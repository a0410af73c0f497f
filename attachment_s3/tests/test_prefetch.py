import hashlib
import io
import os
import threading
import zipfile
from base64 import b64decode, b64encode
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch
from urllib.parse import urlsplit

from PIL import Image

from odoo.exceptions import AccessError
from odoo.tests import new_test_user, tagged
from odoo.tools.image import image_data_uri

from .. import fields
from ..exceptions import S3AccessDenied, S3ContentError, S3Unavailable
from ..placement import PLACEMENT
from .common import Operations, S3Case, variables
from .fault_proxy import FaultProxy

THREADS = 8
#: how long the proxy waits for the other requests of a group, in seconds
GATHER_SECONDS = 10


class PrefetchCase(S3Case):
    """Between the addon and the store is a proxy that can wait for many requests."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        server = urlsplit(cls.objects.config.connection.host)
        cls.proxy = FaultProxy((server.hostname, server.port))
        cls.enterClassContext(cls.proxy)
        cls.direct = cls.objects.config.connection.host

    def setUp(self):
        super().setUp()
        self.proxy.work()
        self.addCleanup(self.wait_for_threads)
        self.enterContext(
            variables(
                AWS_HOST=self.proxy.url,
                AWS_MAX_ATTEMPTS="1",
                AWS_ATTACHMENT_THREADS=str(THREADS),
            )
        )

    def make_many(self, count, **vals):
        # not through the proxy, which lets uploads wait a second
        with variables(AWS_HOST=self.direct):
            return self.attachment.create(
                [
                    {"name": f"{number}.bin", "raw": os.urandom(1000), **vals}
                    for number in range(count)
                ]
            )

    def wait_for_threads(self):
        """Wait for the downloads that an error has left behind."""
        for thread in threading.enumerate():
            if thread.name.startswith("attachment_s3"):
                thread.join(GATHER_SECONDS)

    @contextmanager
    def gathered(self, count, size=THREADS):
        """Within the block requests come in groups, or fail; all in all ``count``."""
        barrier = threading.Barrier(size, timeout=GATHER_SECONDS)
        self.proxy.fail(partial(self.proxy.do_gather, barrier))
        yield
        self.assertEqual(self.proxy.requests, count)
        self.proxy.work()


@tagged("post_install", "-at_install")
class TestPrefetch(PrefetchCase):
    def setUp(self):
        super().setUp()
        self.many = self.make_many(16)
        self.raws = self.many.mapped("raw")
        self.many.invalidate_recordset()

    def test_many_contents_are_downloaded_several_at_a_time(self):
        with self.gathered(16):
            self.assertEqual([record.raw for record in self.many], self.raws)

    def test_no_more_at_a_time_than_the_setting(self):
        barrier = threading.Barrier(4, timeout=GATHER_SECONDS)
        lock, now, most = threading.Lock(), set(), 0

        def fault(client, request):
            nonlocal most
            with lock:
                now.add(client)
                most = max(most, len(now))
            result = self.proxy.do_gather(barrier, client, request)
            with lock:
                now.discard(client)
            return result

        self.proxy.fail(fault)
        with variables(AWS_ATTACHMENT_THREADS="4"):
            self.assertEqual(self.many.mapped("raw"), self.raws)
        self.assertEqual(most, 4)

    def test_read_of_base64(self):
        with self.gathered(16):
            values = self.many.read(["name", "datas"])
        self.assertEqual([b64decode(value["datas"]) for value in values], self.raws)

    def test_read_of_mails(self):
        # mail.mail's _prepare_outgoing_list reads them so
        with self.gathered(16):
            values = self.many.sudo().sorted("id").read(["name", "raw", "mimetype"])
        self.assertEqual([value["raw"] for value in values], self.raws)

    def test_export(self):
        with self.gathered(16):
            rows = self.many.export_data(["name", "datas"])["datas"]
        self.assertEqual([b64decode(row[1]) for row in rows], self.raws)

    def test_archive_of_many(self):
        # as account's _build_zip_from_attachments does
        with self.gathered(16), zipfile.ZipFile(io.BytesIO(), "w") as archive:
            for attachment in self.many:
                archive.writestr(attachment.name, attachment.raw)
            self.assertEqual(archive.read("3.bin"), self.raws[3])

    def test_one_content_is_one_request_without_a_thread(self):
        with (
            patch.object(ThreadPoolExecutor, "submit", side_effect=AssertionError),
            Operations() as operations,
        ):
            self.assertEqual(self.many[3].with_prefetch().raw, self.raws[3])
        self.assertEqual(operations.names, ["get"])

    def test_equal_contents_are_downloaded_once(self):
        raw = os.urandom(1000)
        equal = self.make_many(3, raw=raw)
        both = equal + self.many
        both.invalidate_recordset()
        with Operations() as operations:
            self.assertEqual(both.mapped("raw"), [raw] * 3 + self.raws)
        self.assertEqual(operations.names, ["get"] * 17)

    def test_sizes_are_read_without_a_request(self):
        with Operations() as operations:
            sized = self.many.with_context(bin_size=True)
            self.assertEqual(len(sized.read(["datas", "raw"])), 16)
        self.assertEqual(operations.names, [])

    def test_contents_in_the_database_and_in_the_bucket(self):
        stored = self.make_many(3, mimetype="text/css")
        raws = stored.mapped("raw")
        self.assertFalse(any(stored.mapped("store_fname")))
        both = stored + self.many
        both.invalidate_recordset()
        with self.gathered(16):
            self.assertEqual(both.mapped("raw"), raws + self.raws)

    def test_nothing_is_held_afterwards(self):
        self.many.mapped("raw")
        self.assertFalse(self.env.cr.cache.get("attachment_s3.reads"))
        self.proxy.fail(partial(self.proxy.do_answer, 503, "SlowDown"))
        self.many.invalidate_recordset()
        with self.assertRaises(S3Unavailable):
            self.many.mapped("raw")
        self.assertFalse(self.env.cr.cache.get("attachment_s3.reads"))

    def test_disabled_storage_is_not_asked(self):
        with (
            variables(DISABLE_ATTACHMENT_STORAGE="1"),
            self.assertLogs("odoo.addons.attachment_s3", "WARNING"),
            Operations() as operations,
        ):
            self.assertFalse(any(self.many.mapped("raw")))
        self.assertEqual(operations.names, [])

    # how many one read brings

    def test_a_large_set_comes_in_rounds(self):
        with (
            patch.object(fields, "PREFETCH_CONTENTS", 6),
            Operations() as operations,
        ):
            self.assertEqual(list(self.many)[9].raw, self.raws[9])
            self.assertEqual(len(operations.names), 6)
            self.assertEqual(self.many.mapped("raw"), self.raws)
        self.assertEqual(len(operations.names), 16)

    def test_large_contents_come_in_rounds(self):
        for limit, expected in ((3999, 3), (4000, 4), (999, 1)):
            self.many.invalidate_recordset()
            with (
                patch.object(fields, "PREFETCH_BYTES", limit),
                Operations() as operations,
            ):
                self.assertEqual(list(self.many)[5].raw, self.raws[5])
                self.assertEqual(len(operations.names), expected)
                self.assertEqual(self.many.mapped("raw"), self.raws)
            self.assertEqual(len(operations.names), 16)

    # errors

    def test_missing_object_is_empty_for_its_record_alone(self):
        self.objects.delete(self.many[2].store_fname)
        logger = "odoo.addons.attachment_s3.models.ir_attachment"
        with self.assertLogs(logger, "ERROR") as logs:
            raws = self.many.mapped("raw")
        self.assertEqual(len(logs.output), 1)
        self.assertIn(self.many[2].store_fname, logs.output[0])
        self.assertEqual(raws, [*self.raws[:2], b"", *self.raws[3:]])

    def test_outage_is_an_error_for_the_whole_read(self):
        for times in (1, 10**9):
            for fault, error in (
                (self.proxy.do_reset, S3Unavailable),
                (partial(self.proxy.do_answer, 503, "SlowDown"), S3Unavailable),
                (partial(self.proxy.do_answer, 403, "AccessDenied"), S3AccessDenied),
                (partial(self.proxy.do_truncate, 10), S3Unavailable),
                (self.proxy.do_corrupt, S3ContentError),
            ):
                self.many.invalidate_recordset()
                self.proxy.fail(fault, times)
                with self.assertRaises(error):
                    self.many.read(["raw"])
                self.many.invalidate_recordset()
                self.proxy.work()
                self.wait_for_threads()
                self.assertEqual(self.many.mapped("raw"), self.raws)

    def test_error_does_not_wait_for_the_others(self):
        release, waited = threading.Event(), []
        self.addCleanup(release.set)
        failing = hashlib.sha256(self.raws[0]).hexdigest().encode()

        def fault(client, request):
            if failing in request.partition(b"\r\n")[0]:
                return self.proxy.do_answer(503, "SlowDown", client, request)
            if not release.wait(GATHER_SECONDS):
                waited.append(request)

        self.proxy.fail(fault)
        self.addCleanup(self.proxy.work)
        with self.assertRaises(S3Unavailable):
            self.many.mapped("raw")
        self.assertFalse(waited)
        release.set()
        self.wait_for_threads()
        self.assertLessEqual(self.proxy.requests, THREADS + 1)

    # access

    def test_contents_of_others_are_neither_read_nor_in_the_way(self):
        user = new_test_user(self.env, "attachment_s3_user", "base.group_user")
        mine = self.make_many(8, public=True)
        raws = mine.mapped("raw")
        (mine + self.many).invalidate_recordset()
        all_of_them = (self.many[:4] + mine + self.many[4:]).with_user(user)
        with self.gathered(8):
            self.assertEqual([one.raw for one in list(all_of_them)[4:12]], raws)
        with Operations() as operations, self.assertRaises(AccessError):
            all_of_them[0].raw  # noqa: B018
        with self.assertRaises(AccessError):
            all_of_them.read(["raw"])
        self.assertNotIn("get", operations.names)

    def test_deleted_record_is_not_in_the_way(self):
        many = list(self.many)
        many[3].unlink()
        self.many.invalidate_recordset()
        with Operations() as operations:
            self.assertEqual(many[5].raw, self.raws[5])
        self.assertEqual(operations.names, ["get"] * 15)


@tagged("post_install", "-at_install")
class TestPrefetchFields(PrefetchCase):
    """Binary fields and images of records."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.env["ir.config_parameter"].set_param(PLACEMENT, "{}")
        cls.pictures = [cls.picture(number) for number in range(16)]
        cls.partners = cls.env["res.partner"].create(
            [{"name": "x", "image_1920": picture} for picture in cls.pictures]
        )
        cls.env.flush_all()

    def setUp(self):
        super().setUp()
        self.env.invalidate_all()

    @staticmethod
    def picture(number):
        file = io.BytesIO()
        Image.new("RGB", (20, 20), (number, 0, 0)).save(file, "PNG")
        return b64encode(file.getvalue())

    def test_read_of_images(self):
        with self.gathered(16):
            values = self.partners.read(["image_1920"])
        self.assertEqual([value["image_1920"] for value in values], self.pictures)

    def test_read_of_resized_images(self):
        with self.gathered(16):
            images = [partner.image_128 for partner in self.partners]
        self.assertEqual(len(set(images) - {False}), 16)

    def test_search_read_of_a_list(self):
        domain = [("id", "in", self.partners.ids)]
        with self.gathered(16):
            records = self.env["res.partner"].web_search_read(
                domain, {"image_1920": {}}
            )["records"]
        self.assertEqual(
            {record["image_1920"] for record in records}, set(self.pictures)
        )

    def test_search_read_as_a_browser_does_needs_no_request(self):
        domain = [("id", "in", self.partners.ids)]
        with Operations() as operations:
            records = (
                self.env["res.partner"]
                .with_context(bin_size=True)
                .web_search_read(domain, {"image_128": {}})["records"]
            )
        self.assertEqual(operations.names, [])
        self.assertTrue(all(record["image_128"] for record in records))

    def test_kanban_of_contacts(self):
        # Odoo computes avatars from the contents, also when only sizes are asked for
        domain = [("id", "in", self.partners.ids)]
        partners = self.env["res.partner"].with_context(bin_size=True)
        with self.gathered(16):
            records = partners.web_search_read(domain, {"avatar_128": {}})["records"]
        self.assertTrue(all(record["avatar_128"] for record in records))

    def test_images_of_a_report(self):
        template = self.env["ir.ui.view"].create(
            {
                "type": "qweb",
                "key": "attachment_s3.test",
                "arch": """<t t-name="attachment_s3.test">
                    <img t-foreach="docs" t-as="doc" t-att-id="doc.id"
                         t-att-src="image_data_uri(doc.image_1920)"/></t>""",
            }
        )
        with self.gathered(16):
            html = self.env["ir.qweb"]._render(
                template.id,
                {"docs": self.partners, "image_data_uri": image_data_uri},
            )
        for picture in self.pictures:
            self.assertIn(picture.decode(), html)

    def test_export_of_images(self):
        with self.gathered(16):
            rows = self.partners.export_data(["image_1920"])["datas"]
        self.assertEqual([row[0] for row in rows], self.pictures)

    def test_missing_image_is_empty_for_its_record_alone(self):
        gone = self.env["ir.attachment"].search(
            [
                ("res_model", "=", "res.partner"),
                ("res_field", "=", "image_1920"),
                ("res_id", "=", self.partners[3].id),
            ]
        )
        content = b64decode(self.pictures[3])
        self.objects.delete(gone.store_fname)
        self.addCleanup(self.objects.put, gone.store_fname, content)
        self.env.invalidate_all()
        with self.assertLogs("odoo.addons.attachment_s3", "ERROR"):
            images = self.partners.mapped("image_1920")
        self.assertFalse(images[3])
        self.assertEqual(images[:3] + images[4:], self.pictures[:3] + self.pictures[4:])

    def test_outage_leaves_no_empty_image(self):
        self.proxy.fail(partial(self.proxy.do_answer, 503, "SlowDown"))
        with self.assertRaises(S3Unavailable):
            self.partners.read(["image_1920"])
        self.proxy.work()
        self.assertEqual(self.partners.mapped("image_1920"), self.pictures)
