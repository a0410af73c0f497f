"""What servers log and measure is what the collectors' files under deploy/ expect.

Servers with everything on are driven through logins, reads, uploads, an RPC error, a
404, a page that crashes, scheduled actions, killed processes, a lost object and a Redis
that is away; others do not even start. What they sent, wrote and told a Prometheus is
compared with the statsd_exporter mapping, the alert rules, the dashboards and the
Elasticsearch templates; `promtool` checks rules, queries and metrics.

Not covered: neither statsd_exporter, Grafana nor Elasticsearch runs here. The
evaluator of the mapping knows globs, label templates and DogStatsD tags, but no
`regex` rules, `drop`, `scale`, `honor_labels`, `ttl` or escaping, none of which the
mapping relies on, and no order of rules that overlap: none may. What a record is for
Elasticsearch is told from the types of the templates.
"""

import contextlib
import hashlib
import importlib
import ipaddress
import json
import os
import re
import subprocess
from datetime import datetime, timedelta

import boto3
import psutil
import pytest
import requests
import yaml
from jsonschema import Draft202012Validator
from prometheus_client.parser import text_string_to_metric_families
from toolbox import odoo_command, odoo_server, processes, programs, project
from toolbox.demo import PARTNER, StatsdListener
from toolbox.web_client import WebClient

import odoo.addons

DATABASE = "test_monitoring"
DEPLOY = project.ROOT / "deploy"
PROMETHEUS = DEPLOY / "prometheus"
MAPPING = yaml.safe_load((PROMETHEUS / "statsd-mapping.yml").read_text())
ALERTS = PROMETHEUS / "alerts.yml"
ALERT_TESTS = PROMETHEUS / "alerts_test.yml"
DASHBOARDS = sorted((DEPLOY / "grafana").glob("*.json"))
PLACE = {"customer": "acme", "environment": "prod"}
TOKEN = "s3cret-of-prometheus"
WORKS, FAILS = "Monitoring: works", "Monitoring: fails"
#: of the addon that CRASHES makes
CRASHING_PAGE = "/monitoring_crashes/page"
ODD_LOGGER = "monitoring_crashes.odd"
#: addons that fail, by name, with their files
CRASHES = {
    "monitoring_crashes": {
        "__init__.py": f"""
import logging

from odoo.http import Controller, request, route

_logger = logging.getLogger("{ODD_LOGGER}")


class Unprintable:
    def __str__(self):
        raise ValueError("no text")

    __repr__ = __str__


def log_odd_records():
    circular = {{"bytes": b"\\xff", "nan": float("nan"), 3: "number"}}
    circular["self"] = circular
    names = dict.fromkeys(("uid", "request_id", "json_fields"), "somebody else's")
    extra = {{**names, "circular": circular, "unprintable": Unprintable()}}
    _logger.info("%d apples", "many", extra=extra, stack_info=True)
    _logger.info("%s", Unprintable())
    _logger.info("%s", "x" * 10_000_000)
    try:
        raise LookupError(Unprintable())
    except LookupError:
        _logger.warning("No text", exc_info=True)


class Crashing(Controller):
    @route("{CRASHING_PAGE}", auth="public")
    def page(self):
        log_odd_records()
        password = "s3cret"
        raise LookupError(f"page of {{request.env.user.id}} with {{password=}}")
""",
    },
    "monitoring_import": {"__init__.py": "raise LookupError('while it is imported')"},
}

if str(project.ROOT) not in odoo.addons.__path__:
    odoo.addons.__path__.append(str(project.ROOT))
NAMES = importlib.import_module("odoo.addons.monitoring_statsd.metrics").NAMES
ECS_NAMES = importlib.import_module("odoo.addons.logging_json.formatter").ECS_NAMES


# The mapping evaluator

METRIC_TYPES = {"ms": "observer", "c": "counter", "g": "gauge"}


class Mapped:
    """What statsd_exporter would make of one line: a name, its type and labels."""

    def __init__(self, rule, kind, labels):
        self.name = rule["name"]
        self.kind = kind
        self.labels = labels

    def series(self):
        """Names of the series, with the names of their labels."""
        labels = frozenset(self.labels)
        if self.kind != "observer":
            return {self.name: labels}
        return {
            f"{self.name}_bucket": labels | {"le"},
            f"{self.name}_sum": labels,
            f"{self.name}_count": labels,
        }


def evaluate(line):
    """Map a statsd line; exactly one rule must fit.

    :raises LookupError: none does, or several do
    """
    name, _colon, rest = line.partition(":")
    _value, kind, *more = rest.split("|")
    kind = METRIC_TYPES[kind]
    tags = {}
    for part in more:
        if part.startswith("#"):
            tags = dict(tag.split(":", 1) for tag in part[1:].split(","))
    found = []
    for rule in MAPPING["mappings"]:
        captures = glob(rule["match"], name)
        if captures is not None and rule.get("match_metric_type", kind) == kind:
            labels = {
                label: re.sub(r"\$(\d+)", lambda m, c=captures: c[int(m[1]) - 1], text)
                for label, text in rule.get("labels", {}).items()
            }
            found.append(Mapped(rule, kind, {**tags, **labels}))
    if len(found) != 1:
        raise LookupError(f"{len(found)} rules for {line}")
    return found[0]


def glob(pattern, name):
    """Return what the asterisks stand for, or None when the name does not fit."""
    patterns, parts = pattern.split("."), name.split(".")
    if len(patterns) != len(parts):
        return None
    captures = []
    for expected, part in zip(patterns, parts, strict=True):
        if expected == "*":
            captures.append(part)
        elif expected != part:
            return None
    return captures


