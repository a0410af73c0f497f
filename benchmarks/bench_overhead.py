"""What all addons together cost a request.

Two prefork servers on copies of one database: stock Odoo with its own files, and Odoo
with every addon on: attachments in S3, sessions in Redis, JSON logs, statsd. They are
asked in turn, so that what else the machine does meets both.
"""

import argparse
import http.client
import io
import json
import os
import re
import secrets
import shutil
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import urlsplit

import results
from toolbox import odoo_server, processes, project, services
from toolbox.demo import PARTNER, StatsdListener
from toolbox.web_client import WebClient

FOLDER = project.RUN / "bench" / "overhead"
STOCK, ADDONS = "stock Odoo", "all addons"
DATABASES = {STOCK: "bench_overhead_stock", ADDONS: "bench_overhead_addons"}
SONG = "odoo.addons.cloud_platform.songs::install_exoscale"
OPTIONS = {"workers": "2", "max_cron_threads": "0"}
#: clients that ask at the same time when answers a second are counted; the time of an
#: answer is that of one client, which waits for nobody else
CLIENTS = 2
#: what is asked, and how often each client asks it when it is its turn
REQUESTS = {
    "light JSON-RPC call": 60,
    "page with its static files": 10,
    "bundles of a first visit": 3,
    "image of 60 kB": 40,
    "the same, unchanged (304)": 40,
}
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
        if what == "light JSON-RPC call":
            path = "/web/dataset/call_kw/res.partner/read"
            answer = self._request("POST", path, self.body, json=True)
            if "result" not in json.loads(answer):
                raise project.ProjectError(f"{path} answered {answer[:200]}")
        elif what == "page with its static files":
            for path in self.page:
                self._request("GET", path)
        elif what == "bundles of a first visit":
            for path in self.bundles:
                self._request("GET", path)
        elif what == "image of 60 kB":
            self._request("GET", self.image)
        else:
            self._request("GET", self.image, status=304, unchanged=True)
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


def turn(site, what, count):
    """Return the seconds of each answer to one client, and answers a second to all."""

    def client(_number):
        return [site.ask(what) for _ in range(count)]

    seconds = client(1)
    started = time.perf_counter()
    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(client, range(CLIENTS)))
    return seconds, CLIENTS * count / (time.perf_counter() - started)


def measure(sites, rounds):
    """Return seconds and answers a second, by what was asked and by site."""
    seconds = {(what, name): [] for what in REQUESTS for name in sites}
    rates = {key: [] for key in seconds}
    for number in range(-1, rounds):  # the first one warms up
        for what, count in REQUESTS.items():
            for name in list(sites)[:: 1 if number % 2 else -1]:
                times, rate = turn(sites[name], what, count)
                if number >= 0:
                    seconds[what, name].append(times)
                    rates[what, name].append(rate)
        project.say(f"round {number + 1} of {rounds}")
    return seconds, rates


def report(seconds, rates):
    """Return the tables: figures and bars."""
    rows, bars = [], []
    for what in REQUESTS:
        cells = []
        medians = {}
        for name in (STOCK, ADDONS):
            medians[name] = [statistics.median(times) for times in seconds[what, name]]
            flat = [second for times in seconds[what, name] for second in times]
            cells.append(
                [
                    f"{statistics.median(rates[what, name]):.0f}",
                    f"{statistics.median(flat) * 1000:.1f}",
                    f"{statistics.quantiles(flat, n=20)[-1] * 1000:.1f}",
                ]
            )
        rows.append(
            [what, *(cell for pair in zip(*cells, strict=True) for cell in pair)]
        )
        # what both met in one round is compared
        pairs = zip(medians[ADDONS], medians[STOCK], strict=True)
        overhead = 100 * (statistics.median(a / b for a, b in pairs) - 1)
        met = "yes" if overhead <= BAR_PERCENT else "**no**"
        bars.append([what, f"≤ {BAR_PERCENT} %", f"{overhead:+.1f} %", met])
    header = [""]
    for figure in ("a second", "median, ms", "95th percentile, ms"):
        header += [f"{figure}, {name}" for name in ("stock", "addons")]
    return "\n\n".join(
        [
            results.table(header, rows),
            results.table(
                ["median time of an answer", "wanted", "measured", "met"], bars
            ),
        ]
    )


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="two rounds; no file")
    quick = parser.parse_args().quick
    rounds = 2 if quick else ROUNDS
    load = os.getloadavg()[0]
    own = services.Services(project.RUN / "bench" / "services")
    make_databases(own)
    statsd = StatsdListener()
    statsd.start()
    variables = {
        "ODOO_LOGGING_JSON": "1",
        "ODOO_STATSD": "1",
        "STATSD_HOST": "127.0.0.1",
        "STATSD_PORT": str(statsd.port),
        "STATSD_CUSTOMER": "bench",
        "STATSD_ENVIRONMENT": "prod",
    }
    stock = {
        **OPTIONS,
        "server_wide_modules": "base,rpc,web",
        "data_dir": str(FOLDER / "install" / "data"),  # where its files are
    }
    servers = {
        STOCK: StockServer(own, FOLDER / "stock", DATABASES[STOCK], stock),
        ADDONS: odoo_server.OdooServer(
            own, FOLDER / "addons", DATABASES[ADDONS], OPTIONS, **variables
        ),
    }
    try:
        for server in servers.values():
            server.start()
        sites = {name: Site(server) for name, server in servers.items()}
        seconds, rates = measure(sites, rounds)
    finally:
        for server in servers.values():
            if server.process:
                server.stop()
    processes.wait_until(lambda: statsd.metrics, "a metric", 5)
    site = sites[ADDONS]
    text = "\n\n".join(
        [
            f"Two prefork servers are asked in turn, {rounds} rounds: by {CLIENTS} "
            "clients for the answers a second, by one for the time of an answer. All "
            "addons: attachments in S3, sessions in Redis, JSON logs, statsd. The "
            "comparison is the median of the rounds' ratios. The page is the web "
            f"client with {len(site.page) - 1} static files, without its "
            f"{len(site.bundles)} bundles (7 MB): a browser keeps these for a year and "
            "does not ask for them again. They are measured by themselves: with the "
            "addons they are in the database, which takes longer than the local file "
            "of stock Odoo. So does an image from S3, by way of the network and of "
            "boto3. No other front end would have these local files.",
            report(seconds, rates),
        ]
    )
    project.say(text)
    if not quick:
        results.write("Overhead of a request", text, f"load {load:.1f} before")
    return 0


if __name__ == "__main__":
    project.main(run)
