import hashlib
import os
from dataclasses import replace
from functools import partial
from unittest.mock import patch
from urllib.parse import urlsplit

from odoo.exceptions import AccessError, UserError
from odoo.tests import new_test_user, tagged

from ..configuration import LOCATION, READONLY, split_uri
from ..exceptions import S3ContentError, S3Error, S3Unavailable
from ..placement import PLACEMENT
from .common import PNG, Operations, S3Case, variables
from .fault_proxy import FaultProxy


@tagged("post_install", "-at_install")
class TestContents(S3Case):
    def test_content_is_in_the_bucket_under_its_sha256(self):
        raw = os.urandom(1000)
        attachment = self.make(raw)
        bucket, key = split_uri(attachment.store_fname)
        digest = hashlib.sha256(raw).hexdigest()
        self.assertEqual(bucket, os.environ["AWS_BUCKETNAME"])
        self.assertRegex(key, rf"^.+-[0-9a-f]{{12}}/{digest[:2]}/{digest}$")
        self.assertFalse(attachment.db_datas)
        self.assertEqual(self.objects.get(attachment.store_fname), raw)
        attachment.invalidate_recordset()
        self.assertEqual(attachment.raw, raw)

    def test_write_is_one_put_and_read_one_get(self):
        with Operations() as operations:
            attachment = self.make()
        self.assertEqual(operations.names, ["put"])
        attachment.invalidate_recordset()
        with Operations() as operations:
            self.assertTrue(attachment.raw)
        self.assertEqual(operations.names, ["get"])
        self.assertEqual(operations.all[0].bytes, 1000)
        attachment.invalidate_recordset()
        with Operations() as operations:
            self.assertTrue(attachment.with_context(bin_size=True).datas)
            self.assertEqual(attachment.file_size, 1000)
        self.assertEqual(operations.names, [])

    def test_no_local_file_is_made(self):
        with patch("os.makedirs", side_effect=AssertionError("a folder is made")):
            self.make().unlink()

    def test_large_content_goes_in_parts(self):
        raw = os.urandom(1000) * 70_000
        attachment = self.make(raw)
        attachment.invalidate_recordset()
        self.assertEqual(attachment.raw, raw)
        self.objects.delete(attachment.store_fname)

    def test_part_of_a_content(self):
        raw = os.urandom(1000)
        fname = self.make(raw).store_fname
        for size in (0, 1, 999, 1000, 2000):
            self.assertEqual(self.attachment._file_read(fname, size), raw[:size])

    def test_empty_content_needs_no_object(self):
        with Operations() as operations:
            attachment = self.make(b"")
            self.assertFalse(attachment.raw)
        self.assertEqual(operations.names, [])

    def test_overwrite_and_unlink_note_the_old_content(self):
        attachment = self.make()
        old = attachment.store_fname
        attachment.raw = os.urandom(10)
        new = attachment.store_fname
        attachment.unlink()
        noted = self.env["attachment.s3.garbage"].search([("uri", "in", [old, new])])
        self.assertEqual(set(noted.mapped("uri")), {old, new})
        self.assertTrue(self.objects.exists(old))

    def test_two_contents_with_one_sha1_stay_two(self):
        first, second = os.urandom(10), os.urandom(10)
        path = "odoo.addons.base.models.ir_attachment.IrAttachment._compute_checksum"
        with patch(path, lambda self, content: "0" * 40):
            one = self.make(first) + self.make(second)
            both = self.attachment.create(
                [{"name": str(i), "raw": raw} for i, raw in enumerate([second, first])]
            )
        (one + both).invalidate_recordset()
        self.assertEqual(one.mapped("raw"), [first, second])
        self.assertEqual(both.mapped("raw"), [second, first])

    def test_binary_field_of_a_record(self):
        partner = self.env["res.partner"].create({"name": "x"})
        large = PNG + os.urandom(60_000)
        attachment = self.attachment.create(
            {
                "name": "image_1920",
                "res_model": "res.partner",
                "res_id": partner.id,
                "res_field": "image_1920",
                "raw": large,
                "mimetype": "image/png",
            }
        )
        self.assertTrue(attachment.store_fname.startswith("s3://"))
        partner.invalidate_recordset()
        self.assertTrue(partner.image_1920)


