"""A statsd client that waits for nothing: no name resolution, no full socket."""

import contextlib
import logging
import os
import socket
import threading
import time
from collections import deque

from statsd import StatsClient

_logger = logging.getLogger(__name__)

# How long an address is used before the name is resolved again, in seconds: a statsd
# server that moves gets its metrics again.
ADDRESS_LIFE_SECONDS = 300
# Pause after a resolution that failed, in seconds.
RETRY_SECONDS = 10
# Packets kept until the first address is known; the oldest are dropped.
PENDING_PACKETS = 200


class NonBlockingStatsClient(StatsClient):
    """Sends UDP packets; resolves the name in the background, again and again.

    The library's own client resolves once, in its constructor, and raises when that
    fails. A packet that cannot be sent at once is dropped.

    :param str host: name or address
    :param int port:
    :param str prefix: first part of all names
    :param int maxudpsize: largest packet, in bytes
    """

    def __init__(self, host, port, prefix, maxudpsize):
        # not super().__init__(), which resolves the name
        self._host = host
        self._port = port
        self._prefix = prefix
        self._maxudpsize = maxudpsize
        self._lock = threading.Lock()
        self._pending = deque(maxlen=PENDING_PACKETS)
        self._pid = os.getpid()
        self._addr = None
        self._sock = None
        self._sock_family = None
        self._resolve_at = 0.0
        self._resolving = False
        self._failed = False

    def _send(self, data):
        packet = data.encode("ascii", "replace")
        if self._pid != os.getpid():
            # A thread that resolves does not live on in a forked worker.
            self._pid = os.getpid()
            self._lock = threading.Lock()
            self._resolving = False
        if time.monotonic() >= self._resolve_at:
            self._resolve_in_background()
        if self._addr is None:
            self._pending.append(packet)
        else:
            self._send_packet(packet)

    def _send_packet(self, packet):
        # A metric is never worth an error or a wait: nobody listens, or the socket's
        # buffer is full.
        with contextlib.suppress(OSError):
            self._sock.sendto(packet, self._addr)

    def _resolve_in_background(self):
        with self._lock:
            if self._resolving:
                return
            self._resolving = True
        threading.Thread(
            target=self._resolve, name="monitoring_statsd.resolve", daemon=True
        ).start()

    def _resolve(self):
        wait = RETRY_SECONDS
        try:
            found = socket.getaddrinfo(self._host, self._port, type=socket.SOCK_DGRAM)
            # IPv4 first, as the library does: `localhost` is often both, while statsd
            # listens on 127.0.0.1.
            found.sort(key=lambda info: info[0] != socket.AF_INET)
            family, _type, _proto, _name, address = found[0]
            self._use(family, address)
            wait = ADDRESS_LIFE_SECONDS
            if self._failed:
                _logger.info("statsd server %s found", self._host)
            self._failed = False
        except OSError as error:
            # told once, then again after the next success
            if not self._failed:
                _logger.warning(
                    "statsd server %s not found, trying again every %s s: %s",
                    self._host,
                    RETRY_SECONDS,
                    error,
                )
            self._failed = True
        finally:
            self._resolve_at = time.monotonic() + wait
            self._resolving = False

    def _use(self, family, address):
        if self._sock is None or self._sock_family != family:
            sock = socket.socket(family, socket.SOCK_DGRAM)
            sock.setblocking(False)
            # The former socket is closed when the last sender lets go of it.
            self._sock, self._sock_family = sock, family
        self._addr = address
        while self._pending:
            try:
                packet = self._pending.popleft()
            except IndexError:  # another thread took the last one
                break
            self._send_packet(packet)
