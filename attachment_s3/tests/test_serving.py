import io
import os
from datetime import datetime, timedelta
from urllib.parse import parse_qs, urlsplit

from PIL import Image

from odoo.tests import BaseCase, HttpCase, new_test_user, tagged
from odoo.tools import mute_logger

from ..configuration import LOCATION
from ..serving import INERT_TYPES, PROXY, REDIRECT, X_ACCEL, may_redirect
from .common import Objects, Operations, variables


class ServingCase(HttpCase):
    """An attachment in S3, served by a policy."""

    allow_inherited_tests_method = True
    policy = PROXY

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.enterClassContext(variables(AWS_ATTACHMENT_SERVING=cls.policy))
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


class ServingContract:
    """What a client may expect, whoever sends the content."""

    def test_whole_content_is_one_get(self):
        with Operations() as operations:
            response = self.get()
            self.assertEqual(operations.wait_for(1), ["get"])
        self.assertEqual(response.status_code, 200)
        self.assertEqual(response.content, self.raw)
        self.assertEqual(response.headers["Content-Length"], "600000")
        self.assertEqual(response.headers["Accept-Ranges"], "bytes")

    def test_headers_are_those_of_odoo(self):
        queries = ["", "&unique=1"]
        if self.policy != REDIRECT:
            queries.append("&download=1")  # the store's own
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
            for query in queries:
                response, expected = (
                    self.get(self.path + query),
                    self.get(other + query),
                )
                self.assertEqual(response.content, expected.content)
                for headers in (response.headers, expected.headers):
                    for own in (
                        "ETag",
                        "Accept-Ranges",
                        "Date",
                        "Expires",
                        "Set-Cookie",
                    ):
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

    def test_last_bytes_of_a_shorter_content_are_the_whole(self):
        response = self.get(Range="bytes=-700000")
        self.assertEqual(response.status_code, 200)
        self.assertEqual(response.content, self.raw)

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

    def test_malformed_range_gives_the_whole(self):
        for text in ("bytes=9-1", "bytes=x", "lines=1-2", "bytes=-"):
            response = self.get(Range=text)
            self.assertEqual(response.status_code, 200, text)
            self.assertEqual(response.content, self.raw)

    def test_file_to_save(self):
        response = self.get(self.path + "&download=1")
        self.assertEqual(response.status_code, 200)
        self.assertEqual(response.content, self.raw)
        self.assertEqual(response.headers["Content-Type"], "application/x-test")

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
            {"name": "m", "raw": b"m" * 100, "public": True}
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


@tagged("post_install", "-at_install")
class TestServing(ServingContract, ServingCase):
    pass