@tagged("post_install", "-at_install")
class TestErrors(S3Case):
    def test_missing_object_reads_as_empty_and_is_logged(self):
        attachment = self.make()
        self.objects.delete(attachment.store_fname)
        attachment.invalidate_recordset()
        logger = "odoo.addons.attachment_s3.models.ir_attachment"
        with Operations() as operations, self.assertLogs(logger, "ERROR") as logs:
            self.assertEqual(attachment.raw, b"")
        self.assertIn(attachment.store_fname, logs.output[0])
        self.assertEqual(type(operations.all[0].error).__name__, "S3ObjectMissing")

    def test_corrupt_object_is_never_returned(self):
        raw = os.urandom(1000)
        attachment = self.make(raw)
        self.objects.put(attachment.store_fname, raw[:-1] + bytes([raw[-1] ^ 1]))
        attachment.invalidate_recordset()
        with self.assertRaises(S3ContentError):
            attachment.raw  # noqa: B018
        self.objects.put(attachment.store_fname, raw)

    def test_outage_is_an_error_and_no_empty_value(self):
        attachment = self.make()
        attachment.invalidate_recordset()
        for changes in (
            {"AWS_HOST": "http://127.0.0.1:9", "AWS_MAX_ATTEMPTS": "1"},
            {"AWS_SECRET_ACCESS_KEY": "hidden-value"},
            {"AWS_ACCESS_KEY_ID": "nobody"},
        ):
            with variables(**changes), self.assertRaises(S3Error) as caught:
                attachment.raw  # noqa: B018
            self.assertNotIn("hidden-value", str(caught.exception))
            with variables(**changes), self.assertRaises(S3Error):
                self.make()
        self.assertTrue(attachment.raw)

    def test_404_of_another_server_is_no_missing_object(self):
        """Such as that of an ingress without a backend, or of a wrong AWS_HOST."""
        attachment = self.make()
        attachment.invalidate_recordset()
        server = urlsplit(self.objects.config.connection.host)
        with FaultProxy((server.hostname, server.port)) as proxy:
            proxy.fail(partial(proxy.do_answer, 404, "NotFound"))
            with (
                variables(AWS_HOST=proxy.url),
                self.assertRaisesRegex(S3Unavailable, "check AWS_HOST"),
            ):
                attachment.raw  # noqa: B018
            store = replace(
                self.objects.config.store(),
                connection=replace(self.objects.config.connection, host=proxy.url),
            )
            with self.assertRaises(S3Unavailable):
                store.delete(["not-confirmed"])

    def test_overwriting_in_the_database_notes_the_old_content(self):
        attachment = self.make()
        uri = attachment.store_fname
        with variables(AWS_ATTACHMENT_READONLY="1"):
            attachment.raw = b"new"
        self.assertFalse(attachment.store_fname)
        self.assertTrue(self.env["attachment.s3.garbage"].search([("uri", "=", uri)]))

    def test_nothing_is_stored_when_the_upload_fails(self):
        before = self.attachment.search_count([])
        with (
            variables(AWS_BUCKETNAME="nobody-odoo-prod"),
            self.assertRaisesRegex(S3Error, "nobody-odoo-prod"),
            self.env.cr.savepoint(),
        ):
            self.make()
        self.assertEqual(self.attachment.search_count([]), before)


