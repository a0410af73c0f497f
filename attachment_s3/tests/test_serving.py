import io
import os

from PIL import Image

from odoo.tests import HttpCase, new_test_user, tagged
from odoo.tools import mute_logger

from ..configuration import LOCATION
from .common import Objects, Operations, variables


@tagged("post_install", "-at_install")
class TestServing(HttpCase):
    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.env["ir.config_parameter"].set_param(LOCATION, "s3://")
        cls.raw = os.urandom(600_000)
        cls.attachment = cls.env["ir.attachment"].create(
            {"name": "Zoë 文.bin", "raw": cls.raw, "mimetype": "application/x-test"}
        )
        cls.attachment.generate_access_token()
        cls.env.flush_all()
        cls.path = (
            f"/web/content/{cls.attachment.id}"
            f"?access_token={cls.attachment.access_token}"
        )
        cls.objects = Objects(cls.env)

    def get(self, path=None, **headers):
        return self.url_open(
            path or self.path,
            headers={name.replace("_", "-"): value for name, value in headers.items()},
        )

    def test_whole_content_is_one_get(self):
        with Operations() as operations:
            response = self.get()
        self.assertEqual(response.status_code, 200)
        self.assertEqual(response.content, self.raw)
        self.assertEqual(response.headers["Content-Length"], "600000")
        self.assertEqual(response.headers["Accept-Ranges"], "bytes")
        self.assertEqual(operations.names, ["get"])

    def test_headers_are_those_of_odoo(self):
        for public in (False, True):
            self.attachment.public = public
            stored = self.attachment.copy({"raw": b"x"})
            stored.with_context(attachment_s3_in_database=True).write(
                {"raw": self.raw, "mimetype": self.attachment.mimetype}
            )
            self.env.flush_all()
            self.assertTrue(stored.db_datas)
            other = self.path.replace(str(self.attachment.id), str(stored.id), 1)
            other = other.replace(
                self.attachment.access_token, stored.generate_access_token()[0]
            )
            for query in ("", "&download=1", "&unique=1"):
                response, expected = (
                    self.get(self.path + query),
                    self.get(other + query),
                )
                self.assertEqual(response.content, expected.content)
                for headers in (response.headers, expected.headers):
                    for own in ("ETag", "Accept-Ranges", "Date", "Set-Cookie"):
                        headers.pop(own, None)
                    headers.pop("Last-Modified", None)
                self.assertEqual(dict(response.headers), dict(expected.headers))

    def test_ranges(self):
        for text, start, stop in (
            ("bytes=0-0", 0, 1),
            ("bytes=100-299", 100, 300),
            ("bytes=599990-", 599_990, 600_000),
            ("bytes=-10", 599_990, 600_000),
            ("bytes=599990-700000", 599_990, 600_000),
        ):
            response = self.get(Range=text)
            self.assertEqual(response.status_code, 206, text)
            self.assertEqual(response.content, self.raw[start:stop], text)
            self.assertEqual(
                response.headers["Content-Range"], f"bytes {start}-{stop - 1}/600000"
            )

    def test_range_beyond_the_end_is_416(self):
        with Operations() as operations:
            self.assertEqual(self.get(Range="bytes=600000-").status_code, 416)
        self.assertEqual(operations.names, [])

    def test_several_ranges_give_the_whole(self):
        response = self.get(Range="bytes=0-1,5-6")
        self.assertEqual(response.status_code, 200)
        self.assertEqual(response.content, self.raw)

    def test_unchanged_content_is_304_without_a_request_to_the_store(self):
        first = self.get()
        etag = first.headers["ETag"]
        modified = first.headers["Last-Modified"]
        self.assertEqual(
            etag.strip('"'), self.attachment.store_fname.rpartition("/")[2]
        )
        with Operations() as operations:
            self.assertEqual(self.get(If_None_Match=etag).status_code, 304)
            self.assertEqual(self.get(If_Modified_Since=modified).status_code, 304)
        self.assertEqual(operations.names, [])
        self.assertEqual(self.get(If_None_Match='"other"').status_code, 200)

    def test_if_range(self):
        etag = self.get().headers["ETag"]
        response = self.get(Range="bytes=0-9", If_Range=etag)
        self.assertEqual(response.content, self.raw[:10])
        response = self.get(Range="bytes=0-9", If_Range='"other"')
        self.assertEqual(response.content, self.raw)

    def test_head_is_answered_without_a_request_to_the_store(self):
        with Operations() as operations:
            response = self.opener.head(self.base_url() + self.path, timeout=20)
        self.assertEqual(response.status_code, 200)
        self.assertEqual(response.headers["Content-Length"], "600000")
        self.assertEqual(operations.names, [])

    def test_download_name_with_any_letters(self):
        response = self.get(self.path + "&download=1")
        disposition = response.headers["Content-Disposition"]
        self.assertTrue(disposition.startswith("attachment"))
        self.assertIn("filename*=UTF-8''Zo%C3%AB%20%E6%96%87.bin", disposition)

    def test_access_is_checked_before_the_store_is_asked(self):
        new_test_user(self.env, "attachment_s3_user", "base.group_user")
        secret = self.env["ir.attachment"].create({"name": "s", "raw": b"s" * 100})
        self.authenticate("attachment_s3_user", "attachment_s3_user")
        with Operations() as operations:
            response = self.get(f"/web/content/{secret.id}")
        self.assertEqual(response.status_code, 404)
        self.assertEqual(operations.names, [])

    def test_image_is_resized(self):
        picture = io.BytesIO()
        Image.effect_noise((400, 400), 100).save(picture, "PNG")
        image = self.env["ir.attachment"].create(
            {"name": "x.png", "raw": picture.getvalue(), "public": True}
        )
        self.assertTrue(image.store_fname)
        response = self.get(f"/web/image/{image.id}/50x50")
        self.assertEqual(Image.open(io.BytesIO(response.content)).size, (50, 50))
        response = self.get(f"/web/image/{image.id}")
        self.assertEqual(response.content, picture.getvalue())
        etag = self.get(f"/web/image/{image.id}/50x50").headers["ETag"]
        with Operations() as operations:
            response = self.get(f"/web/image/{image.id}/50x50", If_None_Match=etag)
        self.assertEqual(response.status_code, 304)
        self.assertEqual(operations.names, [])

    def test_stream_can_be_read(self):
        stream = self.attachment._to_http_stream()
        self.assertEqual(stream.type, "data")
        self.assertEqual(stream.size, 600_000)
        self.assertEqual(stream.read(), self.raw)
        self.assertEqual(stream.data[:5], self.raw[:5])

    def test_missing_object_is_404(self):
        missing = self.env["ir.attachment"].create(
            {"name": "m", "raw": os.urandom(10), "public": True}
        )
        self.objects.delete(missing.store_fname)
        self.assertEqual(self.get(f"/web/content/{missing.id}").status_code, 404)

    @mute_logger("odoo.http")
    def test_outage_is_503_with_retry_after(self):
        with variables(AWS_HOST="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1"):
            response = self.get()
        self.assertEqual(response.status_code, 503)
        self.assertGreater(int(response.headers["Retry-After"]), 0)
        self.assertNotIn("127.0.0.1", response.text)

    @mute_logger("odoo.http")
    def test_outage_in_a_call_is_a_named_error(self):
        self.authenticate("admin", "admin")
        with variables(AWS_HOST="http://127.0.0.1:9", AWS_MAX_ATTEMPTS="1"):
            response = self.url_open(
                "/web/dataset/call_kw",
                json={
                    "params": {
                        "model": "ir.attachment",
                        "method": "read",
                        "args": [self.attachment.ids, ["datas"]],
                        "kwargs": {},
                    }
                },
            )
        self.assertEqual(response.status_code, 503)
        self.assertGreater(int(response.headers["Retry-After"]), 0)
        self.assertIn("S3Unavailable", response.json()["error"]["data"]["name"])
