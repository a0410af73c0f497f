"""A real server whose PostgreSQL goes away, hangs and comes back."""

import contextlib
import os
import selectors
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time

import requests

import odoo.addons
from odoo import sql_db
from odoo.tests import BaseCase, get_db_name, tagged
from odoo.tools import config


class TcpProxy:
    """Stands before PostgreSQL; can refuse, hang and work."""

    def __init__(self, address):
        self._address = address
        self._server = socket.create_server(("127.0.0.1", 0))
        self.port = self._server.getsockname()[1]
        self._pairs = []
        self._working = threading.Event()
        self._working.set()
        self._refusing = False
        self._closed = False
        threading.Thread(target=self._accept, daemon=True).start()

    def _accept(self):
        while not self._closed:
            try:
                client, _peer = self._server.accept()
            except OSError:
                return
            if self._refusing:
                client.close()
                continue
            family = socket.AF_UNIX if isinstance(self._address, str) else None
            if family:
                upstream = socket.socket(family)
                upstream.connect(self._address)
            else:
                upstream = socket.create_connection(self._address)
            self._pairs.append((client, upstream))
            threading.Thread(
                target=self._forward, args=(client, upstream), daemon=True
            ).start()

    def _forward(self, client, upstream):
        with (
            client,
            upstream,
            selectors.DefaultSelector() as selector,
            contextlib.suppress(OSError, ValueError),
        ):
            selector.register(client, selectors.EVENT_READ, upstream)
            selector.register(upstream, selectors.EVENT_READ, client)
            while True:
                for key, _events in selector.select():
                    data = key.fileobj.recv(65536)
                    self._working.wait()
                    if not data:
                        return
                    key.data.sendall(data)

    def work(self):
        self._refusing = False
        self._working.set()

    def refuse(self):
        """Close all connections and accept none."""
        self._refusing = True
        self._working.set()
        self._disconnect()

    def hang(self):
        """Accept, and answer nothing."""
        self._refusing = False
        self._working.clear()

    def _disconnect(self):
        while self._pairs:
            for sock in self._pairs.pop():
                with contextlib.suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)

    def close(self):
        self._closed = True
        self.refuse()
        self._server.close()


@tagged("post_install", "-at_install")
class TestOutage(BaseCase):
    TIMEOUT_SECONDS = 1

    def setUp(self):
        super().setUp()
        with contextlib.closing(sql_db.db_connect(get_db_name()).cursor()) as cr:
            info = cr._cnx.info
            address = (
                f"{info.host}/.s.PGSQL.{info.port}"
                if info.host.startswith("/")
                else (info.host, info.port)
            )
            password = info.password
        self.proxy = TcpProxy(address)
        self.addCleanup(self.proxy.close)
        with socket.socket() as sock:
            sock.bind(("127.0.0.1", 0))
            self.port = sock.getsockname()[1]
        folder = self.enterContext(tempfile.TemporaryDirectory())
        command = [
            sys.executable,
            "-m",
            "odoo",
            "--addons-path=" + ",".join(dict.fromkeys(odoo.addons.__path__)),
            "server",
            f"--database={get_db_name()}",
            "--db_host=127.0.0.1",
            f"--db_port={self.proxy.port}",
            "--load=base,web,monitoring_status",
            "--max-cron-threads=0",
            "--http-interface=127.0.0.1",
            f"--http-port={self.port}",
            f"--data-dir={folder}",
        ]
        if config["config"] and os.path.isfile(config["config"]):
            command.append(f"--config={config['config']}")
        env = {
            **os.environ,
            "ODOO_MONITORING_TIMEOUT": str(self.TIMEOUT_SECONDS),
            "ODOO_MONITORING_CACHE": "0",
        }
        if password:
            env["PGPASSWORD"] = password
        self.log = self.enterContext(tempfile.TemporaryFile("w+"))
        self.process = subprocess.Popen(
            command, env=env, stdout=self.log, stderr=self.log
        )
        self.addCleanup(self.stop)

    def stop(self):
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def get(self, path):
        return requests.get(f"http://127.0.0.1:{self.port}{path}", timeout=20)

    def wait_for_status(self, path, status):
        """Probe until the status is that, as an orchestrator does."""
        deadline = time.monotonic() + 60
        while True:
            try:
                answer = self.get(path)
            except requests.ConnectionError:
                answer = None
            if answer is not None and answer.status_code == status:
                return answer
            if time.monotonic() > deadline or self.process.poll() is not None:
                self.log.seek(0)
                raise AssertionError(f"{path} is not {status}:\n{self.log.read()}")
            time.sleep(0.1)

    def failing_parts(self, answer):
        return {
            name
            for name, part in answer.json()["parts"].items()
            if part["status"] == "failing"
        }

    def test_postgresql_goes_away_hangs_and_comes_back(self):
        self.wait_for_status("/monitoring/ready", 200)

        self.proxy.refuse()
        answer = self.wait_for_status("/monitoring/ready", 503)
        self.assertIn("postgresql", self.failing_parts(answer))
        self.assertEqual(self.get("/monitoring/live").status_code, 200)

        self.proxy.work()
        self.wait_for_status("/monitoring/ready", 200)

        self.proxy.hang()
        started = time.monotonic()
        answer = self.get("/monitoring/ready")
        self.assertLess(time.monotonic() - started, 2 * self.TIMEOUT_SECONDS + 2)
        self.assertEqual(answer.status_code, 503)
        self.assertIn("postgresql", self.failing_parts(answer))
        self.assertEqual(self.get("/monitoring/live").status_code, 200)

        self.proxy.work()
        self.wait_for_status("/monitoring/ready", 200)
        self.log.seek(0)
        self.assertNotIn('"GET /monitoring', self.log.read())
