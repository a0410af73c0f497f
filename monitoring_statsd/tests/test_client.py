import logging
import os
import socket
import threading
import time
from unittest.mock import patch

from odoo.tests import BaseCase, tagged

from .. import client as client_module
from ..client import NonBlockingStatsClient
from .common import StatsdReceiver

LOGGER = "odoo.addons.monitoring_statsd.client"


@tagged("post_install", "-at_install")
class TestClient(BaseCase):
    def setUp(self):
        super().setUp()
        self.statsd = StatsdReceiver()
        self.addCleanup(self.statsd.close)

    def client(self, host="127.0.0.1", port=None):
        return NonBlockingStatsClient(host, port or self.statsd.port, "odoo", 512)

    def test_first_metrics_wait_for_the_name_and_arrive(self):
        client = self.client("localhost")
        client.incr("first")
        client.incr("second")
        lines = self.statsd.lines("odoo.second:")
        self.assertEqual(lines, ["odoo.first:1|c", "odoo.second:1|c"])

    def test_slow_name_resolution_does_not_block(self):
        release = threading.Event()
        self.addCleanup(release.set)
        real = socket.getaddrinfo

        def slow(*args, **kwargs):
            release.wait(30)
            return real("127.0.0.1", *args[1:], **kwargs)

        with patch.object(client_module.socket, "getaddrinfo", slow):
            client = self.client("slow.invalid")
            started = time.monotonic()
            for _turn in range(1000):
                client.incr("x")
            client.incr("last")
            self.assertLess(time.monotonic() - started, 1)
            release.set()
            lines = self.statsd.lines("odoo.last:")
        self.assertEqual(len(lines), client_module.PENDING_PACKETS)

    def test_failed_resolution_is_told_once_and_tried_again(self):
        real = socket.getaddrinfo
        fail = True
        tried = threading.Semaphore(0)

        def getaddrinfo(host, *args, **kwargs):
            try:
                if fail:
                    raise socket.gaierror(-2, "Name or service not known")
                return real("127.0.0.1", *args, **kwargs)
            finally:
                tried.release()

        with (
            patch.object(client_module.socket, "getaddrinfo", getaddrinfo),
            patch.object(client_module, "RETRY_SECONDS", 0),
            # not "INFO", by which Odoo means a level of its own
            self.assertLogs(LOGGER, logging.INFO) as logs,
        ):
            client = self.client("statsd.invalid")
            for _turn in range(3):
                client.incr("early")
                self.assertTrue(tried.acquire(timeout=10))
                self.wait_for_thread()
            fail = False
            client.incr("late")
            self.statsd.lines("odoo.late:")
            self.wait_for_thread()
        self.assertEqual(
            [record.levelname for record in logs.records], ["WARNING", "INFO"]
        )
        self.assertIn("statsd.invalid", logs.output[0])

    def wait_for_thread(self):
        for thread in threading.enumerate():
            if thread.name == "monitoring_statsd.resolve":
                thread.join(10)

    def test_nobody_listens_is_no_error(self):
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.bind(("127.0.0.1", 0))
            port = sock.getsockname()[1]
        client = self.client(port=port)
        for _turn in range(10):
            client.incr("x")
            self.wait_for_thread()

    def test_full_socket_drops_and_does_not_wait(self):
        client = self.client()
        client.incr("x")
        self.statsd.lines("odoo.x:")
        with patch.object(client, "_sock") as full:
            full.sendto.side_effect = BlockingIOError
            client.incr("dropped")
            full.sendto.assert_called_once()
        self.assertFalse(client._sock.getblocking())

    def test_worker_forked_while_a_name_is_resolved_sends_too(self):
        release = threading.Event()
        self.addCleanup(release.set)
        real = socket.getaddrinfo
        parent = os.getpid()

        def getaddrinfo(*args, **kwargs):
            if os.getpid() == parent:
                release.wait(30)
            return real("127.0.0.1", *args[1:], **kwargs)

        with patch.object(client_module.socket, "getaddrinfo", getaddrinfo):
            client = self.client("slow.invalid")
            client.incr("parent")
            pid = os.fork()
            if not pid:
                try:
                    client.incr("child")
                    self.wait_for_thread()
                finally:
                    os._exit(0)
            self.assertEqual(os.waitpid(pid, 0)[1], 0)
            lines = self.statsd.lines("odoo.child:")
        self.assertIn("odoo.child:1|c", lines)
