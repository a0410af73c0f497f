"""What all addons together cost a request.

Prefork servers on copies of one database: stock Odoo with its own files; Odoo with
every addon on (attachments in S3, sessions in Redis, JSON logs, statsd); and the same
with attachment_s3's cache on the local disk. They are asked in turn, request by
request, so that what else the machine does meets all.
"""

import argparse
import http.client
import io
import json
import multiprocessing
import os
import re
import secrets
import shutil
import socket
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import results
from toolbox import odoo_server, processes, project, services
from toolbox.demo import PARTNER
from toolbox.web_client import WebClient

FOLDER = project.RUN / "bench" / "overhead"
STOCK, ADDONS, CACHE = "stock Odoo", "all addons", "and a cache"
DATABASES = {STOCK: "bench_overhead_stock", ADDONS: "bench_overhead_addons"}
SONG = "odoo.addons.cloud_platform.songs::install_exoscale"
OPTIONS = {"workers": "2", "max_cron_threads": "0"}
#: clients that ask at the same time when answers a second are counted; the time of an
#: answer is that of one client, which waits for nobody else
CLIENTS = 2
RPC, PAGE, BUNDLES = (
    "light JSON-RPC call",
    "page with its static files",
    "bundles of a first visit",
)
IMAGE, UNCHANGED = "image of 60 kB", "the same, unchanged (304)"
#: what is asked, and how often each client asks it in a round
REQUESTS = {RPC: 60, PAGE: 10, BUNDLES: 3, IMAGE: 40, UNCHANGED: 40}
ROUNDS = 14
BAR_PERCENT = 5
STATIC = re.compile(r'(?:src|href)="(/web/(?:assets|static)/[^"]+)"')


class StockServer(odoo_server.OdooServer):
    """Odoo without any addon of this project."""

    command = "server"


class Site:
    """A server, and requests to it as its browser sends them."""

    def __init__(self, server):
        self.server = server
        self.address = urlsplit(server.url).netloc
        browser = WebClient(server.url)
        browser.login()
        uploaded = browser.upload("picture.png", picture(), "res.partner", PARTNER)
        self.image = f"/web/image/{uploaded['id']}"
        self.headers = {"Cookie": f"session_id={browser.http.cookies['session_id']}"}
        page = browser.get("/odoo").text
        files = list(dict.fromkeys(STATIC.findall(page)))
        self.bundles = [path for path in files if path.startswith("/web/assets/")]
        self.page = ["/odoo", *(path for path in files if path not in self.bundles)]
        for path in self.bundles:  # made at the first request for them
            browser.get(path)
        self.etag = browser.get(self.image).headers["ETag"]
        body = {
            "jsonrpc": "2.0",
            "params": {
                "model": "res.partner",
                "method": "read",
                "args": [[PARTNER], ["name"]],
                "kwargs": {},
            },
        }
        self.body = json.dumps(body)

    def ask(self, what):
        """Send the requests of one kind, and return their seconds."""
        started = time.perf_counter()
        if what == RPC:
            path = "/web/dataset/call_kw/res.partner/read"
            answer = self._request("POST", path, self.body, json=True)
            if "result" not in json.loads(answer):
                raise project.ProjectError(f"{path} answered {answer[:200]}")
        elif what in (PAGE, BUNDLES):
            for path in self.page if what == PAGE else self.bundles:
                self._request("GET", path)
        else:
            unchanged = what == UNCHANGED
            status = 304 if unchanged else 200
            self._request("GET", self.image, status=status, unchanged=unchanged)
        return time.perf_counter() - started

    def _request(
        self, method, path, body=None, status=200, json=False, unchanged=False
    ):
        headers = dict(self.headers)
        if json:
            headers["Content-Type"] = "application/json"
        if unchanged:
            headers["If-None-Match"] = self.etag
        connection = http.client.HTTPConnection(self.address, timeout=60)
        try:
            connection.request(method, path, body, headers)
            response = connection.getresponse()
            content = response.read()
        finally:
            connection.close()
        if response.status != status:
            raise project.ProjectError(f"{path} answered {response.status}")
        return content


def picture():
    """Return a PNG image of about 60 kB, which no placement rule keeps elsewhere."""
    from PIL import Image

    stream = io.BytesIO()
    Image.frombytes("RGB", (142, 142), secrets.token_bytes(142 * 142 * 3)).save(
        stream, "PNG"
    )
    return stream.getvalue()


def make_databases(own):
    shutil.rmtree(FOLDER, ignore_errors=True)
    folder = FOLDER / "install"
    stop = ("--stop-after-init", "--no-http")

    def odoo(database, modules):
        arguments = ("server", "-d", database, "-i", modules, *stop)
        check(odoo_server.run_odoo(own, folder, *arguments))

    odoo(DATABASES[STOCK], "contacts")
    odoo_server.copy_database(own, DATABASES[STOCK], DATABASES[ADDONS], folder / "data")
    odoo(DATABASES[ADDONS], "cloud_platform_exoscale,contacts")
    check(odoo_server.run_anthem(own, folder, SONG, "-d", DATABASES[ADDONS]))


def check(result):
    if result.returncode:
        raise project.ProjectError(result.stdout[-2000:])


def measure(sites, rounds):
    """Return seconds and answers a second, by what was asked and by site."""
    seconds = {(what, name): [] for what in REQUESTS for name in sites}
    rates = {key: [] for key in seconds}
    for number in range(-1, rounds):  # the first one warms up
        for what, count in REQUESTS.items():
            # who asks the cache wants files
            names = [n for n in sites if n != CACHE or what in (IMAGE, UNCHANGED)]
            times = {name: [] for name in names}
            for turn in range(count):
                for name in names[:: 1 if turn % 2 else -1]:
                    times[name].append(sites[name].ask(what))
            for name in names[:: 1 if number % 2 else -1]:
                rate = answers_a_second(sites[name], what, count)
                if number >= 0:
                    seconds[what, name].append(times[name])
                    rates[what, name].append(rate)
        project.say(f"round {number + 1} of {rounds}")
    return seconds, rates