@tagged("post_install", "-at_install")
class TestServingRedirect(ServingContract, ServingCase):
    policy = REDIRECT

    NAVIGATION = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}

    def ask(self, path=None, method="GET", **headers):
        """Ask Odoo, and do not follow."""
        return self.opener.request(
            method,
            self.base_url() + (path or self.path + "&download=1"),
            headers={name.replace("_", "-"): value for name, value in headers.items()},
            allow_redirects=False,
            timeout=20,
        )

    def make(self, mimetype, **vals):
        attachment = self.attachment.copy(
            {"name": "other", "raw": os.urandom(1000), "public": True, **vals}
        )
        attachment.mimetype = mimetype
        self.env.flush_all()
        self.assertTrue(attachment.store_fname)
        self.assertEqual(attachment.mimetype, mimetype)
        return attachment

    def test_browser_fetches_a_file_to_save_from_the_store(self):
        with Operations() as operations:
            response = self.ask()
        self.assertEqual(response.status_code, 302)
        self.assertEqual(operations.names, [])
        url = response.headers["Location"]
        self.assertTrue(url.startswith(os.environ["AWS_HOST"]))
        self.assertEqual(parse_qs(urlsplit(url).query)["X-Amz-Expires"], ["60"])
        answer = self.opener.get(url, timeout=20)
        self.assertEqual(answer.content, self.raw)
        expected = self.ask(Range="bytes=0-600000")  # by Odoo itself
        for name in ("Content-Type", "Content-Disposition"):
            self.assertEqual(answer.headers[name], expected.headers[name])
        self.assertEqual(answer.headers["Cache-Control"], "private, max-age=60")

    def test_no_cache_keeps_the_address(self):
        for query in ("", "&unique=1"):
            response = self.ask(self.path + "&download=1" + query)
            self.assertEqual(response.status_code, 302)
            self.assertEqual(response.headers["Cache-Control"], "no-store, private")
            for name in ("Expires", "ETag", "Last-Modified"):
                self.assertNotIn(name, response.headers)

    def test_address_is_good_for_this_content_as_it_is_only(self):
        url = self.ask().headers["Location"]
        self.assertIn("attachment%3B", url)
        shown = url.replace("attachment%3B", "inline%3B")
        self.assertEqual(self.opener.get(shown, timeout=20).status_code, 403)
        longer = url.replace("X-Amz-Expires=60", "X-Amz-Expires=3600")
        self.assertEqual(self.opener.get(longer, timeout=20).status_code, 403)
        self.assertEqual(self.opener.put(url, b"x", timeout=20).status_code, 403)

    def test_address_expires(self):
        with variables(AWS_ATTACHMENT_URL_SECONDS="5"):
            url = self.ask().headers["Location"]
        query = parse_qs(urlsplit(url).query)
        self.assertEqual(query["X-Amz-Expires"], ["5"])
        signed = datetime.strptime(query["X-Amz-Date"][0], "%Y%m%dT%H%M%SZ")
        self.assertLess(abs(datetime.utcnow() - signed), timedelta(seconds=20))

    def test_browsers_may_know_the_store_by_another_name(self):
        public = os.environ["AWS_HOST"].replace("127.0.0.1", "localhost")
        with variables(AWS_PUBLIC_HOST=public):
            url = self.ask().headers["Location"]
            self.assertTrue(url.startswith(public))
            self.assertEqual(self.opener.get(url, timeout=20).content, self.raw)
            with Operations() as operations:  # Odoo goes on to use its own name
                self.assertEqual(self.get().content, self.raw)
                self.assertEqual(operations.wait_for(1), ["get"])

    def test_pdf_and_picture_in_a_tab_of_their_own(self):
        for mimetype in ("application/pdf", "image/png"):
            path = f"/web/content/{self.make(mimetype).id}"
            response = self.ask(path, **self.NAVIGATION)
            self.assertEqual(response.status_code, 302, mimetype)
            answer = self.opener.get(response.headers["Location"], timeout=20)
            self.assertEqual(answer.headers["Content-Type"], mimetype)
            self.assertTrue(answer.headers["Content-Disposition"].startswith("inline"))

    def test_what_could_run_is_never_shown_by_the_store(self):
        for mimetype in (
            "text/html",
            "image/svg+xml",
            "text/xml",
            "application/xhtml+xml",
            "application/javascript",
            "text/plain",
            "application/octet-stream",
            "application/x-unknown",
        ):
            attachment = self.make(mimetype)
            path = f"/web/content/{attachment.id}"
            response = self.ask(path, **self.NAVIGATION)
            self.assertEqual(response.status_code, 200, mimetype)
            self.assertEqual(response.content, attachment.raw)
            policy = response.headers["Content-Security-Policy"]
            self.assertEqual(policy, "default-src 'none'")
            self.assertEqual(response.headers["X-Content-Type-Options"], "nosniff")
            response = self.ask(f"{path}?download=1", **self.NAVIGATION)
            self.assertEqual(response.status_code, 302, mimetype)

    def test_type_that_the_client_names_counts(self):
        path = f"/web/content/{self.make('image/png').id}?mimetype=text/html"
        response = self.ask(path, **self.NAVIGATION)
        self.assertEqual(response.status_code, 200)
        self.assertIn("Content-Security-Policy", response.headers)

    def test_picture_is_resized_by_odoo(self):
        picture = io.BytesIO()
        Image.effect_noise((400, 400), 100).save(picture, "PNG")
        image = self.make("image/png", raw=picture.getvalue())
        path = f"/web/image/{image.id}"
        response = self.ask(f"{path}/50x50", **self.NAVIGATION)
        self.assertEqual(response.status_code, 200)
        self.assertEqual(Image.open(io.BytesIO(response.content)).size, (50, 50))
        self.assertEqual(self.ask(path, **self.NAVIGATION).status_code, 302)

    def test_scripts_and_pages_get_it_from_odoo(self):
        for mode in ("cors", "same-origin", "no-cors"):
            self.assertEqual(self.ask(Sec_Fetch_Mode=mode).status_code, 200, mode)
        path = f"/web/content/{self.make('application/pdf').id}"
        frame = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}
        self.assertEqual(self.ask(path, **frame).status_code, 200)
        self.assertEqual(self.ask(path).status_code, 200)

    def test_what_needs_no_content_is_answered_by_odoo(self):
        with Operations() as operations:
            response = self.ask(Range="bytes=600000-")
            self.assertEqual(response.status_code, 416)
            etag = self.ask(method="HEAD").headers["ETag"]
            self.assertEqual(self.ask(If_None_Match=etag).status_code, 304)
        self.assertEqual(operations.names, [])

    def test_parts_come_from_odoo(self):
        response = self.ask(Range="bytes=5-9")
        self.assertEqual(response.status_code, 206)
        self.assertEqual(response.content, self.raw[5:10])

    def test_nobody_gets_an_address_without_the_right(self):
        secret = self.env["ir.attachment"].create({"name": "s", "raw": b"s" * 100})
        path = f"/web/content/{secret.id}?download=1"
        self.assertEqual(self.ask(path).status_code, 404)
        self.assertEqual(self.ask(f"{path}&access_token=no").status_code, 404)
        new_test_user(self.env, "attachment_s3_portal", "base.group_portal")
        self.authenticate("attachment_s3_portal", "attachment_s3_portal")
        self.assertEqual(self.ask(path).status_code, 404)
        self.authenticate("admin", "admin")
        self.assertEqual(self.ask(path).status_code, 302)

    def test_address_is_not_logged(self):
        with self.assertLogs(level="DEBUG") as logs:
            self.assertEqual(self.ask().status_code, 302)
        self.assertTrue(logs.output)
        for line in logs.output:
            self.assertNotIn("X-Amz-", line)


