"""A real statsd socket, and the variables that point at it."""

import os
import socket
import time
from unittest.mock import patch

from .. import metrics, patches


class StatsdReceiver:
    """Receives on a free UDP port of the loopback interface."""

    def __init__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.packets = []

    def close(self):
        self._socket.close()

    def lines(self, until, timeout=20):
        """Return all lines received so far, once one starts with a text.

        :param str until: start of the line waited for
        :param float timeout: seconds; then an AssertionError is raised
        """
        deadline = time.monotonic() + timeout
        while True:
            lines = [line for packet in self.packets for line in packet.split("\n")]
            if any(line.startswith(until) for line in lines):
                return lines
            left = deadline - time.monotonic()
            if left <= 0:
                raise AssertionError(f"no {until!r} in {lines}")
            self._socket.settimeout(left)
            try:
                self.packets.append(self._socket.recv(65536).decode("ascii"))
            except TimeoutError:
                continue

    def forget(self):
        """Drop what was received, and what waits to be."""
        self._socket.setblocking(False)
        try:
            while True:
                self._socket.recv(65536)
        except BlockingIOError:
            self.packets.clear()


class StatsdMixin:
    """Metrics are on, and sent to ``self.statsd``, until the test ends."""

    def start_statsd(self, **env):
        self.statsd = StatsdReceiver()
        self.addCleanup(self.statsd.close)
        settings = {
            "ODOO_STATSD": "1",
            "STATSD_HOST": "127.0.0.1",
            "STATSD_PORT": str(self.statsd.port),
            "STATSD_CUSTOMER": "acme",
            "STATSD_ENVIRONMENT": "prod",
            "STATSD_PREFIX": "odoo",
            **env,
        }
        former = metrics._metrics
        self.addCleanup(setattr, metrics, "_metrics", former)
        with patch.dict(os.environ, settings):
            patches.post_load()
