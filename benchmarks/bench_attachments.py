"""Attachments in S3: this addon beside boto3, Odoo's filestore and OCA's fs_attachment.

All alternatives in turn in one run, on the same S3 server and PostgreSQL; the figures
are medians. Run by ``scripts/bench attachments``, which gives the services.
"""

import argparse
import hashlib
import http.client
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from urllib.parse import urlsplit

import results
from attachments_worker import (
    THREADS,
    forget_peak,
    process_memory_mib,
)
from latency_proxy import Counter
from toolbox import odoo_command, odoo_server, processes, project, services
from workers import Worker

FOLDER = project.RUN / "bench" / "attachments"
PEERS = project.RUN / "bench" / "peers"
HERE = Path(__file__).resolve().parent

LABELS = {
    "boto3": "bare boto3",
    "addon": "attachment_s3",
    "filestore": "Odoo's filestore",
    "peer": "fs_attachment",
}
DATABASES = {
    "addon": ("bench_addon", "attachment_s3"),
    "filestore": ("bench_filestore", "web"),
    "peer": ("bench_peer", "fs_attachment"),
}
MIGRATION_DATABASE = "bench_migration"
#: the database that the others are copies of
BASE = "bench_base"
ODOO_OPTIONS = {
    "data_dir": str(FOLDER / "data"),
    "server_wide_modules": "base,web",
    "max_cron_threads": "0",
}
OPERATIONS = {
    "write": "write",
    "write_same": "write of the same content",
    "copy": "copy",
    "read": "read",
    "delete": "delete",
}
INTRODUCTION = """\
Medians of alternating runs against one S3 server and one PostgreSQL (without fsync),
all on the same machine. A write is `create` and the commit, in a process with a loaded
registry; bare boto3 is `put_object` and `get_object` with the client's configuration
that the addon uses, apart from `Expect: 100-continue`: the addon sends contents of up
to 2 MiB without it, which saves a round trip. What was read is compared with what was
written. The bars are what the project wants of itself."""
KB, MB = 1000, 1000 * 1000
CHUNK_BYTES = 1024 * 1024


@dataclass(frozen=True)
class Plan:
    """How much is done.

    :param sizes: bytes of a content → repetitions
    :param latency: added, in milliseconds
    """

    sizes: dict = field(default_factory=lambda: {20 * KB: 30, MB: 20, 50 * MB: 5})
    latency: int = 20
    many: tuple = (80, 60 * KB)
    many_times: int = 5
    download_bytes: int = 200 * MB
    downloads: int = 5
    migrated: tuple = (10_000, 20 * KB)
    migrations: int = 3
    profiled: int = 100


QUICK = Plan(
    sizes={20 * KB: 6, MB: 4, 50 * MB: 1},
    many_times=2,
    download_bytes=50 * MB,
    downloads=2,
    migrated=(1000, 20 * KB),
    migrations=1,
    profiled=50,
)


def say(text):
    project.say(f"{time.strftime('%H:%M:%S')} {text}")


def milliseconds(samples: list[dict]) -> float:
    return statistics.median(sample["seconds"] for sample in samples) * 1000


def size_text(size: int) -> str:
    return f"{size // MB} MB" if size >= MB else f"{size // KB} kB"


class Bar:
    """A figure that the project wants to reach."""

    def __init__(self, text: str, wanted: str, measured: str, met: bool):
        self.cells = (text, wanted, measured, "yes" if met else "**no**")

    @classmethod
    def at_most(cls, text, limit, measured, unit="", digits=2):
        return cls(
            text,
            f"≤ {limit:.{digits}f}{unit}",
            f"{measured:.{digits}f}{unit}",
            measured <= limit,
        )

    @classmethod
    def at_least(cls, text, limit, measured, unit="", digits=2):
        return cls(
            text,
            f"≥ {limit:.{digits}f}{unit}",
            f"{measured:.{digits}f}{unit}",
            measured >= limit,
        )


