"""One nginx before several front ends, in turn."""

import contextlib
import signal
from pathlib import Path

from . import processes, programs
from .odoo_server import OdooServer

CONFIGURATION = """\
daemon off;
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_max_body_size 128m;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    upstream odoo {{
{servers}
    }}
    upstream websocket {{
{websockets}
    }}
    map $http_upgrade $connection_upgrade {{ default upgrade; '' close; }}
    server {{
        listen 127.0.0.1:{port};
        proxy_http_version 1.1;
        proxy_set_header Host $http_host;
        proxy_set_header X-Forwarded-Host $http_host;
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        # a front end that is gone is not the browser's business
        proxy_next_upstream error timeout http_502;
        proxy_connect_timeout 2s;
        proxy_read_timeout 120s;
        add_header X-Front-End $upstream_addr always;
        location / {{ proxy_pass http://odoo; }}
        location /websocket {{
            proxy_set_header Upgrade $http_upgrade;
            proxy_set_header Connection $connection_upgrade;
            proxy_pass http://websocket;
        }}
    }}
}}
"""


class Proxy:
    """A running nginx; the header ``X-Front-End`` of an answer names who gave it.

    :param folder: for its configuration and logs
    :param front_ends: each gets a request in turn
    """

    def __init__(self, folder: Path, front_ends: list[OdooServer]):
        self.folder = folder
        self.front_ends = front_ends
        self.port = processes.free_port()
        self.process = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Proxy":
        self.folder.mkdir(parents=True, exist_ok=True)
        configuration = self.folder / "nginx.conf"
        configuration.write_text(
            CONFIGURATION.format(
                folder=self.folder,
                port=self.port,
                servers=self._servers(lambda front_end: front_end.port),
                websockets=self._servers(
                    # without workers there is no process of its own for websockets
                    lambda front_end: (
                        front_end.websocket_port
                        if front_end.options.get("workers", "0") != "0"
                        else front_end.port
                    )
                ),
            )
        )
        command = [programs.require("nginx"), "-e", self.folder / "error.log"]
        log = self.folder / "nginx.log"
        self.process = processes.start([*command, "-c", configuration], log)
        processes.wait_until(
            lambda: processes.accepts_connections(self.port),
            "nginx",
            process=self.process,
            log=log,
        )
        return self

    def stop(self) -> None:
        if self.process:
            with contextlib.suppress(ProcessLookupError):
                processes.stop(self.process, signal.SIGQUIT, seconds=5)

    def __enter__(self):
        return self.start()

    def __exit__(self, *_exception):
        self.stop()

    def _servers(self, port):
        return "\n".join(
            f"        server 127.0.0.1:{port(front_end)} max_fails=1 fail_timeout=2s;"
            for front_end in self.front_ends
        )
