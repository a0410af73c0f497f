import logging
import multiprocessing
import os
import tempfile
import threading
import time
from pathlib import Path
from unittest.mock import patch

from prometheus_client.openmetrics import parser as openmetrics
from prometheus_client.parser import text_string_to_metric_families

import odoo
from odoo.http import FilesystemSessionStore, root
from odoo.tests import HttpCase, tagged
from odoo.tools import mute_logger

from .. import metrics, patches
from .common import StatsdMixin

TOKEN = "s3cret"
PLACE = {"customer": "acme", "environment": "prod"}
WAIT_SECONDS = 20
FORK = multiprocessing.get_context("fork")


def ended_process(function):
    """Run a function in a process of its own, until that ends; return its number."""
    process = FORK.Process(target=function, daemon=True)
    process.start()
    process.join(WAIT_SECONDS)
    return process.pid


@tagged("post_install", "-at_install")
class TestPrometheus(StatsdMixin, HttpCase):
    def setUp(self):
        super().setUp()
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)
        # the library is told by the environment
        self.startPatcher(patch.dict(os.environ))
        self.start_statsd(
            ODOO_STATSD="0",
            ODOO_METRICS_TOKEN=TOKEN,
            PROMETHEUS_MULTIPROC_DIR=folder.name,
        )

    def start_statsd(self, **env):
        res = super().start_statsd(**env)
        # which the library reads whenever a process begins to count
        if prometheus := metrics.active() and metrics.active().prometheus:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = prometheus._folder
        return res

    def scrape(self, token=TOKEN, **headers):
        headers["Authorization"] = f"Bearer {token}"
        return self.url_open("/metrics", headers=headers)

    def values(self):
        """Values by the series' names, with the labels beside the place."""
        answer = self.scrape()
        self.assertEqual(answer.status_code, 200)
        found = {}
        for family in text_string_to_metric_families(answer.text):
            for sample in family.samples:
                self.assertEqual({**sample.labels, **PLACE}, sample.labels)
                labels = [v for k, v in sample.labels.items() if k not in PLACE]
                found[(sample.name, *sorted(labels))] = sample.value
        return found

    def values_when(self, requests):
        """Values once so many requests are told, which they are after their answers."""
        deadline = time.monotonic() + WAIT_SECONDS
        while True:
            values = self.values()
            told = values.get(("odoo_http_request_seconds_count",), 0)
            if told >= requests or time.monotonic() > deadline:
                return values

    def count(self, number=1, name="http.rpc_error"):
        with metrics.active().batch() as batch:
            batch.count(name, number)

    def test_no_access_log_line_of_a_scrape(self):
        with self.assertLogs("werkzeug", logging.INFO) as logs:
            self.scrape()
            self.url_open("/metrics?x=1", headers={"Authorization": f"Bearer {TOKEN}"})
            self.scrape("wrong")
            self.url_open("/metrics/other")
        refused, other = logs.output
        self.assertIn('"GET /metrics HTTP/1.1" 401', refused)
        self.assertIn("/metrics/other", other)
        # after a remote call of the same worker, and by the process of websockets
        for line in (
            '"GET /metrics#res.partner.read HTTP/1.1" 200 -',
            '- - [time] "GET /metrics HTTP/1.1" 200 9 0.1',
        ):
            record = logging.makeLogRecord({"msg": line})
            self.assertFalse(patches._is_no_scrape(record))

    def test_access_log_line_of_a_page_that_is_not_ours(self):
        self.start_statsd()  # without a token
        record = logging.makeLogRecord({"msg": '"GET /metrics HTTP/1.1" 200'})
        self.assertTrue(patches._is_no_scrape(record))

    def test_requests_are_told_without_statsd(self):
        self.url_open("/web/login")
        self.url_open("/nothing/here")
        values = self.values_when(requests=2)
        self.assertEqual(values["odoo_http_request_seconds_count",], 2)
        self.assertEqual(values["odoo_http_request_seconds_bucket", "+Inf"], 2)
        self.assertEqual(values["odoo_http_responses_total", "2xx"], 1)
        self.assertEqual(values["odoo_http_responses_total", "4xx"], 1)
        # the scrape itself is not counted
        self.assertEqual(self.values()["odoo_http_request_seconds_count",], 2)

    def test_timings_are_in_seconds(self):
        with metrics.active().batch() as batch:
            batch.timing("redis.operation", 0.003, "get")
            batch.timing("http.rpc", 2, "res.partner", "read")
        values = self.values()
        name = "odoo_redis_operation_seconds"
        self.assertAlmostEqual(values[f"{name}_sum", "get"], 0.003)
        self.assertEqual(values[f"{name}_bucket", "0.0025", "get"], 0)
        self.assertEqual(values[f"{name}_bucket", "0.005", "get"], 1)
        self.assertEqual(values["odoo_http_rpc_seconds_sum", "read", "res_partner"], 2)

    def test_both_at_once(self):
        self.start_statsd(
            ODOO_METRICS_TOKEN=TOKEN, PROMETHEUS_MULTIPROC_DIR=str(self.folder)
        )
        self.count(3)
        self.assertEqual(self.values()["odoo_http_rpc_errors_total",], 3)
        self.assertEqual(
            self.statsd.lines("odoo"), ["odoo.http.rpc_error.acme.prod:3|c"]
        )

    def test_openmetrics_for_who_asks_for_it(self):
        self.count()
        answer = self.scrape(Accept="application/openmetrics-text; version=1.0.0")
        self.assertIn("application/openmetrics-text", answer.headers["Content-Type"])
        found = openmetrics.text_string_to_metric_families(answer.text)
        self.assertEqual([family.name for family in found], ["odoo_http_rpc_errors"])

    def test_token_is_needed(self):
        self.count()
        answers = [
            self.scrape(""),
            self.scrape("s3cre"),
            self.scrape("s3cret2"),
            self.url_open("/metrics"),
            self.url_open(f"/metrics?token={TOKEN}"),
        ]
        for answer in answers:
            self.assertEqual(answer.status_code, 401)
            self.assertEqual(answer.headers["WWW-Authenticate"], "Bearer")
            self.assertNotIn("odoo_", answer.text)

    def test_no_such_page_without_a_token(self):
        for variables in ({}, {"ODOO_STATSD": "0"}):
            self.start_statsd(ODOO_METRICS_TOKEN="", **variables)
            self.assertEqual(self.scrape("").status_code, 404)

    def test_it_is_read_only(self):
        answer = self.opener.post(
            f"{self.base_url()}/metrics", headers={"Authorization": f"Bearer {TOKEN}"}
        )
        self.assertEqual(answer.status_code, 405)

    def test_neither_session_nor_database(self):
        self.opener.cookies.clear()
        with (
            patch.object(type(root.session_store), "new", side_effect=AssertionError),
            patch.object(FilesystemSessionStore, "save", side_effect=AssertionError),
            patch("odoo.sql_db.db_connect", side_effect=AssertionError),
        ):
            answer = self.scrape()
        self.assertEqual(answer.status_code, 200)
        self.assertNotIn("Set-Cookie", answer.headers)

    def test_figures_of_ended_processes_stay(self):
        self.count()

        def work():
            self.count(2)
            with metrics.active().batch() as batch:
                batch.timing("s3.operation", 0.02, "get")
                batch.gauge("worker.memory", 5_000, "http")
                batch.gauge("migration.bytes", 7, "db1", "moved")

        for _turn in range(3):
            pid = ended_process(work)
            self.assertTrue(list(self.folder.glob(f"*_{pid}.db")))
            values = self.values()
            self.assertFalse(list(self.folder.glob(f"*_{pid}.db")))
        self.assertEqual(values["odoo_http_rpc_errors_total",], 7)
        self.assertEqual(values["odoo_s3_operation_seconds_count", "get"], 3)
        self.assertEqual(values["odoo_s3_operation_seconds_bucket", "0.025", "get"], 3)
        self.assertEqual(values["odoo_migration_bytes", "db1", "moved"], 7)
        # memory is that of the living
        self.assertNotIn(("odoo_worker_memory_bytes", "http"), values)
        # of this process and of the ended ones, however many
        self.assertLessEqual(len(list(self.folder.iterdir())), 6)

    def test_last_value_of_several_processes_wins(self):
        def move(moved):
            with metrics.active().batch() as batch:
                batch.gauge("migration.bytes", moved, "db1", "moved")

        ended_process(lambda: move(10))
        self.values()
        ended_process(lambda: move(20))
        ended_process(lambda: move(5))
        for _turn in range(2):
            value = self.values()["odoo_migration_bytes", "db1", "moved"]
            self.assertEqual(value, 5)

    def test_largest_memory_of_a_kind(self):
        go_on = FORK.Event()
        ready = FORK.Semaphore(0)

        def work(memory):
            with metrics.active().batch() as batch:
                batch.gauge("worker.memory", memory, "http")
            ready.release()
            go_on.wait(WAIT_SECONDS)

        workers = [
            FORK.Process(target=work, args=(size,), daemon=True)
            for size in (30, 50, 40)
        ]
        for worker in workers:
            worker.start()
            self.addCleanup(worker.kill)
            self.assertTrue(ready.acquire(timeout=WAIT_SECONDS))
        self.assertEqual(self.values()["odoo_worker_memory_bytes", "http"], 50)
        workers[1].kill()
        workers[1].join()
        self.assertEqual(self.values()["odoo_worker_memory_bytes", "http"], 40)

    def test_scrapes_at_once_count_nothing_twice(self):
        for _turn in range(10):
            ended_process(self.count)
        answers = []
        threads = [
            threading.Thread(target=lambda: answers.append(self.sample(TOKEN)))
            for _turn in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(answers, [10] * 8)

    def sample(self, token):
        """Scrape as the WSGI server would in a thread."""
        response = metrics.active().prometheus.answer(
            {
                "REQUEST_METHOD": "GET",
                "HTTP_AUTHORIZATION": f"Bearer {token}",
                "wsgi.url_scheme": "http",
                "SERVER_NAME": "localhost",
                "SERVER_PORT": "80",
            }
        )
        [family] = text_string_to_metric_families(response.get_data(as_text=True))
        return family.samples[0].value

    def start_again(self):
        self.start_statsd(
            ODOO_STATSD="0",
            ODOO_METRICS_TOKEN=TOKEN,
            PROMETHEUS_MULTIPROC_DIR=str(self.folder),
        )

    def test_server_begins_without_what_a_former_one_left(self):
        ended_process(self.count)
        self.count()
        self.start_again()
        self.assertFalse(self.values())

    def test_command_beside_a_server_forgets_nothing(self):
        ended_process(self.count)
        self.values()
        stop = FORK.Event()
        counted = FORK.Event()

        def work():
            self.count()
            counted.set()
            stop.wait(WAIT_SECONDS)

        worker = FORK.Process(target=work, daemon=True)
        worker.start()
        self.addCleanup(worker.kill)
        self.assertTrue(counted.wait(WAIT_SECONDS))
        self.start_again()
        self.assertEqual(self.values()["odoo_http_rpc_errors_total",], 2)

    def test_process_of_websockets_forgets_nothing(self):
        ended_process(self.count)
        with patch.object(odoo, "evented", True):
            self.start_again()
        self.assertEqual(self.values()["odoo_http_rpc_errors_total",], 1)

    def test_temporary_folder_is_told_to_other_processes_and_removed(self):
        with patch("atexit.register") as register:
            self.start_statsd(
                ODOO_STATSD="0", ODOO_METRICS_TOKEN=TOKEN, PROMETHEUS_MULTIPROC_DIR=""
            )
            folder = Path(metrics.active().prometheus._folder)
        self.assertEqual(folder.stat().st_mode & 0o777, 0o700)
        function, *arguments = register.call_args.args
        ended_process(lambda: function(*arguments))
        self.assertTrue(folder.exists(), "a worker that ends is not the server")
        function(*arguments)
        self.assertFalse(folder.exists())

    @mute_logger("odoo.addons.monitoring_statsd.prometheus")
    def test_folder_that_is_gone_is_no_traceback(self):
        metrics.active().prometheus._folder = str(self.folder / "gone")
        self.assertEqual(self.scrape().status_code, 503)

    def test_unusable_folder_is_named(self):
        file = self.folder / "file"
        file.touch()
        with self.assertLogs(patches.__name__, "ERROR") as logs:
            self.start_statsd(
                ODOO_METRICS_TOKEN=TOKEN, PROMETHEUS_MULTIPROC_DIR=str(file)
            )
        self.assertIn("PROMETHEUS_MULTIPROC_DIR", logs.output[0])
        self.assertIn(str(file), logs.output[0])
        self.assertNotIn(TOKEN, logs.output[0])

    def test_customer_is_needed(self):
        with self.assertLogs(patches.__name__, "ERROR") as logs:
            self.start_statsd(
                ODOO_STATSD="0", ODOO_METRICS_TOKEN=TOKEN, STATSD_CUSTOMER=""
            )
        self.assertIn("STATSD_CUSTOMER", logs.output[0])