class Benchmark:
    """The run; each part adds its text to ``sections`` and its bars to ``bars``."""

    def __init__(self, plan: Plan):
        self.plan = plan
        self.env = dict(os.environ)
        self.direct = self.env["AWS_HOST"]
        self.workers: dict[str, Worker] = {}
        self.processes: list[subprocess.Popen] = []
        self.sections: list[str] = []
        self.bars: list[Bar] = []
        self.raw: dict = {}
        self.counter_file = FOLDER / "requests"

    # environment

    def start(self):
        shutil.rmtree(FOLDER, ignore_errors=True)
        FOLDER.mkdir(parents=True)
        self._install_peers()
        self._start_proxy()
        self._make_databases()
        for name in LABELS:
            self.workers[name] = self._start_worker(name)
        self.workers["addon"].call("configure")

    def stop(self):
        for worker in self.workers.values():
            worker.stop()
        for process in self.processes:
            processes.stop(process)

    def _install_peers(self):
        """Install fs_attachment into a folder of its own, unless it is there."""
        requirements = HERE / "requirements.txt"
        stamp = PEERS / "stamp"
        state = hashlib.sha256(requirements.read_bytes()).hexdigest()
        if stamp.exists() and stamp.read_text() == state:
            return
        say("installing fs_attachment and s3fs")
        shutil.rmtree(PEERS, ignore_errors=True)
        pip = [project.PYTHON, "-m", "pip", "--disable-pip-version-check", "install"]
        options = ["--quiet", "--no-deps", "--target", PEERS, "-r", requirements]
        result = subprocess.run(
            [str(part) for part in [*pip, *options]],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        if result.returncode:
            raise project.ProjectError(f"pip failed; it said:\n{result.stdout}")
        stamp.write_text(state)

    def _start_proxy(self):
        ports = FOLDER / "ports"
        target = urlsplit(self.direct).netloc
        latencies = ["0", str(self.plan.latency)]
        command = [sys.executable, HERE / "latency_proxy.py", target]
        log = FOLDER / "proxy.log"
        process = processes.start([*command, self.counter_file, ports, *latencies], log)
        self.processes.append(process)
        processes.wait_until(ports.exists, "the proxy", process=process, log=log)
        near, far = ports.read_text().split()
        self.near, self.far = f"http://127.0.0.1:{near}", f"http://127.0.0.1:{far}"
        self.counter = Counter(self.counter_file)

    def _odoo_env(self, name, **options):
        configuration = odoo_command.write_configuration(
            FOLDER / name, **{**ODOO_OPTIONS, **options}
        )
        env = {**self.env, "ODOO_RC": str(configuration)}
        if name == "peer":
            env["PYTHONPATH"] = str(PEERS)
        return env

    def _make_databases(self):
        own = services.Services(project.RUN / "bench" / "services")
        self._install("filestore", BASE, "web")
        installs = {**DATABASES, "migration": (MIGRATION_DATABASE, "attachment_s3")}
        for name, (database, module) in installs.items():
            data_dir = Path(ODOO_OPTIONS["data_dir"])
            odoo_server.copy_database(own, BASE, database, data_dir)
            if module != "web":
                self._install(name, database, module)

    def _install(self, name, database, module):
        say(f"database with {module}")
        arguments = ["-d", database, "-i", module, "--stop-after-init", "--no-http"]
        result = subprocess.run(
            [project.PYTHON, project.ODOO, "server", *arguments],
            env=self._odoo_env(name),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=processes.die_with_parent(),
        )
        if result.returncode:
            raise project.ProjectError(result.stdout[-3000:])

    def _start_worker(self, name, database=None):
        alternative = "addon" if name == "migration" else name
        env = self.env
        arguments = []
        if name != "boto3":
            env = self._odoo_env(name)
            arguments = [database or DATABASES[name][0]]
        command = [project.PYTHON, HERE / "attachments_worker.py", alternative]
        log = FOLDER / f"worker-{name}.log"
        return Worker([*command, self.counter_file, *arguments], env, log)

    def _use(self, endpoint):
        for worker in self.workers.values():
            worker.call("use", endpoint=endpoint)

    def _in_turn(self, times):
        """Yield the names of the alternatives, each repetition from another one on."""
        names = list(self.workers)
        for number in range(times):
            start = number % len(names)
            yield from names[start:] + names[:start]

    # parts

    def operations(self):
        """One by one: requests and time."""
        samples = {}
        places = {0: self.direct, self.plan.latency: self.far}
        for latency, endpoint in places.items():
            self._use(endpoint)
            for size, times in self.plan.sizes.items():
                say(f"operations: {size_text(size)}, {latency} ms, {times} times")
                self._measure_operations(samples, latency, size, times)
        rows = []
        for size in self.plan.sizes:
            for latency in places:
                for operation, text in OPERATIONS.items():
                    cells = []
                    for name in LABELS:
                        found = samples[latency, size, operation, name]
                        # the proxy counts, and it is asked for the latency only
                        counted = samples[self.plan.latency, size, operation, name]
                        requests = statistics.median(s["requests"] for s in counted)
                        cells.append(f"{requests:.0f} · {milliseconds(found):.1f}")
                    rows.append([size_text(size), f"{latency} ms", text, *cells])
        header = ["size", "latency", "requests · ms", *LABELS.values()]
        self.sections.append("### One by one\n\n" + results.table(header, rows))
        self.raw["operations"] = {"/".join(map(str, k)): v for k, v in samples.items()}
        self._operation_bars(samples)
        self._factors(samples)
        self._clients()
        self._cpu(samples)
        self._proxy_cost(samples)

    def _measure_operations(self, samples, latency, size, times):
        for name in self.workers:  # connections, caches
            self.workers[name].call("prepare", size=size)
            for operation in OPERATIONS:
                self.workers[name].call("measure", operation=operation)
        for number in range(times):
            for name in self.workers:
                self.workers[name].call("prepare", size=size)
            for operation in OPERATIONS:
                names = list(self.workers)
                start = number % len(names)
                for name in names[start:] + names[:start]:
                    sample = self.workers[name].call("measure", operation=operation)
                    key = (latency, size, operation, name)
                    samples.setdefault(key, []).append(sample)

    def _operation_bars(self, samples):
        far = self.plan.latency
        small = 20 * KB

        def requests(operation):
            found = samples[far, small, operation, "addon"]
            return statistics.median(sample["requests"] for sample in found)

        for operation, limit in (
            ("write", 1),
            ("write_same", 0),
            ("copy", 0),
            ("read", 1),
        ):
            text = f"requests of a {OPERATIONS[operation]}"
            self.bars.append(Bar.at_most(text, limit, requests(operation), digits=0))
        for operation in ("write", "read"):
            for size in (small, MB):
                for latency in (0, far):
                    times = {
                        name: milliseconds(samples[latency, size, operation, name])
                        for name in LABELS
                    }
                    self.bars.append(
                        Bar.at_most(
                            f"{operation} of {size_text(size)}, {latency} ms: "
                            "filestore + 1.3 × boto3",
                            times["filestore"] + 1.3 * times["boto3"],
                            times["addon"],
                            " ms",
                        )
                    )
        for operation, factor in (("write", 5), ("read", 2.5)):
            for latency in (0, far):
                peer, own = (
                    milliseconds(samples[latency, small, operation, name])
                    for name in ("peer", "addon")
                )
                text = f"{operation} of 20 kB, {latency} ms: faster than fs_attachment"
                self.bars.append(Bar.at_least(text, factor, peer / own, " ×", 1))

    def _factors(self, samples):
        """How much faster than fs_attachment one can be at all."""
        rows = []
        for operation in ("write", "read"):
            for size in self.plan.sizes:
                for latency in (0, self.plan.latency):
                    boto3, addon, filestore, peer = (
                        milliseconds(samples[latency, size, operation, name])
                        for name in ("boto3", "addon", "filestore", "peer")
                    )
                    rows.append(
                        [
                            f"{operation}, {size_text(size)}, {latency} ms",
                            f"{peer / addon:.1f} ×",
                            f"{peer / (filestore + boto3):.1f} ×",
                            f"{peer / boto3:.1f} ×",
                        ]
                    )
        header = [
            "faster than fs_attachment",
            "attachment_s3",
            "bare boto3 + filestore",
            "bare boto3 alone",
        ]
        self.sections.append(
            "### Where boto3 is the limit\n\nWhat stores attachments with boto3 costs "
            "what Odoo itself costs, which the filestore shows, and boto3.\n\n"
            + results.table(header, rows)
        )

    def _clients(self):
        """What the addon's use of boto3 saves."""
        rows = []
        for latency, endpoint in ((0, self.direct), (self.plan.latency, self.far)):
            for size in (20 * KB, MB):
                found = self.workers["addon"].call(
                    "compare_clients",
                    endpoint=endpoint,
                    size=size,
                    times=self.plan.profiled // (4 if latency else 1),
                )
                for operation in ("put", "get"):
                    cells = [
                        f"{1000 * found[f'{client} {operation}'][0]:.1f} · "
                        f"{1000 * found[f'{client} {operation}'][1]:.2f}"
                        for client in ("plain", "addon")
                    ]
                    text = f"{operation}, {size_text(size)}, {latency} ms"
                    rows.append([text, *cells])
        header = ["ms · of them CPU", "boto3 as it is", "as the addon uses it"]
        self.sections.append(
            "Bare `put_object` and `get_object`, in turn: uploads without "
            "`Expect: 100-continue` and in one piece, a fixed user agent.\n\n"
            + results.table(header, rows)
        )

    def _cpu(self, samples):
        """CPU time, which depends less on the load than time does."""
        rows = []
        for size in (20 * KB, MB):
            for operation in ("write", "read"):
                cells = [
                    statistics.median(
                        sample["cpu"] * 1000
                        for sample in samples[0, size, operation, name]
                    )
                    for name in LABELS
                ]
                rows.append(
                    [
                        f"{operation}, {size_text(size)}",
                        *(f"{cell:.1f}" for cell in cells),
                    ]
                )
        self.sections.append(
            "### CPU time of the process, ms\n\n"
            + results.table(["", *LABELS.values()], rows)
        )

    def _proxy_cost(self, samples):
        """Tell what the proxy itself costs."""
        worker = self.workers["boto3"]
        rows = []
        for size, times in self.plan.sizes.items():
            found = {}
            for endpoint in (self.direct, self.near):
                worker.call("use", endpoint=endpoint)
                worker.call("prepare", size=size)
                for number in range(times + 1):
                    for operation in ("write", "read", "delete"):
                        sample = worker.call("measure", operation=operation)
                        if number:
                            key = endpoint, operation
                            found.setdefault(key, []).append(sample)
            cost = {
                operation: milliseconds(found[self.near, operation])
                - milliseconds(found[self.direct, operation])
                for operation in ("write", "read")
            }
            rows.append(
                f"{size_text(size)}: write {cost['write']:+.1f} ms, "
                f"read {cost['read']:+.1f} ms"
            )
        self.sections.append(
            "The proxy that adds the latency and counts the requests costs, without "
            f"any latency, on top of bare boto3: {'; '.join(rows)}. It is used for the "
            f"rows of {self.plan.latency} ms only. Odoo's deletions leave the content "
            "to a collector, whose requests are not in the table."
        )

    def many(self):
        """Binary fields of many records in one go."""
        count, size = self.plan.many
        say(f"reading {count} × {size_text(size)}")
        self._use(self.direct)
        for worker in self.workers.values():
            worker.call("prepare_many", count=count, size=size)
        samples = {}
        for endpoint, times in ((self.direct, 1), (self.far, self.plan.many_times)):
            self._use(endpoint)
            for name in self._in_turn(times):
                for operation in ("many", "one_by_one"):
                    sample = self.workers[name].call("measure", operation=operation)
                    if endpoint == self.far:
                        samples.setdefault((name, operation), []).append(sample)
        rows = []
        for name, label in LABELS.items():
            together = milliseconds(samples[name, "many"])
            single = milliseconds(samples[name, "one_by_one"])
            requests = statistics.median(s["requests"] for s in samples[name, "many"])
            label += f", {THREADS} threads" if name == "boto3" else ""
            rows.append(
                [
                    label,
                    f"{together:.0f}",
                    f"{single:.0f}",
                    f"1/{single / together:.1f}",
                    f"{requests:.0f}",
                ]
            )
            if name == "addon":
                self.bars.append(
                    Bar.at_most(
                        f"{count} × {size_text(size)} in one go, share of one by one",
                        1 / 6,
                        together / single,
                        digits=3,
                    )
                )
        header = ["", "in one go, ms", "one by one, ms", "share", "requests"]
        self.sections.append(
            f"### A field of {count} records, {size_text(size)} each, "
            f"{self.plan.latency} ms of latency\n\n" + results.table(header, rows)
        )
        self.raw["many"] = {"/".join(k): v for k, v in samples.items()}

    def downloads(self):
        """Download through HTTP: MB/s and memory of the server."""
        size = self.plan.download_bytes
        say(f"download of {size_text(size)}")
        self._use(self.direct)
        urls = {"boto3": self.workers["boto3"].call("presigned_url", size=size)}
        servers = {}
        for name in DATABASES:
            id_ = self.workers[name].call("create_public", size=size)
            servers[name], url = self._start_server(name)
            urls[name] = f"{url}/web/content/{id_}"
        speeds, growth = {}, {}
        for name in self._in_turn(self.plan.downloads):
            pid = servers[name].pid if name in servers else None
            if pid:
                forget_peak(pid)
                before = process_memory_mib(pid, "VmRSS")
            seconds = download(urls[name], size)
            speeds.setdefault(name, []).append(size / MB / seconds)
            if pid:
                peak = process_memory_mib(pid, "VmHWM")
                growth.setdefault(name, []).append(peak - before)
        direct = statistics.median(speeds["boto3"])
        rows = []
        for name, label in LABELS.items():
            speed = statistics.median(speeds[name])
            memory = f"{max(growth[name]):.0f}" if name in growth else "–"
            label = "S3 server, presigned address" if name == "boto3" else label
            share = f"{100 * speed / direct:.0f} %"
            rows.append([label, f"{speed:.0f}", share, memory])
        self.bars += [
            Bar.at_least(
                f"download of {size_text(size)}: share of a direct one's speed",
                70,
                100 * statistics.median(speeds["addon"]) / direct,
                " %",
                0,
            ),
            Bar.at_most(
                "… growth of the server's memory", 32, max(growth["addon"]), " MiB", 0
            ),
        ]
        header = ["", "MB/s", "of direct", "largest growth of memory, MiB"]
        self.sections.append(
            f"### Download of {size_text(size)} through HTTP\n\n"
            + results.table(header, rows)
        )
        self.raw["downloads"] = {"speeds": speeds, "growth": growth}
        for server in servers.values():
            processes.stop(server)
        self._not_modified()

    def _not_modified(self):
        """What a browser that has the content already costs."""
        id_ = self.workers["addon"].call("create_public", size=MB)
        server, url = self._start_server("addon", AWS_HOST=self.far)
        path = f"{url}/web/content/{id_}"
        etag = request(path).headers["ETag"]
        requests = self.counter.value
        response = request(path, {"If-None-Match": etag})
        requests = self.counter.value - requests
        if response.status != 304:
            raise project.ProjectError(f"status {response.status} instead of 304")
        self.bars.append(
            Bar.at_most("requests of a browser's 304", 0, requests, digits=0)
        )
        processes.stop(server)

    def _start_server(self, name, **variables):
        port = processes.free_port()
        env = self._odoo_env(
            name, http_port=str(port), gevent_port=str(processes.free_port())
        )
        database = DATABASES[name][0]
        log = FOLDER / f"server-{name}.log"
        server = processes.start(
            [project.PYTHON, project.ODOO, "server", "-d", database],
            log,
            env={**env, **variables},
        )
        self.processes.append(server)
        url = f"http://127.0.0.1:{port}"
        processes.wait_until(
            lambda: request(f"{url}/web/login").status == 200,
            f"Odoo with {name}",
            120,
            process=server,
            log=log,
        )
        return server, url

    def migration(self):
        """Local files to S3, beside a bare uploader with as many threads."""
        count, size = self.plan.migrated
        threads = 8  # the addon's default
        say(f"migration of {count} × {size_text(size)}")
        listing = FOLDER / "files"
        bare = self.workers["boto3"]
        bare.call("use", endpoint=self.direct)
        preparing = self._start_worker("migration", MIGRATION_DATABASE)
        preparing.call("prepare_files", count=count, size=size, listing=str(listing))
        preparing.stop()
        speeds, memory = {"boto3": [], "addon": []}, []
        worker = None
        for number in range(self.plan.migrations):
            if worker:
                worker.call("undo_migration")
                worker.stop()
            # a new process, whose memory holds nothing of the former one
            worker = self._start_worker("migration", MIGRATION_DATABASE)

            def upload():
                seconds = bare.call(
                    "upload_files", listing=str(listing), threads=threads
                )
                speeds["boto3"].append(count / seconds)

            def migrate(worker=worker):
                result = worker.call("migrate")
                if result["moved"] != count or result["failed"]:
                    raise project.ProjectError(f"migration: {result}")
                speeds["addon"].append(count / result["seconds"])
                memory.append(result["memory"])

            turns = [upload, migrate]
            for turn in turns if number % 2 == 0 else reversed(turns):
                turn()
            say(
                f"  bare {speeds['boto3'][-1]:.0f} files/s, "
                f"migration {speeds['addon'][-1]:.0f} files/s"
            )
        worker.stop()
        own, direct = (statistics.median(speeds[name]) for name in ("addon", "boto3"))
        rows = [
            ["bare boto3", f"{direct:.0f}", "–", "–"],
            [
                "attachment_s3",
                f"{own:.0f}",
                f"{100 * own / direct:.0f} %",
                f"{max(memory):.0f}",
            ],
        ]
        header = ["", "files/s", "of bare", "largest growth of memory, MiB"]
        self.sections.append(
            f"### Migration of {count} × {size_text(size)} from local files, {threads} "
            "threads\n\n" + results.table(header, rows)
        )
        self.bars += [
            Bar.at_least(
                f"migration of {count} × {size_text(size)}: share of the bare "
                "uploader's speed",
                80,
                100 * own / direct,
                " %",
                0,
            ),
            Bar.at_most(
                "… growth of the memory (2 batches)", 128, max(memory), " MiB", 0
            ),
        ]
        self.raw["migration"] = {"speeds": speeds, "memory": memory}

    def profile(self):
        """Where the time of the addon goes."""
        say("profile")
        self._use(self.direct)
        rows = []
        for size in (20 * KB, MB):
            for operation in ("write", "read"):
                for name in ("boto3", "addon"):
                    found = self.workers[name].call(
                        "profile",
                        operation=operation,
                        size=size,
                        times=self.plan.profiled,
                    )
                    total, client, http_ = (
                        found[key] * 1000 for key in ("total", "client", "http")
                    )
                    rows.append(
                        [
                            f"{operation}, {size_text(size)}",
                            LABELS[name],
                            f"{total:.2f}",
                            f"{total - client:.2f}",
                            f"{client - http_:.2f}",
                            f"{http_:.2f}",
                        ]
                    )
        header = [
            "",
            "",
            "ms, profiled",
            "outside of botocore",
            "botocore's own",
            "HTTP and S3 server",
        ]
        self.sections.append(
            "### Where the time goes\n\ncProfile makes Python's own share larger than "
            "it is; the proportions within a row are what to look at.\n\n"
            + results.table(header, rows)
        )

    # report

    def report(self, started, load, write):
        libraries = [
            f"{name} {version(name)}" for name in ("boto3", "botocore", "urllib3")
        ]
        minutes = (time.time() - started) / 60
        facts = [*libraries, "ministack", f"{minutes:.0f} minutes"]
        facts.append(f"load {load:.1f} before, {os.getloadavg()[0]:.1f} after")
        bars = results.table(
            ["", "wanted", "measured", "met"], [bar.cells for bar in self.bars]
        )
        text = "\n\n".join([INTRODUCTION, f"### Bars\n\n{bars}", *self.sections])
        (FOLDER / "samples.json").write_text(json.dumps(self.raw))
        if write:
            results.write("Attachments", text, *facts)
        project.say(f"\n{' · '.join(facts)}\n\n{text}")


class Answer:
    """Status and headers of an HTTP answer whose body was read."""

    def __init__(self, status, headers):
        self.status = status
        self.headers = headers


def request(url, headers=None) -> Answer:
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    try:
        connection.request("GET", f"{parts.path}?{parts.query}", headers=headers or {})
        response = connection.getresponse()
        response.read()
        return Answer(response.status, response.headers)
    finally:
        connection.close()


def download(url: str, size: int) -> float:
    """Download and throw away; return the seconds.

    :raises ProjectError: when something else than ``size`` bytes arrives
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=60)
    buffer = bytearray(CHUNK_BYTES)
    received = 0
    start = time.perf_counter()
    connection.request("GET", f"{parts.path}?{parts.query}")
    response = connection.getresponse()
    while count := response.readinto(buffer):
        received += count
    seconds = time.perf_counter() - start
    connection.close()
    if response.status != 200 or received != size:
        raise project.ProjectError(f"{url}: {response.status}, {received} bytes")
    return seconds


def run():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--quick",
        action="store_true",
        help="few repetitions, small contents; RESULTS.md stays",
    )
    parser.add_argument("--only", nargs="+", default=PARTS, choices=PARTS)
    arguments = parser.parse_args()
    started, load = time.time(), os.getloadavg()[0]
    benchmark = Benchmark(QUICK if arguments.quick else Plan())
    try:
        benchmark.start()
        for part in arguments.only:
            getattr(benchmark, part)()
    finally:
        benchmark.stop()
    whole = not arguments.quick and arguments.only == PARTS
    benchmark.report(started, load, write=whole)
    return 0


PARTS = ["operations", "many", "downloads", "migration", "profile"]

if __name__ == "__main__":
    project.main(run)
