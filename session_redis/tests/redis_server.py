"""A Redis of a test's own, to be mistreated."""

import contextlib
import secrets
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
import unittest
from pathlib import Path

import redis


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """A ``redis-server`` process on a free port, with its data in a new folder.

    :param options: lines of its configuration
    """

    def __init__(self, *options: str, program: str = "redis-server"):
        self.program = shutil.which(program)
        if not self.program:
            raise unittest.SkipTest(f"{program} is not installed")
        self.folder = tempfile.TemporaryDirectory(prefix="odoo-session-redis-")
        self.port = free_port()
        self.password = secrets.token_hex(8)
        self.options = options
        self.process = None

    def start(self, *options: str) -> "RedisServer":
        """Start it, and wait until it answers, be it with an error."""
        configuration = Path(self.folder.name) / "redis.conf"
        # written once: sentinels and cluster nodes keep their state in it
        if not configuration.exists():
            lines = [
                "bind 127.0.0.1",
                f"port {self.port}",
                f"dir {self.folder.name}",
                *self.options,
            ]
            configuration.write_text("\n".join(lines) + "\n")
        self.process = subprocess.Popen(
            [self.program, configuration, *options],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        deadline = time.monotonic() + 20
        while True:
            with contextlib.suppress(redis.ConnectionError):
                self.command("PING")
                return self
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise RuntimeError(f"{self.program} did not start")
            time.sleep(0.01)

    def command(self, *arguments):
        """Send one command, and return Redis's answer or its error."""
        with redis.Redis(
            port=self.port, socket_timeout=20, retry=None, protocol=2
        ) as client:
            try:
                return client.execute_command(*arguments)
            except (redis.ResponseError, redis.BusyLoadingError) as error:
                return error

    def raw(self, *arguments):
        """Send one command, and return the answer as redis-py has not parsed it."""
        with redis.Redis(
            port=self.port, socket_timeout=20, retry=None, protocol=2
        ) as client:
            client.response_callbacks.clear()
            try:
                return client.execute_command(*arguments)
            except redis.ResponseError as error:
                return error

    def kill(self):
        self._end(signal.SIGKILL)

    def stop(self):
        """End it and remove its data."""
        self._end(signal.SIGKILL)
        self.folder.cleanup()

    def _end(self, number):
        if self.process:
            self.process.send_signal(signal.SIGCONT)
            self.process.send_signal(number)
            self.process.wait()
            self.process = None


class CuttingProxy:
    """Forwards to a port, and cuts connections in the middle of a long answer.

    :param port: where to forward to
    """

    def __init__(self, port: int):
        self.target = port
        self.cut_after_bytes: int | None = None
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = [self.listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def stop(self):
        for each in self.sockets:
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self):
        while True:
            try:
                client, _address = self.listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self.target))
            self.sockets += [client, server]
            for pair in ((client, server, False), (server, client, True)):
                threading.Thread(target=self._pump, args=pair, daemon=True).start()

    def _pump(self, source, sink, answers):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                cut = self.cut_after_bytes if answers else None
                if cut is not None and len(data) > cut:
                    sink.sendall(data[:cut])
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
