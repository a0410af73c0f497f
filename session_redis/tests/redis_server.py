"""A Redis of a test's own, to be mistreated."""

import contextlib
import re
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
from pydantic import SecretStr

from .common import redis_settings

#: of the checkout; a wheel has no deploy/
USERS = Path(__file__).resolve().parents[2] / "deploy" / "redis" / "users.acl"
#: prefix of the keys that they may use
USERS_PREFIX = "client-odoo-prod"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class RedisServer:
    """A ``redis-server`` process on a free port, with its data in a new folder.

    :param options: lines of its configuration
    :param users: whether it has the users of ``deploy/redis/users.acl``
    :param program: Redis, or one that speaks its protocol
    """

    def __init__(
        self, *options: str, users: bool = False, program: str = "redis-server"
    ):
        self.program = shutil.which(program)
        if not self.program:
            raise unittest.SkipTest(f"{program} is not installed")
        self.folder = tempfile.TemporaryDirectory(prefix="odoo-session-redis-")
        if users:
            if not USERS.exists():
                raise unittest.SkipTest(f"{USERS} is not here")
            shutil.copy(USERS, self.folder.name)
            options = *options, f"aclfile {self.folder.name}/{USERS.name}"
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

    def settings(self, user: str | None = None, **values):
        """Return the settings of a store on this server.

        :param user: of ``deploy/redis/users.acl``; ``None``: one who may do anything
        """
        if user:
            password = secrets.token_hex(8)
            self.command("ACL", "SETUSER", user, "on", f">{password}")
            self.command("ACL", "SAVE")
            prefix = f"{USERS_PREFIX}:{secrets.token_hex(6)}"
            values = {"password": SecretStr(password), "prefix": prefix, **values}
        values = {"host": "127.0.0.1", "port": self.port, "password": None, **values}
        return redis_settings(username=user, **values)

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


class Monitor:
    """What a Redis is asked, from its MONITOR: scripts' commands, too.

    :param server: must live until :meth:`stop`
    """

    #: the client's address or "lua", the command, and its first argument
    LINE = re.compile(r'\+\S+ \[\d+ (\S+)\] "([^"]*)"(?: "((?:[^"\\]|\\.)*)")?')

    def __init__(self, server: RedisServer):
        self.server = server
        self.lines: list[str] = []
        self.commands: set[str] = set()
        #: first arguments of those commands that have keys
        self.keys: set[str] = set()
        self.socket = socket.create_connection(("127.0.0.1", server.port))
        self.socket.sendall(b"MONITOR\r\n")
        self.file = self.socket.makefile("r", encoding="ascii")
        if self.file.readline() != "+OK\n":
            raise RuntimeError("no MONITOR")
        self.end = secrets.token_hex(8)
        self.thread = threading.Thread(target=self._read, daemon=True)
        self.thread.start()

    def stop(self):
        """Wait until all was told."""
        self.server.command("ECHO", self.end)
        self.thread.join()
        self.file.close()
        self.socket.close()

    def _read(self):
        for line in self.file:
            _client, command, argument = self.LINE.match(line).groups()
            if argument == self.end:
                return
            self.lines.append(line)
            self.commands.add(command.lower())
            if command.lower() in ("get", "mget", "set", "del", "exists"):
                self.keys.add(argument)


def check_commands(monitor: Monitor, prefix: str, expected: set[str]):
    """Compare what a Redis was asked with what a session store may ask it.

    :param expected: commands that must have been seen, so that it was really watched
    """
    monitor.stop()
    allowed = {"mget", "eval", "evalsha", "get", "set", "del", "exists"}
    of_connection = {"auth", "client", "select"}
    of_tests = {"ping", "ttl", "pttl"}
    found = monitor.commands - allowed - of_connection - of_tests
    missing = expected - monitor.commands
    # one session, one login's previous session id, one mark, one key of the 2016 addon
    key = re.compile(
        rf"session::?{re.escape(prefix)}:"
        r"(\{[\w-]{2}\}[\w-]{40}(:previous|:revoked)?|[\w-]{84})"
    )
    others = {text for text in monitor.keys if not key.fullmatch(text)}
    if found or missing or others:
        raise AssertionError(f"{found=}, {missing=}, {others=}")


class CuttingProxy:
    """Forwards to a port, and cuts connections in the middle of a long answer.

    :param port: where to forward to
    """

    def __init__(self, port: int):
        self.target = port
        self.cut_after_bytes: int | None = None
        self.once = False
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        self.sockets = [self.listener]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut_next(self, after_bytes: int):
        """Cut one answer only."""
        self.cut_after_bytes = after_bytes
        self.once = True

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
                    if self.once:
                        self.cut_after_bytes, self.once = None, False
                    sink.sendall(data[:cut])
                    break
                sink.sendall(data)
        for each in (source, sink):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