@tagged("post_install", "-at_install")
class TestCopy(S3Case):
    def setUp(self):
        super().setUp()
        # what is committed cannot be seen from a test's transaction
        self.referenced = self.enterContext(
            patch.object(
                self.registry["attachment.s3.garbage"],
                "_is_true_now",
                autospec=True,
                return_value=True,
            )
        )

    def test_copy_costs_no_request(self):
        raw = os.urandom(1000)
        attachment = self.make(raw, mimetype="text/plain")
        with Operations() as operations:
            copy = attachment.copy({"name": "other"})
        self.assertEqual(operations.names, [])
        self.assertEqual(copy.store_fname, attachment.store_fname)
        self.assertEqual(copy.checksum, attachment.checksum)
        self.assertEqual(copy.file_size, 1000)
        self.assertEqual(copy.name, "other")
        self.assertEqual(copy.mimetype, "text/plain")
        copy.invalidate_recordset()
        self.assertEqual(copy.raw, raw)

    def test_copy_of_what_may_be_gone_is_written_again(self):
        attachment = self.make()
        self.referenced.return_value = False
        with Operations() as operations:
            copy = attachment.copy()
        self.assertEqual(operations.names, ["get", "put"])
        self.assertEqual(copy.store_fname, attachment.store_fname)

    def test_copy_with_another_content(self):
        attachment = self.make()
        copy = attachment.copy({"raw": b"other"})
        self.assertEqual(copy.raw, b"other")

    def test_same_content_costs_no_request(self):
        attachment = self.make()
        raw = attachment.raw
        with Operations() as operations:
            second = self.make(raw)
        self.assertEqual(operations.names, [])
        self.assertEqual(second.store_fname, attachment.store_fname)

    def test_copy_while_the_store_must_not_be_used_keeps_the_content(self):
        attachment = self.make()
        with variables(DISABLE_ATTACHMENT_STORAGE="1"):
            copy = attachment.copy()
        self.assertEqual(copy.store_fname, attachment.store_fname)

    def test_client_names_no_content_by_the_defaults_of_its_context(self):
        secret = self.make(b"secret content")
        user = new_test_user(self.env, "attachment_s3_user", "base.group_user")
        attachments = self.attachment.with_user(user).with_context(
            default_store_fname=secret.store_fname,
            default_checksum=secret.checksum,
            default_file_size=14,
        )
        mine = attachments.create({"name": "x"})
        self.assertFalse(mine.sudo().store_fname)
        self.assertFalse(mine.raw)

    def test_client_reads_no_content_by_a_record_that_is_not_stored(self):
        secret = self.make(b"secret content")
        user = new_test_user(self.env, "attachment_s3_user", "base.group_user")
        values = {"name": "x", "store_fname": secret.store_fname}
        spec = {"name": {}, "store_fname": {}, "raw": {}, "datas": {}}
        attachments = self.attachment.with_user(user)
        for changed in ([], ["store_fname"]):
            answer = attachments.onchange(values, changed, spec)["value"]
            self.assertFalse(answer.get("raw") or answer.get("datas"), changed)
        mine = attachments.create({"name": "mine", "raw": os.urandom(1000)})
        form = attachments.new({"name": "x"}, origin=mine)
        self.assertEqual(form.raw, mine.raw)
        self.env.invalidate_all()
        self.assertFalse(attachments.new(values, origin=mine).raw)

    def test_nobody_names_a_content_that_is_not_his(self):
        secret = self.make(b"secret content")
        user = new_test_user(self.env, "attachment_s3_user", "base.group_user")
        values = {
            "name": "x",
            "attachment_s3_copy_of": {"store_fname": secret.store_fname},
            "store_fname": secret.store_fname,
        }
        mine = self.attachment.with_user(user).create(values)
        self.assertFalse(mine.sudo().store_fname)
        mine.write({"store_fname": secret.store_fname})
        self.assertFalse(mine.sudo().store_fname)

    def test_copy_needs_read_access(self):
        attachment = self.make()
        user = new_test_user(self.env, "attachment_s3_user", "base.group_user")
        with self.assertRaises(AccessError):
            attachment.with_user(user).copy()