def example(name, dogstatsd=False):
    """A line of a metric of NAMES."""
    metric = NAMES[name]
    labels = {label: f"some_{label}" for label in metric.labels}
    value = f"1|{metric.kind}"
    if dogstatsd:
        tags = ",".join(f"{key}:{text}" for key, text in {**PLACE, **labels}.items())
        return f"odoo.{name}:{value}|#{tags}"
    return ".".join([f"odoo.{name}", *PLACE.values(), *labels.values()]) + f":{value}"


@pytest.mark.parametrize("name", NAMES)
def test_every_name_is_mapped_alike_as_name_and_as_tags(name):
    plain = evaluate(example(name))
    tagged = evaluate(example(name, dogstatsd=True))
    expected = {label: f"some_{label}" for label in NAMES[name].labels}
    assert plain.labels == {**PLACE, **expected}
    assert plain.name == tagged.name
    assert plain.labels == tagged.labels
    # what these types of metrics are called: https://prometheus.io/docs/practices/naming
    suffixes = {"ms": "_seconds", "c": "_total", "g": ("_bytes", "_attachments")}
    assert plain.name.endswith(suffixes[NAMES[name].kind])
    # /metrics has the same names
    assert plain.name == NAMES[name].series
    # a scraped target has labels of these names itself
    assert not {"job", "instance", "le"} & set(plain.labels)


def test_every_rule_maps_a_name():
    matches = {rule["match"] for rule in MAPPING["mappings"]}
    expected = set()
    for name, metric in NAMES.items():
        asterisks = ".*" * (len(PLACE) + len(metric.labels))
        expected |= {f"odoo.{name}", f"odoo.{name}{asterisks}"}
    assert matches == expected
    assert MAPPING["defaults"]["observer_type"] == "histogram"


def test_histograms_of_statsd_exporter_and_of_odoo_have_the_same_buckets():
    usual = MAPPING["defaults"]["histogram_options"]
    for rule in MAPPING["mappings"]:
        [metric] = [m for m in NAMES.values() if m.series == rule["name"]]
        if metric.kind == "ms":
            expected = rule.get("histogram_options", usual)["buckets"]
            assert list(metric.buckets) == expected, rule["name"]


def test_evaluator_finds_what_is_not_mapped():
    for line in ("odoo.http.request.acme:1|ms", "odoo.http.request.acme.prod:1|c"):
        with pytest.raises(LookupError):
            evaluate(line)


# A run of real servers


class Run:
    """What the servers sent and wrote."""

    def __init__(self):
        #: statsd lines, customer and labels in the name, and as tags
        self.plain: list[str] = []
        self.tagged: list[str] = []
        #: records by format
        self.records: dict[str, list[dict]] = {}
        #: lines of each server's log that are no JSON
        self.others: list[list[str]] = []
        #: answers to a Prometheus, before and after a worker was killed
        self.scraped: list[requests.Response] = []
        #: the same, without the token, and where no token is set
        self.refused: list[requests.Response] = []
        #: request identifier and status of the answers, by format and path
        self.answers: dict[tuple[str, str], tuple[str, int]] = {}
        #: processes of prefork servers that were killed, by format
        self.killed: dict[str, list[int]] = {}
        #: exit status and records of what does not start, by format and reason
        self.not_started: dict[tuple[str, str], tuple[int, list[dict]]] = {}


@pytest.fixture(scope="module")
def run(services, run_folder, odoo_folder, make_database):
    run = Run()
    make_database(DATABASE)
    sql = """
        INSERT INTO ir_config_parameter (key, value) VALUES (%s, %s)
        ON CONFLICT (key) DO UPDATE SET value = excluded.value
    """
    odoo_server.query(services, DATABASE, sql, "ir_attachment.location", "s3://")
    crashes = make_addons(run_folder / "monitoring_addons")
    wide = ",".join([*project.SERVER_WIDE_MODULES, "monitoring_crashes"])
    with_crashes = {
        "addons_path": f"{odoo_command.addons_path()},{crashes}",
        "server_wide_modules": wide,
    }

    @contextlib.contextmanager
    def serve(log_format, options, **variables):
        statsd = StatsdListener()
        statsd.start()
        server = odoo_server.OdooServer(
            services,
            run_folder / "front_ends" / f"monitoring_{log_format}",
            DATABASE,
            {**with_crashes, **options},
            ODOO_LOGGING_JSON="1",
            ODOO_LOGGING_JSON_FORMAT=log_format,
            ODOO_STATSD="1",
            STATSD_HOST="127.0.0.1",
            STATSD_PORT=str(statsd.port),
            STATSD_CUSTOMER="acme",
            STATSD_ENVIRONMENT="prod",
            # a scheduled action is due when it is written, not a minute later
            ODOO_NOTIFY_CRON_CHANGES="1",
            **variables,
        )
        server.log.unlink(missing_ok=True)
        server.launch()
        try:
            yield server, statsd.metrics
        finally:
            server.stop()
        records, others = odoo_server.json_lines(server.log)
        run.records.setdefault(log_format, []).extend(records)
        run.others.append(others)

    prefork = {"workers": "2", "max_cron_threads": "1"}
    scraping = {
        "ODOO_METRICS_TOKEN": TOKEN,
        "PROMETHEUS_MULTIPROC_DIR": str(run_folder / "monitoring_metrics"),
    }
    with serve("flat", prefork, **scraping) as (server, lines):
        cookie = drive(run, "flat", services, odoo_folder, server, lines)
        run.scraped.append(scrape(server.url, TOKEN))
        kill_processes(run, "flat", server)
        run.scraped.append(scrape(server.url, TOKEN))
        ask_gevent(server, lines, cookie)
        gevent = f"http://127.0.0.1:{server.websocket_port}"
        run.scraped.append(scrape(gevent, TOKEN))
        run.refused += [scrape(server.url), scrape(server.url, f"{TOKEN}é")]
        run.plain = lines
    threaded = {"max_cron_threads": "1"}
    with serve("ecs", threaded, STATSD_DOGSTATSD="1") as (server, lines):
        drive(run, "ecs", services, odoo_folder, server, lines)
        run.refused.append(scrape(server.url, TOKEN))
        run.tagged = lines
    with serve("ecs", {"workers": "1", "max_cron_threads": "0"}) as (server, _lines):
        server.wait()
        kill_processes(run, "ecs", server)
    away = {
        "ODOO_SESSION_REDIS_PORT": str(processes.free_port()),
        # what is tested is not the check at the start
        "ODOO_CLOUD_PLATFORM_UNSAFE": "1",
    }
    with serve("flat", {"max_cron_threads": "0"}, **away) as (server, lines):
        ask_without_redis(server, lines, cookie)
        run.plain += lines
    for log_format in ("flat", "ecs"):
        fail_to_start(run, log_format, services, odoo_folder, with_crashes)
    return run


