"""A real Odoo server in a process of its own, and the lines that it writes."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import requests
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

import odoo.addons
from odoo.tools import config, mute_logger

# Odoo starts its gevent worker by the path of the program, which must be a file.
_PROGRAM = """\
import os
import sys

if os.environ.get("TEST_EVENTED"):
    # as the prefork server starts its process for websockets
    sys.argv.insert(1, "gevent")

import warnings

import odoo.cli
from odoo.service import server

load_server_wide_modules = server.load_server_wide_modules


def load_and_warn():
    load_server_wide_modules()
    warnings.warn("as an old library does", DeprecationWarning)


server.load_server_wide_modules = load_and_warn

if os.environ.get("TEST_UNCAUGHT"):
    import threading

    start = server.start

    def start_and_crash(*args, **kwargs):
        # PreforkServer and ThreadedServer are past their set-up here
        server.load_server_wide_modules()
        if odoo.evented:
            import gevent

            gevent.spawn(lambda: 1 / 0).join()
        else:
            thread = threading.Thread(target=lambda: 1 / 0, name="crasher")
            thread.start()
            thread.join()
        raise RuntimeError("uncaught in the main thread")

    server.start = start_and_crash

odoo.cli.main()
"""


def free_port():
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return sock.getsockname()[1]


class OdooProcess:
    """Runs ``odoo`` until the block ends; then ``lines`` holds all that it wrote.

    :param list[str] arguments: of the command line
    :param dict[str, str] env: further variables
    """

    def __init__(self, *arguments, **env):
        self.port = free_port()
        self.gevent_port = free_port()
        self.lines = []
        self.arguments = arguments
        self.env = env
        self._changed = threading.Condition()

    def __enter__(self):
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            program = folder / "odoo-program.py"
            program.write_text(_PROGRAM)
            command = [
                sys.executable,
                str(program),
                "--addons-path=" + ",".join(dict.fromkeys(odoo.addons.__path__)),
                *self.arguments,
                f"--data-dir={folder / 'data'}",
                "--http-interface=127.0.0.1",
                f"--http-port={self.port}",
                f"--gevent-port={self.gevent_port}",
            ]
            if config["config"] and os.path.isfile(config["config"]):
                command.append(f"--config={config['config']}")
            self.process = subprocess.Popen(
                command,
                env={**os.environ, **self.env},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                start_new_session=True,
            )
            stack.callback(self._stop)
            self._reader = threading.Thread(target=self._read, daemon=True)
            self._reader.start()
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *exc_info):
        self._stack.close()

    def _read(self):
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line.rstrip("\n"))
                self._changed.notify_all()
        with self._changed:
            self._changed.notify_all()

    def _stop(self):
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        self._reader.join(10)
        self.process.stdout.close()

    def wait_for(self, text, timeout=60):
        """Wait until a line holds a text, and return the line."""
        deadline = time.monotonic() + timeout
        with self._changed:
            while True:
                for line in self.lines:
                    if text in line:
                        return line
                left = deadline - time.monotonic()
                if left <= 0 or (self.process.poll() is not None and not left):
                    raise AssertionError(
                        f"no line with {text!r}:\n" + "\n".join(self.lines[-20:])
                    )
                self._changed.wait(min(left, 1))

    def get(self, path, port=None, **kwargs):
        muted = mute_logger("urllib3.connectionpool")
        with requests.Session() as session, muted:
            # a server says that it runs before it listens
            retry = Retry(
                total=None, connect=30, read=0, backoff_factor=0.1, backoff_max=1
            )
            session.mount("http://", HTTPAdapter(max_retries=retry))
            return session.request(
                kwargs.pop("method", "GET"),
                f"http://127.0.0.1:{port or self.port}{path}",
                timeout=60,
                **kwargs,
            )

    def records(self):
        """Return the lines that are JSON, parsed, and the others as they are."""
        records, plain = [], []
        for line in self.lines:
            try:
                record = json.loads(line, parse_constant=_no_constant)
            except ValueError:
                plain.append(line)
            else:
                records.append(record)
        return records, plain


def _no_constant(name):
    raise ValueError(f"{name} is no JSON")
