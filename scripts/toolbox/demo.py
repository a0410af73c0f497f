"""The steps of ``scripts/demo``."""

import hashlib
import io
import os
import secrets
import shutil
import signal
import socket
import threading
import time
import traceback

from . import odoo_server, services
from .project import RUN, SERVER_WIDE_MODULES, ProjectError, say
from .proxy import Proxy
from .web_client import WebClient

DATABASE = "demo"
MODULES = "cloud_platform_exoscale,contacts"
SONG = "odoo.addons.cloud_platform.songs::install_exoscale"
PARTNER = 3  # "Mitchell Admin", res.partner of the user admin in data of base


class StatsdListener(threading.Thread):
    """Keeps the metrics that it receives by UDP."""

    def __init__(self):
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.metrics: list[str] = []

    def run(self):
        while True:
            packet = self.socket.recv(65536)
            self.metrics += packet.decode(errors="replace").splitlines()


class Demo:
    """Runs the steps in turn; each is a method that returns its figures."""

    def __init__(self):
        self.folder = RUN / "demo"
        self.services = services.Services(self.folder / "services")
        self.statsd = StatsdListener()
        self.front_ends: list[odoo_server.OdooServer] = []
        self.proxy: Proxy | None = None
        self.client: WebClient | None = None
        self.files: dict[str, tuple[str, str]] = {}

    def run(self) -> bool:
        """Run all steps; stop at the first that fails, as the next ones need it."""
        if self.services.running:
            raise ProjectError(f"a demo already runs in {self.folder}")
        self.services.remove()
        shutil.rmtree(self.folder, ignore_errors=True)
        for step in (
            self.start_services,
            self.install_addons,
            self.sing,
            self.start_front_ends,
            self.log_in,
            self.upload,
            self.read_on_the_other,
            self.kill_a_front_end,
            self.count_objects,
            self.count_sessions,
            self.look_at_the_disks,
            self.look_at_the_logs,
            self.look_at_the_metrics,
        ):
            started = time.monotonic()
            title = step.__doc__.splitlines()[0].rstrip(".")
            try:
                figures = step()
            except Exception as error:
                if not isinstance(error, (CheckFailed, ProjectError)):
                    traceback.print_exc()
                say(f"✗ {title}: {error}")
                return False
            say(f"✓ {title}: {figures} ({time.monotonic() - started:.1f} s)")
        return True

    def stop(self):
        if self.proxy:
            self.proxy.stop()
        for front_end in self.front_ends:
            front_end.stop()
        self.services.stop()

    # steps

    def start_services(self):
        """PostgreSQL, Redis and an S3 server"""
        self.services.start(follow=True)
        self.statsd.start()
        env = self.services.env
        return (
            f"ports {env['PGPORT']}, {env['ODOO_SESSION_REDIS_PORT']} and "
            f"{env['AWS_HOST'].rpartition(':')[2]}, bucket {env['AWS_BUCKETNAME']}"
        )

    def install_addons(self):
        """New database with the addons on environment prod"""
        arguments = ["server", "-d", DATABASE, "-i", MODULES, "--stop-after-init"]
        result = odoo_server.run_odoo(
            self.services, self.folder / "install", *arguments, "--no-http"
        )
        check_exit(result)
        sql = "SELECT count(*) FROM ir_attachment WHERE store_fname IS NOT NULL"
        ((files,),) = odoo_server.query(self.services, DATABASE, sql)
        return f"{MODULES}; {files} attachments on the local disk"

    def sing(self):
        """anthem plays the song install_exoscale"""
        result = odoo_server.run_anthem(
            self.services, self.folder / "install", SONG, "-d", DATABASE
        )
        check_exit(result)
        sql = """
            SELECT count(*) FILTER (WHERE store_fname LIKE 's3://%%'),
                   count(*) FILTER (WHERE store_fname NOT LIKE 's3://%%')
              FROM ir_attachment
        """
        ((moved, left),) = odoo_server.query(self.services, DATABASE, sql)
        check(not left, f"{left} attachments were left on the local disk")
        return f"{moved} attachments in S3, none on the local disk"

    def start_front_ends(self):
        """Two Odoo servers with empty data directories behind one nginx"""
        variables = {
            "ODOO_LOGGING_JSON": "1",
            "ODOO_STATSD": "1",
            "STATSD_HOST": "127.0.0.1",
            "STATSD_PORT": str(self.statsd.port),
            "STATSD_CUSTOMER": "demo",
            "STATSD_ENVIRONMENT": "prod",
        }
        modules = ",".join([*SERVER_WIDE_MODULES])
        for number in (1, 2):
            front_end = odoo_server.OdooServer(
                self.services,
                self.folder / f"front-end-{number}",
                DATABASE,
                **variables,
            )
            self.front_ends.append(front_end)
            front_end.launch()
        for front_end in self.front_ends:
            front_end.wait()
        self.proxy = Proxy(self.folder / "nginx", self.front_ends).start()
        ports = " and ".join(str(front_end.port) for front_end in self.front_ends)
        return f"--load={modules}, ports {ports}, proxy {self.proxy.url}"

    def log_in(self):
        """Log in through the proxy"""
        self.client = WebClient(self.proxy.url)
        info = self.client.login()
        return f"{info['username']} on {self.client.front_end}"

    def upload(self):
        """Upload a 5 MB file and an image by the web client's routes"""
        from PIL import Image

        content = secrets.token_bytes(5_000_000)
        started = time.monotonic()
        answer = self.client.upload("report.bin", content, "res.partner", PARTNER)
        seconds = time.monotonic() - started
        path = f"/web/content/{answer['id']}?download=1"
        self.files[path] = (digest(content), self.client.front_end)
        picture = io.BytesIO()
        noise = Image.frombytes("RGB", (512, 512), secrets.token_bytes(512 * 512 * 3))
        noise.save(picture, "PNG")
        answer = self.client.upload(
            "picture.png", picture.getvalue(), "res.partner", PARTNER
        )
        path = f"/web/image/{answer['id']}"
        self.files[path] = (digest(picture.getvalue()), self.client.front_end)
        return (
            f"5.0 MB in {seconds:.2f} s and {len(picture.getvalue()) / 1e6:.1f} MB, "
            f"on {', '.join(sorted({front for _sum, front in self.files.values()}))}"
        )

    def read_on_the_other(self):
        """Read them on the other front end with the same cookie"""
        readers = set()
        for path, (expected, writer) in self.files.items():
            for _attempt in range(10):  # the proxy takes them in turn
                content = self.client.get(path).content
                check(digest(content) == expected, f"{path} has other content")
                if self.client.front_end != writer:
                    break
            check(self.client.front_end != writer, "the proxy has one front end only")
            readers.add(self.client.front_end)
        return f"equal SHA-256 on {', '.join(sorted(readers))}"

    def kill_a_front_end(self):
        """SIGKILL for the first front end: login and files are still there"""
        victim = self.front_ends[0]
        victim.kill()
        info = self.client.session_info()
        survivors = {self.client.front_end}
        for path, (expected, _writer) in self.files.items():
            content = self.client.get(path).content
            check(digest(content) == expected, f"{path} has other content")
            survivors.add(self.client.front_end)
        address = victim.url.removeprefix("http://")
        check(address not in survivors, "the killed front end answered")
        return f"{info['username']} and {len(self.files)} files on {survivors.pop()}"

    def count_objects(self):
        """Objects in the bucket, listed with boto3"""
        import boto3

        env = self.services.env
        s3 = boto3.client(
            "s3",
            endpoint_url=env["AWS_HOST"],
            region_name=env["AWS_REGION"],
            aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
        )
        bucket = env["AWS_BUCKETNAME"]
        pages = s3.get_paginator("list_objects_v2").paginate(Bucket=bucket)
        sizes = {
            o["Key"]: o["Size"] for page in pages for o in page.get("Contents", [])
        }
        sql = "SELECT DISTINCT store_fname FROM ir_attachment WHERE store_fname <> ''"
        rows = odoo_server.query(self.services, DATABASE, sql)
        wanted = {name.removeprefix(f"s3://{bucket}/") for (name,) in rows}
        missing = wanted - set(sizes)
        check(not missing, f"{len(missing)} objects of attachments are missing")
        for expected, _writer in self.files.values():
            check(any(expected in key for key in sizes), f"{expected} is not there")
        return (
            f"{len(sizes)} objects, {sum(sizes.values()) / 1e6:.1f} MB, "
            f"{len(wanted)} of them in attachments"
        )

    def count_sessions(self):
        """Sessions in Redis"""
        import redis

        env = self.services.env
        store = redis.Redis(
            port=int(env["ODOO_SESSION_REDIS_PORT"]),
            password=env["ODOO_SESSION_REDIS_PASSWORD"],
        )
        cookie = self.client.http.cookies["session_id"]
        keys = [key.decode() for key in store.scan_iter()]
        # braces in a key tell a cluster which node keeps it
        shown = str.maketrans("", "", "{}")
        mine = [key for key in keys if cookie[:42] in key.translate(shown)]
        check(mine, "the session of the login is not in Redis")
        whole = [key for key in keys if cookie in key.translate(shown)]
        check(not whole, "a key holds a whole cookie")
        ttl = store.ttl(mine[0])
        check(ttl > 0, "the session never expires")
        return f"{len(keys)} keys, ours expires in {ttl / 86400:.1f} days"

    def look_at_the_disks(self):
        """Both data directories without filestore and sessions"""
        left = [
            path for front_end in self.front_ends for path in front_end.local_files()
        ]
        check(not left, f"{len(left)} files, {left[:3]}")
        return ", ".join(
            f"{front_end.folder.name}: 0 files" for front_end in self.front_ends
        )

    def look_at_the_logs(self):
        """Logs as JSON lines"""
        figures = []
        for front_end in self.front_ends:
            records, _others = odoo_server.json_lines(front_end.log)
            check(records, f"no JSON record in {front_end.log}")
            figures.append(f"{front_end.folder.name}: {len(records)}")
        return ", ".join(figures)

    def look_at_the_metrics(self):
        """statsd packets"""
        requests = [m for m in self.statsd.metrics if "http.request.demo.prod" in m]
        check(requests, "no metric of a request was received")
        return f"{len(self.statsd.metrics)} metrics, the last {requests[-1]}"


class CheckFailed(Exception):
    """A step did not find what it must; the text says what."""


def check(condition, text):
    if not condition:
        raise CheckFailed(text)


def check_exit(result):
    lines = result.stdout.splitlines()[-40:]
    check(result.returncode == 0, "\n".join([f"exit {result.returncode}", *lines]))


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def run(once: bool) -> int:
    """Run the demo.

    :param once: end after the last step instead of serving until Ctrl-C
    :return: exit status
    """
    started = time.monotonic()
    demo = Demo()
    # a service manager's TERM stops us as Ctrl-C does
    signal.signal(signal.SIGTERM, lambda *_: os.kill(os.getpid(), signal.SIGINT))
    try:
        if not demo.run():
            return 1
        say(f"all steps passed in {time.monotonic() - started:.0f} s")
        if not once:
            demo.front_ends[0].start()
            say(f"\n{demo.proxy.url}/odoo  login admin, password admin  (Ctrl-C ends)")
            threading.Event().wait()
    except KeyboardInterrupt:
        say("stopping")
    finally:
        demo.stop()
    return 0
