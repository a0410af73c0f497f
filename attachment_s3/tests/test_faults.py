import os
import time
from functools import partial
from urllib.parse import urlsplit

from odoo.tests import tagged

from ..exceptions import (
    S3AccessDenied,
    S3BucketMissing,
    S3ConfigurationError,
    S3ContentError,
    S3Unavailable,
)
from ..store import Download
from .common import S3Case, variables
from .fault_proxy import FaultProxy

#: far more than the timeouts below need; a bound against a hang
SECONDS = 30


@tagged("post_install", "-at_install")
class TestFaults(S3Case):
    """The real store behind a proxy that fails."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        server = urlsplit(cls.objects.config.connection.host)
        cls.proxy = FaultProxy((server.hostname, server.port))
        cls.enterClassContext(cls.proxy)

    def setUp(self):
        super().setUp()
        self.proxy.work()
        self.enterContext(
            variables(
                AWS_HOST=self.proxy.url,
                AWS_CONNECT_TIMEOUT="2",
                AWS_READ_TIMEOUT="2",
                AWS_MAX_ATTEMPTS="2",
            )
        )
        self.raw = os.urandom(100_000)
        self.attachment = self.make(self.raw)
        self.store = self.attachment._s3_configuration().store()

    def read_again(self):
        self.attachment.invalidate_recordset()
        return self.attachment.raw

    def check(self, error, fault, reading=True, writing=True):
        """A fault is a named error in bounded time, and then all is well again."""
        started = time.monotonic()
        self.proxy.fail(fault)
        if reading:
            with self.assertRaises(error):
                self.read_again()
        if writing:
            with self.assertRaises(error), self.env.cr.savepoint():
                self.make()
        self.assertLess(time.monotonic() - started, SECONDS)
        self.proxy.work()
        self.assertEqual(self.read_again(), self.raw)

    def test_connection_is_reset(self):
        self.check(S3Unavailable, self.proxy.do_reset)

    def test_no_answer(self):
        self.check(S3Unavailable, self.proxy.do_nothing)

    def test_no_http(self):
        self.check(S3Unavailable, self.proxy.do_garbage)

    def test_body_that_stalls(self):
        self.check(S3Unavailable, partial(self.proxy.do_stall, 1000), writing=False)

    def test_body_that_is_always_truncated(self):
        self.check(S3Unavailable, partial(self.proxy.do_truncate, 0), writing=False)

    def test_server_errors(self):
        for status, code in ((500, "InternalError"), (503, "SlowDown")):
            self.check(S3Unavailable, partial(self.proxy.do_answer, status, code))

    def test_refused_credentials(self):
        for code in (
            "AccessDenied",
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "RequestTimeTooSkewed",
        ):
            self.check(S3AccessDenied, partial(self.proxy.do_answer, 403, code))

    def test_wrong_region(self):
        self.check(
            S3ConfigurationError,
            partial(self.proxy.do_answer, 400, "AuthorizationHeaderMalformed"),
        )

    def test_bucket_is_gone(self):
        fault = partial(self.proxy.do_answer, 404, "NoSuchBucket")
        self.check(S3BucketMissing, fault)

    def test_corrupt_content_is_not_returned(self):
        self.check(S3ContentError, self.proxy.do_corrupt, writing=False)

    def test_tls_failure(self):
        secure = self.proxy.url.replace("http:", "https:")
        self.proxy.fail(self.proxy.do_garbage)
        with variables(AWS_HOST=secure), self.assertRaises(S3Unavailable):
            self.read_again()

    def test_connection_is_refused(self):
        with FaultProxy(self.proxy.target) as gone:
            pass
        with variables(AWS_HOST=gone.url), self.assertRaises(S3Unavailable):
            self.read_again()
        self.assertEqual(self.read_again(), self.raw)

    def test_one_failure_is_tried_again(self):
        for fault in (
            self.proxy.do_reset,
            partial(self.proxy.do_answer, 503, "SlowDown"),
        ):
            self.proxy.fail(fault, times=1)
            self.assertEqual(self.read_again(), self.raw)
            self.assertEqual(self.proxy.requests, 2)
            self.proxy.fail(fault, times=1)
            self.make()

    def test_body_that_breaks_off_is_continued(self):
        for length in (0, 1, 60_000, 99_999):
            self.proxy.fail(partial(self.proxy.do_truncate, length), times=1)
            self.assertEqual(self.read_again(), self.raw, length)
            self.assertEqual(self.proxy.requests, 2)

    def test_part_that_breaks_off_is_continued(self):
        key = self.attachment.store_fname.partition(f"{self.store.bucket}/")[2]
        for length in (0, 10, 49_999):
            self.proxy.fail(partial(self.proxy.do_truncate, length), times=1)
            with Download(self.store, key, 20_000, 70_000, 100_000) as download:
                self.assertEqual(b"".join(download), self.raw[20_000:70_000])

    def test_corrupt_content_ends_before_it_is_complete(self):
        key = self.attachment.store_fname.partition(f"{self.store.bucket}/")[2]
        self.proxy.fail(self.proxy.do_corrupt)
        received = b""
        with (
            self.assertRaises(S3ContentError),
            Download(self.store, key, 0, 100_000, 100_000) as download,
        ):
            for chunk in download:
                received += chunk
        self.assertLess(len(received), 100_000)

    def test_object_of_another_size_is_noticed_at_once(self):
        key = self.attachment.store_fname.partition(f"{self.store.bucket}/")[2]
        with self.assertRaises(S3ContentError):
            Download(self.store, key, 0, 10, 99_999)

    def test_errors_name_the_store_and_hide_the_secret(self):
        self.proxy.fail(partial(self.proxy.do_answer, 403, "AccessDenied"))
        with self.assertRaises(S3AccessDenied) as caught:
            self.read_again()
        self.assertIn(self.proxy.url, str(caught.exception))
        self.assertIn(self.store.bucket, str(caught.exception))
        secret = os.environ["AWS_SECRET_ACCESS_KEY"]
        self.assertNotIn(secret, str(caught.exception) + repr(caught.exception))
