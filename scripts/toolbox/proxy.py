"""One nginx before several front ends, in turn."""

import contextlib
import os
import signal
import ssl
from pathlib import Path

from . import processes, programs
from .odoo_server import OdooServer
from .project import ROOT

SITE = ROOT / "deploy" / "nginx" / "odoo.conf.template"
CONFIGURATION = """\
daemon off;
{user}
pid {folder}/nginx.pid;
error_log {folder}/error.log;
worker_processes 1;
events {{ worker_connections 512; }}
http {{
    access_log {folder}/access.log;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    add_header X-Front-End $upstream_addr always;
    include {folder}/odoo.conf;
}}
"""


class Proxy:
    """A running nginx; the header ``X-Front-End`` of an answer names who gave it.

    :param folder: for its configuration and logs
    :param front_ends: each gets a request in turn
    :param resolver: name server that knows the S3 server, when Odoo has nginx fetch
        contents from it by a name
    :param store_ca: file of the authority that vouches for the S3 server, in PEM
        format, when it speaks TLS
    """

    def __init__(
        self,
        folder: Path,
        front_ends: list[OdooServer],
        resolver: str = "127.0.0.1",
        store_ca: Path | None = None,
    ):
        self.folder = folder
        self.front_ends = front_ends
        self.resolver = resolver
        self.store_ca = store_ca or certificate_authorities()
        self.port = processes.free_port()
        self.process = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> "Proxy":
        self.folder.mkdir(parents=True, exist_ok=True)
        site = SITE.read_text()
        for name, value in {
            "ODOO_LISTEN": f"127.0.0.1:{self.port}",
            "ODOO_SERVERS": self._servers(lambda front_end: front_end.port),
            "ODOO_WEBSOCKETS": self._servers(OdooServer.live_port.fget),
            "ODOO_RESOLVER": self.resolver,
            "ODOO_STORE_CA": str(self.store_ca),
        }.items():
            site = site.replace(f"${{{name}}}", value)
        (self.folder / "odoo.conf").write_text(site)
        # root's workers would be nobody, who cannot enter root's own folders
        user = "" if os.geteuid() else "user root;"
        configuration = self.folder / "nginx.conf"
        configuration.write_text(CONFIGURATION.format(folder=self.folder, user=user))
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
        return "\n    ".join(
            f"server 127.0.0.1:{port(front_end)} max_fails=1 fail_timeout=2s;"
            for front_end in self.front_ends
        )


def certificate_authorities() -> Path:
    """Return a file of the authorities that this machine trusts."""
    import certifi

    return Path(ssl.get_default_verify_paths().cafile or certifi.where())
