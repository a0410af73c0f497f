"""Requests as they leave for the store."""

import os

from odoo.tests import tagged

from ..store import ASK_FIRST_BYTES
from .common import S3Case


@tagged("post_install", "-at_install")
class TestRequests(S3Case):
    def setUp(self):
        super().setUp()
        self.store = self.objects.config.store()
        self.heads = []
        events = self.store.client.meta.events
        events.register("before-send.s3", self.keep_head)
        self.addCleanup(events.unregister, "before-send.s3", self.keep_head)

    def keep_head(self, request, **_kwargs):
        self.heads.append(dict(request.headers))

    def put(self, size):
        content = os.urandom(size)
        key = f"test-store/{size}"
        self.addCleanup(self.store.delete, [key])
        self.store.put(key, content)
        [head] = self.heads
        self.assertEqual(self.store.get(key), content)
        return head

    def test_small_content_is_sent_without_asking_first(self):
        for size in (0, 1, ASK_FIRST_BYTES):
            with self.subTest(size):
                self.heads.clear()
                self.assertNotIn("Expect", self.put(size))

    def test_store_is_asked_before_a_large_content(self):
        self.assertIn("Expect", self.put(ASK_FIRST_BYTES + 1))