def make_addons(folder):
    """Write the addons that fail, and return their folder."""
    for addon, files in CRASHES.items():
        manifest = {"name": addon, "license": "LGPL-3", "depends": ["base", "web"]}
        for name, text in {**files, "__manifest__.py": repr(manifest)}.items():
            path = folder / addon / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text)
    return folder


def drive(run, log_format, services, folder, server, lines):
    """Do with a server what its users do; return the cookie.

    :param folder: has the local files of the database
    """
    server.wait()
    with pytest.raises(PermissionError):
        WebClient(server.url).login("admin", "s3cret")
    client = WebClient(server.url)
    client.login()

    def get(path):
        response = client.request("GET", path)
        identifier = response.headers["X-Request-ID"]
        run.answers[log_format, path] = identifier, response.status_code
        return response

    assert get("/web/static/img/logo.png").status_code == 200
    assert get(f"/web/image/res.partner/{PARTNER}/image_128").status_code == 200
    assert get("/nothing/here").status_code == 404
    assert get("/auth_oauth/signin?code=s3cret").status_code == 404
    assert get(CRASHING_PAGE).status_code == 500
    assert get("/web/login?access_token=s3cret").status_code == 200
    client.call("res.partner", "read", [PARTNER], ["name"])
    with pytest.raises(RuntimeError):
        client.call("res.partner", "read", [PARTNER], {"no": "list"}, "too", "many")
    [partner] = client.call("res.partner", "create", [{"name": "Button"}])
    client.rpc(
        "/web/dataset/call_button/res.partner/action_archive",
        model="res.partner",
        method="action_archive",
        args=[[partner]],
        kwargs={},
    )

    content = os.urandom(200_000)
    uploaded = client.upload("monitoring.bin", content, "res.partner", PARTNER)
    path = f"/web/content/{uploaded['id']}"
    assert get(path).content == content
    lose_object(services, uploaded["id"])
    get(f"{path}?lost")

    run_crons(client, lines)
    make_elsewhere(services)
    # into the same folder and to the same statsd
    command = ["s3migrate", "-d", DATABASE]
    moved = odoo_server.run_odoo(services, folder, *command, **server.variables)
    assert moved.returncode == 0, moved.stdout
    wait_for(lines, "odoo.migration.bytes", "moved")
    return client.http.cookies["session_id"]