@tagged("post_install", "-at_install")
class TestServingXAccel(ServingContract, ServingCase):
    """Without nginx; with it: ``tests/test_serving_nginx.py`` of the project."""

    policy = X_ACCEL

    def test_nginx_gets_address_and_headers(self):
        with Operations() as operations:
            response = self.get(X_Attachment_S3="x-accel", Range="bytes=5-9")
        self.assertEqual(operations.names, [])
        self.assertEqual(response.status_code, 200)
        self.assertEqual(response.content, b"")
        headers = response.headers
        self.assertEqual(headers["X-Accel-Redirect"], "/attachment_s3/content")
        self.assertEqual(headers["X-Attachment-S3-Range"], "bytes=5-9")
        answer = self.opener.get(headers["X-Attachment-S3-URL"], timeout=20)
        self.assertEqual(answer.content, self.raw)
        # what would stay on nginx's answer when the store has an error
        for name in ("Cache-Control", "Content-Disposition", "Expires"):
            self.assertNotIn(name, headers)

    def test_others_never_see_the_address(self):
        response = self.get()
        self.assertEqual(response.content, self.raw)
        for name in response.headers:
            self.assertNotIn("accel", name.lower())
            self.assertNotIn("attachment-s3", name.lower())


class TestMayRedirect(BaseCase):
    def test_rule(self):
        tab = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
        for expected, method, headers, mimetype, as_attachment in (
            (True, "GET", {}, "text/html", True),
            (True, "GET", tab, "text/html", True),
            (True, "GET", tab, "application/pdf", False),
            (False, "GET", tab, "text/html", False),
            (False, "GET", {}, "application/pdf", False),
            (False, "POST", tab, "application/pdf", True),
            (False, "HEAD", tab, "application/pdf", True),
            (False, "GET", {**tab, "Range": "bytes=0-"}, "application/pdf", True),
            (False, "GET", {"Sec-Fetch-Mode": "cors"}, "application/pdf", True),
        ):
            with self.subTest(method=method, headers=headers, mimetype=mimetype):
                found = may_redirect(method, headers, mimetype, as_attachment)
                self.assertEqual(found, expected)

    def test_nothing_that_can_run_is_inert(self):
        for mimetype in INERT_TYPES:
            self.assertNotRegex(mimetype, r"html|xml|svg|script|text|octet|json")