@tagged("post_install", "-at_install")
class TestPlacement(S3Case):
    def test_small_image_stays_in_the_database_and_is_not_uploaded(self):
        with Operations() as operations:
            attachment = self.make(PNG, mimetype="image/png")
            css = self.make(b"a{}" * 50_000, mimetype="text/css")
        self.assertEqual(operations.names, [])
        self.assertFalse(attachment.store_fname)
        self.assertFalse(css.store_fname)
        self.assertEqual(attachment.raw, PNG)

    def test_same_content_in_both_places(self):
        both = self.attachment.create(
            [
                {"name": "a", "raw": PNG, "mimetype": "image/png"},
                {"name": "b", "raw": PNG, "mimetype": "application/pdf"},
            ]
        )
        both.invalidate_recordset()
        self.assertEqual([bool(a.store_fname) for a in both], [False, True])
        self.assertEqual(both.mapped("raw"), [PNG, PNG])

    def test_overwriting_moves_between_the_places(self):
        attachment = self.make(PNG, mimetype="image/png")
        attachment.write({"raw": b"text", "mimetype": "text/plain"})
        self.assertTrue(attachment.store_fname)
        self.assertFalse(attachment.db_datas)
        old = attachment.store_fname
        attachment.write({"raw": PNG, "mimetype": "image/png"})
        self.assertFalse(attachment.store_fname)
        self.assertTrue(
            self.env["attachment.s3.garbage"].search_count([("uri", "=", old)])
        )

    def test_own_rules(self):
        self.env["ir.config_parameter"].set_param(PLACEMENT, '{"text/plain": 3}')
        self.assertFalse(self.make(b"abc", mimetype="text/plain").store_fname)
        self.assertTrue(self.make(b"abcd", mimetype="text/plain").store_fname)
        self.assertTrue(self.make(PNG, mimetype="image/png").store_fname)

    def test_files_of_asset_bundles_stay_in_the_database(self):
        for name, mimetype in (
            ("x.min.css", "text/css"),
            ("x.min.js", "application/javascript"),
            ("x.min.js.map", "application/json"),
            ("x.min.xml", "text/xml"),
        ):
            values = {"name": name, "url": f"/web/assets/1/{name}", "public": True}
            attachment = self.make(b"{}" * 50_000, mimetype=mimetype, **values)
            self.assertFalse(attachment.store_fname, name)
            self.assertFalse(attachment.env.context)


@tagged("post_install", "-at_install")
class TestOtherLocations(S3Case):
    def test_rows_of_the_database_and_local_files_still_read(self):
        local, stored = os.urandom(10), os.urandom(10)
        set_param = self.env["ir.config_parameter"].set_param
        set_param(LOCATION, "file")
        file = self.make(local)
        set_param(LOCATION, "db")
        row = self.make(stored)
        set_param(LOCATION, "s3://")
        (file + row).invalidate_recordset()
        self.assertEqual((file + row).mapped("raw"), [local, stored])
        self.assertTrue(row.db_datas)
        file.raw = b"new"
        self.assertTrue(file.store_fname.startswith("s3://"))

    def test_objects_still_read_after_switching_away(self):
        raw = os.urandom(10)
        attachment = self.make(raw)
        for location in ("file", "db"):
            self.env["ir.config_parameter"].set_param(LOCATION, location)
            attachment.invalidate_recordset()
            self.assertEqual(attachment.raw, raw)

    def test_readonly_reads_writes_to_the_database_and_deletes_nothing(self):
        attachment = self.make()
        uri, raw = attachment.store_fname, attachment.raw
        self.env["ir.config_parameter"].set_param(READONLY, "1")
        attachment.invalidate_recordset()
        self.assertEqual(attachment.raw, raw)
        with Operations() as operations:
            new = self.make(b"new")
            attachment.raw = b"changed"
            attachment.unlink()
            self.env["attachment.s3.garbage"]._collect()
        self.assertEqual(operations.names, [])
        self.assertEqual(new.db_datas, b"new")
        self.assertTrue(self.objects.exists(uri))
        with self.assertRaises(UserError):
            self.attachment.force_storage()

    def test_disabled_storage_is_not_asked(self):
        attachment = self.make()
        attachment.invalidate_recordset()
        with variables(DISABLE_ATTACHMENT_STORAGE="1"), Operations() as operations:
            with self.assertLogs("odoo.addons.attachment_s3", "WARNING"):
                self.assertFalse(attachment.raw)
            self.assertTrue(self.make(b"new").db_datas)
        self.assertEqual(operations.names, [])

    def test_addresses_of_2016_are_read(self):
        raw = os.urandom(10)
        digest = hashlib.sha1(raw).hexdigest()
        uri = f"s3://{os.environ['AWS_BUCKETNAME']}/{digest}"
        self.objects.put(uri, raw)
        self.assertEqual(self.attachment._file_read(uri), raw)
        self.objects.put(uri, raw + b"x")
        with self.assertRaises(S3ContentError):
            self.attachment._file_read(uri)
        self.objects.delete(uri)