def lose_object(services, attachment_id):
    sql = "SELECT store_fname FROM ir_attachment WHERE id = %s"
    ((store_fname,),) = odoo_server.query(services, DATABASE, sql, attachment_id)
    bucket, _slash, key = store_fname.removeprefix("s3://").partition("/")
    env = services.env
    client = boto3.client(
        "s3",
        endpoint_url=env["AWS_HOST"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )
    client.head_object(Bucket=bucket, Key=key)
    client.delete_object(Bucket=bucket, Key=key)


def make_elsewhere(services):
    """Put a content in the database that belongs into the bucket."""
    content = os.urandom(2000)
    sql = """
        INSERT INTO ir_attachment
               (name, type, db_datas, file_size, checksum, mimetype, create_date)
        VALUES ('elsewhere', 'binary', %s, %s, %s, 'application/octet-stream', now())
    """
    checksum = hashlib.sha1(content).hexdigest()
    odoo_server.query(services, DATABASE, sql, content, len(content), checksum)


def scrape(url, token=None):
    headers = {"Authorization": f"Bearer {token}".encode()} if token else {}
    return requests.get(f"{url}/metrics", headers=headers, timeout=60)


def run_crons(client, lines):
    """Let the server's own scheduler run a job that works and one that fails."""
    [model] = client.call("ir.model", "search", [("model", "=", "res.partner")])
    due = (datetime.utcnow() - timedelta(hours=1)).strftime("%Y-%m-%d %H:%M:%S")
    for name, code in (
        (WORKS, "model.search_count([])"),
        (FAILS, "model.no_such_method()"),
    ):
        jobs = client.call("ir.cron", "search", [("cron_name", "=", name)])
        if jobs:
            client.call("ir.cron", "write", jobs, {"nextcall": due})
        else:
            values = {"name": name, "model_id": model, "state": "code", "code": code}
            values |= {"interval_number": 1, "interval_type": "days", "nextcall": due}
            client.call("ir.cron", "create", [values])
    for word in ("Monitoring_works", "Monitoring_fails"):
        wait_for(lines, "odoo.cron.sql_time", word)


def kill_processes(run, log_format, server):
    """End processes of a server as the kernel does when memory is short."""
    names = field_names(log_format)
    master = psutil.Process(server.process.pid)
    gevent = f"http://127.0.0.1:{server.websocket_port}/websocket/health"
    processes.wait_until(lambda: odoo_server.http_status(gevent) == 200, "gevent")
    records, _others = odoo_server.json_lines(server.log)
    http = {r[names["pid"]] for r in records if names["duration_ms"] in r}
    children = {child.pid: child for child in master.children()}
    [of_websockets] = [
        child for child in children.values() if "gevent" in child.cmdline()
    ]
    worker = next(child for pid, child in children.items() if pid in http)
    for victim in (worker, of_websockets):
        victim.kill()
        victim.wait()
        run.killed.setdefault(log_format, []).append(victim.pid)
    server.wait()
    processes.wait_until(lambda: odoo_server.http_status(gevent) == 200, "gevent")


def fail_to_start(run, log_format, services, folder, with_crashes):
    """Let a server end before it serves anything."""
    of_database = ("-d", DATABASE, "--no-http", "--stop-after-init")
    options = {**with_crashes, "server_wide_modules": "base,web,monitoring_import"}
    path = f"--addons-path={options['addons_path']}"
    modules = f"--load={options['server_wide_modules']}"
    for reason, arguments, variables in (
        ("option", ["--no-such-option"], {}),
        ("value", ["--workers=many"], {}),
        ("user", of_database, {"PGUSER": "postgres"}),
        ("database", of_database, {"PGPORT": str(processes.free_port())}),
        ("import", [*of_database, path, modules], {}),
    ):
        ended = odoo_server.run_odoo(
            services,
            folder,
            "cloudserver",
            *arguments,
            ODOO_LOGGING_JSON="1",
            ODOO_LOGGING_JSON_FORMAT=log_format,
            **variables,
        )
        records, others = odoo_server.split_json(ended.stdout)
        run.records[log_format].extend(records)
        run.others.append(others)
        run.not_started[log_format, reason] = ended.returncode, records


def ask_gevent(server, lines, cookie):
    """A request to the process of the websockets, which is no upgrade."""
    processes.wait_until(
        lambda: processes.accepts_connections(server.websocket_port), "gevent"
    )
    response = requests.get(
        f"http://127.0.0.1:{server.websocket_port}/web/login",
        cookies={"session_id": cookie},
        timeout=60,
    )
    assert response.status_code == 200
    wait_for(lines, "odoo.worker.memory", ".gevent")


def ask_without_redis(server, lines, cookie):
    processes.wait_until(
        lambda: processes.accepts_connections(server.port), "Odoo", 120, server.process
    )
    response = requests.get(
        f"{server.url}/web", cookies={"session_id": cookie}, timeout=60
    )
    assert response.status_code == 503
    wait_for(lines, "odoo.http.status", "5xx")


def wait_for(lines, start, text):
    processes.wait_until(
        lambda: any(line.startswith(start) and text in line for line in list(lines)),
        f"metric {start} {text} in {sorted({line.split(':')[0] for line in lines})}",
    )


# Metrics


def emitted_names(lines):
    """Names of NAMES, each line must have one."""
    names = set()
    for line in lines:
        written = line.partition(":")[0]
        [name] = [name for name in NAMES if f"{written}.".startswith(f"odoo.{name}.")]
        names.add(name)
    return names


def series(lines):
    """All series that a run gives, with their labels."""
    found = {}
    for line in lines:
        for name, labels in evaluate(line).series().items():
            assert found.setdefault(name, labels) == labels
    return found


def test_readme_lists_every_metric_and_no_other():
    usage = (project.ROOT / "monitoring_statsd" / "readme" / "USAGE.md").read_text()
    listed = set(re.findall(r"^\| `([^`]+)` \| (\w+) \|", usage, re.MULTILINE))
    kinds = {"ms": "timing", "c": "counter", "g": "gauge"}
    assert listed == {
        (
            ".".join([name, *(f"<{label}>" for label in metric.labels)]),
            kinds[metric.kind],
        )
        for name, metric in NAMES.items()
    }


def test_every_metric_is_emitted(run):
    assert emitted_names(run.plain) == set(NAMES)


def test_every_metric_of_a_healthy_redis_is_emitted_as_tags(run):
    # a healthy one is tried again when the machine is busy
    of_faults = {"redis.error", "redis.retries"}
    assert emitted_names(run.tagged) | of_faults == set(NAMES)


def test_tags_and_names_give_the_same_series(run):
    tagged = series(run.tagged)
    plain = series(run.plain)
    assert tagged.items() <= plain.items()
    of_faults = {"odoo_redis_errors_total", "odoo_redis_retries_total"}
    assert set(plain) - set(tagged) <= of_faults


def test_labels_tell_what_happened(run):
    found = {(m.name, *sorted(m.labels.items())) for m in map(evaluate, run.plain)}

    def seen(name, **labels):
        return (name, *sorted({**PLACE, **labels}.items())) in found

    for status in ("2xx", "4xx", "5xx"):
        assert seen("odoo_http_responses_total", status=status)
    for kind in ("http", "cron", "gevent", "threaded"):
        assert seen("odoo_worker_memory_bytes", kind=kind)
    assert seen("odoo_http_rpc_seconds", model="res_partner", method="read")
    button = {"model": "res_partner", "method": "action_archive"}
    assert seen("odoo_http_button_seconds", **button)
    for cron, outcome in (
        ("Monitoring_works", "fully_done"),
        ("Monitoring_fails", "failed"),
    ):
        assert seen("odoo_cron_runs_total", cron=cron, outcome=outcome)
    for operation in ("put", "get"):
        assert seen("odoo_s3_bytes_total", operation=operation)
    assert seen("odoo_s3_errors_total", operation="get", error="S3ObjectMissing")
    assert seen("odoo_redis_errors_total", operation="get", error="ConnectionError")
    assert seen("odoo_redis_retries_total", operation="get")


# What Prometheus fetches from Odoo itself


def families(answer):
    return {f.name: f for f in text_string_to_metric_families(answer.text)}


def samples(answer):
    return {
        (sample.name, *sorted(sample.labels.items())): sample.value
        for family in families(answer).values()
        for sample in family.samples
    }


def test_metrics_are_told_without_a_session(run):
    for answer in run.scraped:
        assert answer.status_code == 200
        assert answer.headers["Content-Type"].startswith("text/plain; version=")
        assert "Set-Cookie" not in answer.headers
    unknown, wrong, no_token = run.refused
    for answer in (unknown, wrong):
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"] == "Bearer"
        assert "Set-Cookie" not in answer.headers
        assert "odoo_" not in answer.text
    assert no_token.status_code == 404


def test_scrapes_leave_no_line_in_the_access_log_unless_refused(run):
    told = [r["message"] for r in run.records["flat"] if "/metrics" in r["message"]]
    refused = run.refused[:2]
    assert len(told) == len(refused), told
    for message in told:
        # perhaps with the last remote call of the worker
        assert re.search(r'"GET /metrics\S* HTTP/1\.1" 401', message), told


def test_metrics_have_the_series_that_statsd_exporter_makes(run):
    """Of all processes: HTTP workers, scheduled actions, websockets, a command."""
    told = {}
    for name, *labels in samples(run.scraped[-1]):
        told.setdefault(name, set()).add(frozenset(label for label, _value in labels))
    of_faults = {"odoo_redis_errors_total", "odoo_redis_retries_total"}
    expected = {
        name: {labels}
        for name, labels in series(run.plain).items()
        if name not in of_faults
    }
    assert {n: t for n, t in told.items() if n not in of_faults} == expected
    types = {m.series.removesuffix("_total"): m.kind for m in NAMES.values()}
    long = {"ms": "histogram", "c": "counter", "g": "gauge"}
    for name, family in families(run.scraped[-1]).items():
        assert family.type == long[types[name]]


def test_metrics_tell_what_happened_in_every_process(run):
    told = samples(run.scraped[-1])

    def value(name, **labels):
        return told[(name, *sorted({**PLACE, **labels}.items()))]

    assert value("odoo_http_responses_total", status="4xx") >= 1
    assert value("odoo_cron_runs_total", cron="Monitoring_fails", outcome="failed") == 1
    for kind in ("http", "cron", "gevent"):
        assert 10**7 < value("odoo_worker_memory_bytes", kind=kind) < 10**10
    where = {"database": DATABASE, "state": "moved"}
    assert value("odoo_migration_attachments", **where) > 10
    assert value("odoo_migration_bytes", **where) > 1000
    # the same requests: those of the websockets' process included
    counted = sum(line.startswith("odoo.http.request.") for line in run.plain)
    assert 0 < value("odoo_http_request_seconds_count") <= counted


def test_killed_worker_takes_no_figures_with_it(run):
    before, after = map(samples, run.scraped[:2])
    for key, value in before.items():
        if key[0] != "odoo_worker_memory_bytes":
            assert after[key] >= value, key


def test_promtool_accepts_the_metrics(run):
    for answer in run.scraped:
        assert promtool("check", "metrics", stdin=answer.text) == 0


# Alerts and dashboards

SELECTOR = re.compile(r"\b(odoo_\w+)(?:\{([^}]*)\})?")
MATCHER = re.compile(r"(\w+)\s*(?:=~|!~|!=|=)\s*\"")
GROUPING = re.compile(r"\b(?:by|without|on)\s*\(([^)]*)\)")


def alert_rules():
    groups = yaml.safe_load(ALERTS.read_text())["groups"]
    return [rule for group in groups for rule in group["rules"]]


def panels(path):
    dashboard = json.loads(path.read_text())
    return [panel for panel in dashboard["panels"] if panel["type"] != "row"]


def queries(path):
    """Expressions of a dashboard, with values in the place of its variables."""
    for panel in panels(path):
        for target in panel["targets"]:
            text = target["expr"]
            for name, value in (
                ("$__rate_interval", "5m"),
                ("$__range", "6h"),
                ("$customer", ".*"),
                ("$environment", ".*"),
            ):
                text = text.replace(name, value)
            assert "$" not in text
            yield text


def expressions():
    found = [(rule["alert"], rule["expr"]) for rule in alert_rules()]
    for path in DASHBOARDS:
        found += [(path.stem, text) for text in queries(path)]
        for variable in json.loads(path.read_text())["templating"]["list"]:
            if variable["type"] == "query":
                found.append((path.stem, variable["query"]))
    return found


@pytest.mark.parametrize("where, expression", expressions())
def test_expression_asks_for_what_servers_emit(run, where, expression):
    known = series(run.plain)
    asked = SELECTOR.findall(expression)
    assert asked
    labels = set()
    for name, matchers in asked:
        assert name in known, f"{name} is not emitted"
        assert set(MATCHER.findall(matchers)) <= known[name]
        labels |= known[name]
    for names in GROUPING.findall(expression):
        assert {name.strip() for name in names.split(",")} <= labels


def test_dashboards_show_every_metric():
    asked = {
        name
        for path in DASHBOARDS
        for text in queries(path)
        for name, _labels in SELECTOR.findall(text)
    }
    for name in NAMES:
        assert asked & set(evaluate(example(name)).series()), f"{name} is not shown"


@pytest.mark.parametrize("path", DASHBOARDS, ids=lambda path: path.stem)
def test_legends_name_labels_that_the_query_keeps(path):
    for panel in panels(path):
        for target in panel["targets"]:
            kept = {
                name.strip()
                for names in GROUPING.findall(target["expr"])
                for name in names.split(",")
            }
            assert set(re.findall(r"{{(\w+)}}", target["legendFormat"])) <= kept


def test_panels_do_not_overlap_and_have_identifiers_of_their_own():
    uids = set()
    for path in DASHBOARDS:
        dashboard = json.loads(path.read_text())
        uids.add(dashboard["uid"])
        taken, ids = set(), set()
        for panel in dashboard["panels"]:
            ids.add(panel["id"])
            place = panel["gridPos"]
            cells = {
                (x, y)
                for x in range(place["x"], place["x"] + place["w"])
                for y in range(place["y"], place["y"] + place["h"])
            }
            assert not cells & taken
            assert max(x for x, _y in cells) < 24
            taken |= cells
        assert len(ids) == len(dashboard["panels"])
    assert len(uids) == len(DASHBOARDS) == 3


def promtool(*arguments, stdin=None):
    result = subprocess.run(
        [programs.require("promtool"), *arguments],
        cwd=PROMETHEUS,
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    print(result.stdout)
    return result.returncode


def test_promtool_accepts_the_alert_rules():
    assert promtool("check", "rules", ALERTS.name) == 0


def test_alert_rules_do_what_their_tests_say():
    assert promtool("test", "rules", ALERT_TESTS.name) == 0


def test_every_alert_is_tested_to_be_raised_and_not_to_be():
    raised, silent = set(), set()
    for test in yaml.safe_load(ALERT_TESTS.read_text())["tests"]:
        for case in test["alert_rule_test"]:
            (raised if case["exp_alerts"] else silent).add(case["alertname"])
    names = {rule["alert"] for rule in alert_rules()}
    assert raised == names
    assert silent == names


def test_promtool_accepts_the_queries_of_the_dashboards(tmp_path):
    rules = [
        {"record": f"query:{number}", "expr": text}
        for number, text in enumerate(
            text for path in DASHBOARDS for text in queries(path)
        )
    ]
    groups = {"groups": [{"name": "dashboards", "rules": rules}]}
    path = tmp_path / "dashboards.yml"
    path.write_text(yaml.safe_dump(groups))
    assert promtool("check", "rules", str(path)) == 0


# Logs


#: JSON Schema's types of the values of Elasticsearch's
#: https://www.elastic.co/guide/en/elasticsearch/reference/8.17/mapping-types.html
TYPES = {
    "date": "string",
    "keyword": "string",
    "wildcard": "string",
    "match_only_text": "string",
    "ip": "string",
    "long": "integer",
    "short": "integer",
    "float": "number",
    "boolean": "boolean",
    "flattened": "object",
}
#: of a record, beside the fields of ECS_NAMES
ECS_MORE = {"ecs.version", "event.duration"}


def schema(log_format):
    path = DEPLOY / "elk" / f"record-{log_format}.schema.json"
    return json.loads(path.read_text())


def faults(log_format, records):
    """What is wrong with records, by the schema of their format."""
    validator = Draft202012Validator(schema(log_format))
    return [
        (error.json_path, error.message, record)
        for record in records
        for error in validator.iter_errors(record)
    ]


def field_names(log_format):
    """Names in a format, by those of the format `flat`."""
    return ECS_NAMES if log_format == "ecs" else {name: name for name in ECS_NAMES}


def template(log_format):
    """Type of each field, by its dotted name."""
    path = DEPLOY / "elk" / f"component-{log_format}.json"
    mappings = json.loads(path.read_text())["template"]["mappings"]
    # a field that is not told is kept but makes no mapping
    assert mappings["dynamic"] is False
    fields = {}

    def add(prefix, properties):
        for name, field in properties.items():
            if "properties" in field:
                add(f"{prefix}{name}.", field["properties"])
            else:
                fields[prefix + name] = field["type"]

    add("", mappings["properties"])
    return fields


def test_templates_and_schemas_have_the_fields_of_the_formatter_and_no_others():
    assert set(schema("flat")["properties"]) == set(ECS_NAMES)
    assert set(schema("ecs")["properties"]) == {*ECS_NAMES.values()} | ECS_MORE
    # the pipeline adds what a data stream needs
    assert set(template("flat")) == {*ECS_NAMES, "@timestamp"}
    assert set(template("ecs")) == set(schema("ecs")["properties"])


@pytest.mark.parametrize("log_format", ["flat", "ecs"])
def test_template_and_schema_have_the_same_types(log_format):
    types = template(log_format)
    for name, field in schema(log_format)["properties"].items():
        expected = TYPES[types[name]]
        assert field["type"] in (expected, [expected, "null"]), name


def test_schemas_differ_in_names_alone():
    def renamed(names):
        return [ECS_NAMES[name] for name in names]

    flat, ecs = schema("flat"), schema("ecs")
    Draft202012Validator.check_schema(flat)
    Draft202012Validator.check_schema(ecs)
    fields = ecs["properties"]
    for name, field in flat["properties"].items():
        if name == "uid":  # a keyword in ECS
            field["type"] = ["string", "null"]
        assert fields[ECS_NAMES[name]] == field
    assert ecs["required"] == [*renamed(flat["required"]), "ecs.version"]
    of_access = [*renamed(flat["then"]["required"]), "event.duration"]
    assert ecs["then"]["required"] == of_access
    assert list(ecs["else"]["properties"]) == [
        name for name in of_access if name != ECS_NAMES["duration_ms"]
    ]
    assert renamed(flat["then"]["properties"]) == list(ecs["then"]["properties"])
    assert ecs["dependentRequired"] == {
        ECS_NAMES[name]: renamed(others)
        for name, others in flat["dependentRequired"].items()
    }


def test_ecs_template_is_that_of_ecs():
    """Types of the fields that ECS defines.

    https://www.elastic.co/guide/en/ecs/8.11/ecs-field-reference.html
    """
    fields = template("ecs")
    own = {name for name in fields if name.startswith("odoo.")}
    texts = {"message", "error.message"}
    wildcards = {"url.original", "error.stack_trace"}
    numbers = {
        "process.pid",
        "http.response.status_code",
        "http.response.body.bytes",
        "event.duration",
    }
    for name in set(fields) - own:
        expected = "keyword"
        if name in texts:
            expected = "match_only_text"
        elif name in wildcards:
            expected = "wildcard"
        elif name in numbers:
            expected = "long"
        elif name == "@timestamp":
            expected = "date"
        assert fields[name] == expected, name


@pytest.mark.parametrize("log_format", ["flat", "ecs"])
def test_every_record_of_a_server_is_valid(run, log_format):
    records = run.records[log_format]
    assert len(records) > 30
    assert faults(log_format, records) == []


@pytest.mark.parametrize("log_format", ["flat", "ecs"])
def test_schema_refuses_a_record_with_a_fault(run, log_format):
    names = field_names(log_format)
    records = run.records[log_format]
    access = next(r for r in records if names["duration_ms"] in r)
    crash = next(r for r in records if names["exception_type"] in r)
    plain = next(r for r in records if set(r) <= set(schema(log_format)["required"]))

    def without(record, *fields):
        return {name: record[name] for name in record if name not in fields}

    def refused(record):
        return bool(faults(log_format, [record]))

    for record in (access, crash, plain):
        assert not refused(record)
        for name in record:
            assert refused(without(record, name)), name
        assert refused({**record, "more": 1})
        for name, value in record.items():
            numeric = isinstance(value, int | float)
            assert refused({**record, name: str(value) if numeric else []}), name
    assert refused({**plain, names["status"]: 200})
    assert refused({**plain, names["exception_message"]: "alone"})
    assert refused({**access, names["request_id"]: None})
    for name, value in (
        ("timestamp", access[names["timestamp"]].replace("Z", "+00:00")),
        ("level", "\x1b[1;32mINFO"),
        ("trace_id", "1"),
        ("request_id", "two words"),
        ("status", 20),
        ("cursor_mode", "r"),
        ("duration_ms", -1),
    ):
        assert refused({**access, names[name]: value}), name


@pytest.mark.parametrize("log_format", ["flat", "ecs"])
def test_every_field_is_written_by_a_server(run, log_format):
    names = field_names(log_format)
    written = {
        name
        for record in run.records[log_format]
        for name, value in record.items()
        if value is not None
    }
    assert set(names.values()) <= written
    if log_format == "ecs":
        assert written >= ECS_MORE


def test_pipeline_and_index_templates_fit_together():
    def read(name):
        return json.loads((DEPLOY / "elk" / name).read_text())

    [processor] = read("pipeline-flat.json")["processors"]
    assert processor["date"]["field"] in template("flat")
    assert processor["date"]["target_field"] == "@timestamp"
    index = read("index-flat.json")
    assert index["template"]["settings"]["index"]["default_pipeline"] == "odoo-flat"
    readme = (DEPLOY / "elk" / "README.md").read_text()
    for log_format in ("flat", "ecs"):
        index = read(f"index-{log_format}.json")
        assert index["composed_of"] == [f"odoo-{log_format}"]
        assert index["data_stream"] == {}
        # `put` in the readme gives the names that the files use
        assert f"_component_template/odoo-{log_format} component-{log_format}" in readme
        assert f"_index_template/odoo-{log_format} index-{log_format}.json" in readme
    assert "_ingest/pipeline/odoo-flat pipeline-flat.json" in readme
    filebeat = yaml.safe_load((DEPLOY / "elk" / "filebeat.yml").read_text())
    stream = filebeat["output.elasticsearch"]["index"]
    assert index_matches(read("index-flat.json"), stream)
    assert index_matches(read("index-ecs.json"), stream.replace("flat", "ecs"))


def index_matches(index, stream):
    return any(
        re.fullmatch(pattern.replace(".", r"\.").replace("*", ".*"), stream)
        for pattern in index["index_patterns"]
    )


def test_streams_are_json_from_start_to_stop(run):
    for others in run.others:  # of a prefork server and of threaded ones
        assert len(others) <= 2, "\n".join(others)
    assert "s3cret" not in json.dumps(run.records)


@pytest.mark.parametrize("log_format", ["flat", "ecs"])
def test_each_request_has_one_access_record(run, log_format):
    names = field_names(log_format)
    access = [
        record for record in run.records[log_format] if names["duration_ms"] in record
    ]
    asked = {
        path: answer
        for (written_as, path), answer in run.answers.items()
        if written_as == log_format
    }
    assert len(asked) >= 6
    for path, (identifier, status) in asked.items():
        [record] = [r for r in access if r[names["request_id"]] == identifier]
        assert record[names["path"]] == path.replace("s3cret", "***")
        assert record[names["status"]] == status
        assert ipaddress.ip_address(record[names["remote_addr"]]).is_loopback


@pytest.mark.parametrize("log_format", ["flat", "ecs"])
def test_crash_of_a_page_is_a_record_with_its_stack(run, log_format):
    names = field_names(log_format)
    identifier, status = run.answers[log_format, CRASHING_PAGE]
    assert status == 500
    of_request = [
        record
        for record in run.records[log_format]
        if record[names["request_id"]] == identifier
    ]
    [crash] = [r for r in of_request if r[names["logger"]] == "odoo.http"]
    assert crash[names["level"]] == "ERROR"
    assert crash[names["exception_type"]] == "LookupError"
    assert re.fullmatch(
        r"page of \d+ with password='\*\*\*'", crash[names["exception_message"]]
    )
    assert "in page" in crash[names["exception_stack"]]
    [access] = [r for r in of_request if names["duration_ms"] in r]
    assert access[names["status"]] == 500
    assert access[names["route"]] == CRASHING_PAGE
    assert access[names["rpc_error"]] is False


@pytest.mark.parametrize("log_format", ["flat", "ecs"])
def test_record_of_any_values_is_kept(run, log_format):
    names = field_names(log_format)
    odd = [r for r in run.records[log_format] if r[names["logger"]] == ODD_LOGGER]
    several, unprintable, long, crash = odd
    identifier, _status = run.answers[log_format, CRASHING_PAGE]
    for record in odd:
        assert record[names["request_id"]] == identifier
        assert len(json.dumps(record)) < 50_000
    assert several[names["message"]] == "%d apples ('many',)"
    assert several[names["format_error"]] == "TypeError"
    assert several[names["extra"]]["request_id"] == "somebody else's"
    assert several[names["extra"]]["circular"]["nan"] == "nan"
    assert several[names["extra"]]["circular"]["3"] == "number"
    assert "cannot be printed" in several[names["extra"]]["unprintable"]
    assert "log_odd_records" in several[names["stack"]]
    assert unprintable[names["format_error"]] == "ValueError"
    assert "9983616 characters cut" in long[names["message"]]
    assert crash[names["exception_type"]] == "LookupError"
    assert "log_odd_records" in crash[names["exception_stack"]]


@pytest.mark.parametrize("log_format", ["flat", "ecs"])
def test_killed_process_is_a_record_of_its_master(run, log_format):
    names = field_names(log_format)
    told = [r for r in run.records[log_format] if "was killed" in r[names["message"]]]
    worker, of_websockets = run.killed[log_format]
    assert [record[names["message"]] for record in told] == [
        f"WorkerHTTP ({worker}) was killed by signal 9 (Killed)",
        f"Process for websockets ({of_websockets}) was killed by signal 9 (Killed)",
    ]
    for record in told:
        assert record[names["level"]] == "ERROR"
        assert record[names["pid"]] not in run.killed[log_format]


@pytest.mark.parametrize("log_format", ["flat", "ecs"])
@pytest.mark.parametrize(
    "reason, status, kind, text",
    [
        ("option", 2, None, "no such option: --no-such-option"),
        ("value", 1, "ValueError", "'many'"),
        ("user", 1, None, "database user 'postgres'"),
        ("database", 1, "psycopg2.OperationalError", "onnection refused"),
        # the server goes on without the module
        ("import", 0, "LookupError", "while it is imported"),
    ],
)
def test_crash_at_start_is_a_record(run, log_format, reason, status, kind, text):
    names = field_names(log_format)
    ended_with, records = run.not_started[log_format, reason]
    assert ended_with == status
    faults = [r for r in records if r[names["level"]] in ("ERROR", "CRITICAL")]
    fault = faults[-1]
    assert fault.get(names["exception_type"]) == kind
    if kind:
        assert text in fault[names["exception_message"]]
        assert "Traceback" in fault[names["exception_stack"]]
    else:
        assert text in fault[names["message"]]


@pytest.mark.parametrize("log_format", ["flat", "ecs"])
def test_records_of_a_scheduled_action_share_an_identifier(run, log_format):
    names = field_names(log_format)
    jobs = {}
    for job in (WORKS, FAILS):
        records = [
            record
            for record in run.records[log_format]
            if record[names["message"]].startswith(f"Job '{job}'")
        ]
        assert len(records) >= 2
        [identifier] = {record[names["request_id"]] for record in records}
        assert identifier
        jobs[job] = identifier, records
    assert jobs[WORKS][0] != jobs[FAILS][0]
    failures = [r for r in jobs[FAILS][1] if names["exception_stack"] in r]
    assert "no_such_method" in failures[0][names["exception_stack"]]