def answers_a_second(site, what, count):
    def client(_number):
        for _ in range(count):
            site.ask(what)

    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    return CLIENTS * count / (time.perf_counter() - started)


def report(seconds, rates):
    """Return the tables: figures and bars."""
    rows, bars = [], []
    for (what, name), rounds in seconds.items():
        if not rounds:
            continue
        times = [second for times in rounds for second in times]
        rows.append(
            [
                f"{what}, {name}",
                f"{statistics.median(rates[what, name]):.0f}",
                f"{statistics.median(times) * 1000:.2f}",
                f"{statistics.quantiles(times, n=20)[-1] * 1000:.2f}",
            ]
        )
        if name == STOCK:
            continue
        # what both met in one round is compared
        pairs = zip(rounds, seconds[what, STOCK], strict=True)
        ratios = [statistics.median(a) / statistics.median(b) for a, b in pairs]
        overhead = 100 * (statistics.median(ratios) - 1)
        met = "yes" if overhead <= BAR_PERCENT else "**no**"
        bar = f"{what}, {name}" if name == CACHE else what
        bars.append([bar, f"≤ {BAR_PERCENT} %", f"{overhead:+.1f} %", met])
    return "\n\n".join(
        [
            results.table(
                ["", "answers a second", "median, ms", "95th percentile, ms"], rows
            ),
            results.table(
                ["median time of an answer", "wanted", "measured", "met"], bars
            ),
        ]
    )


class StatsdCounter:
    """A process that counts the packets of metrics, as a statsd server would get them.

    Not a thread: it would take its turns from the client that measures.
    """

    def __init__(self):
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self._socket.bind(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self.packets = multiprocessing.Value("q", 0)
        self._process = multiprocessing.Process(target=self._count, daemon=True)

    def __enter__(self):
        self._process.start()
        return self

    def __exit__(self, *_exc_info):
        self._process.kill()
        self._process.join()

    def _count(self):
        while self._socket.recv(65536):
            self.packets.value += 1


def check_that_all_is_on(own, server, site):
    """Raise an error unless what was measured is what the report says."""
    attachment = int(site.image.rpartition("/")[2])
    sql = "SELECT store_fname FROM ir_attachment WHERE id = %s"
    [(place,)] = odoo_server.query(own, server.database, sql, attachment)
    if not place.startswith("s3://"):
        raise project.ProjectError(f"the image is in {place}, not in S3")
    for line in server.log.read_text().splitlines()[-10:]:
        json.loads(line)
    if list((server.folder / "data" / "sessions").glob("*/*")):
        raise project.ProjectError("the sessions are in files, not in Redis")


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds; no file")
    quick = parser.parse_args().quick
    rounds = 2 if quick else ROUNDS
    load = os.getloadavg()[0]
    own = services.Services(project.RUN / "bench" / "services")
    make_databases(own)
    with StatsdCounter() as statsd:
        servers = make_servers(own, statsd.port)
        try:
            for server in servers.values():
                server.start()
            sites = {name: Site(server) for name, server in servers.items()}
            seconds, rates = measure(sites, rounds)
            check_that_all_is_on(own, servers[ADDONS], sites[ADDONS])
        finally:
            for server in servers.values():
                if server.process:
                    server.stop()
        processes.wait_until(lambda: statsd.packets.value, "a metric", 5)
    site = sites[ADDONS]
    text = "\n\n".join(
        [
            f"Prefork servers are asked in turn, {rounds} rounds: by {CLIENTS} clients "
            "for the answers a second, by one for the time of an answer, request by "
            "request. All addons: attachments in S3, sessions in Redis, JSON logs, "
            "statsd. The comparison is the median of the rounds' ratios. The page is "
            f"the web client with {len(site.page) - 1} static files, without its "
            f"{len(site.bundles)} bundles (7 MB): a browser keeps these for a year and "
            "does not ask for them again. They are measured by themselves: with the "
            "addons they are in the database, which takes longer than the local file "
            "of stock Odoo. So does an image from S3, by way of the network and of "
            "boto3, unless the front end keeps it (`AWS_ATTACHMENT_CACHE_DIR`). No "
            "other front end would have stock Odoo's local files.",
            report(seconds, rates),
        ]
    )
    project.say(text)
    if not quick:
        results.write("Overhead of a request", text, f"load {load:.1f} before")
    return 0


def make_servers(own, statsd_port):
    variables = {
        "ODOO_LOGGING_JSON": "1",
        "ODOO_STATSD": "1",
        "STATSD_HOST": "127.0.0.1",
        "STATSD_PORT": str(statsd_port),
        "STATSD_CUSTOMER": "bench",
        "STATSD_ENVIRONMENT": "prod",
    }
    stock = {
        **OPTIONS,
        "server_wide_modules": "base,rpc,web",
        "data_dir": str(FOLDER / "install" / "data"),  # where its files are
    }
    cache = {**variables, "AWS_ATTACHMENT_CACHE_DIR": str(FOLDER / "cached")}
    database = DATABASES[ADDONS]
    return {
        STOCK: StockServer(own, FOLDER / "stock", DATABASES[STOCK], stock),
        ADDONS: odoo_server.OdooServer(
            own, FOLDER / "addons", database, OPTIONS, **variables
        ),
        CACHE: odoo_server.OdooServer(
            own, FOLDER / "cache", database, OPTIONS, **cache
        ),
    }


if __name__ == "__main__":
    project.main(run)
