"""The metrics: their names, and where they go."""

import contextlib
import functools
import logging
import re
import threading
from dataclasses import dataclass

from odoo.tools import config

from .client import NonBlockingStatsClient
from .prometheus import PrometheusSink

_logger = logging.getLogger(__name__)

# Dots part names, `:`, `|`, `@` and `#` part fields; statsd knows no escape.
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_PART_CHARS = 80


@functools.lru_cache(maxsize=4096, typed=True)
def sanitize(part):
    """Return a text as one part of a metric's name: ``res.partner`` → ``res_partner``.

    :param part: any value that can be hashed
    :rtype: str
    """
    return _UNSAFE.sub("_", str(part))[:_MAX_PART_CHARS] or "_"


# Upper bounds of the buckets of histograms, in seconds.
_REQUEST = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
# fewer, because each method has a histogram of its own
_METHOD = (0.05, 0.25, 1, 5, 30)
_CRON = (0.1, 1, 10, 60, 300, 900)
_REDIS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.05, 0.25, 1, 5)


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    :ivar str kind: ``ms`` (timing), ``c`` (counter) or ``g`` (gauge)
    :ivar tuple labels: further parts of the name, or DogStatsD tags
    :ivar str description: what is measured, and where it is not said by the kind the
        unit
    :ivar str series: its name in Prometheus, as in deploy/prometheus/statsd-mapping.yml
    :ivar tuple buckets: of a timing's histogram, seconds
    :ivar str gauge_of: what Prometheus is told of the gauges of several processes, a
        multiprocess mode of prometheus_client
    """

    kind: str
    labels: tuple[str, ...]
    description: str
    series: str
    buckets: tuple[float, ...] = ()
    gauge_of: str = "mostrecent"


NAMES = {
    "http.request": Metric(
        "ms",
        (),
        "a request, until its answer begins",
        "odoo_http_request_seconds",
        _REQUEST,
    ),
    "http.status": Metric(
        "c",
        ("status",),
        "requests by class of HTTP status (2xx…)",
        "odoo_http_responses_total",
    ),
    "http.rpc_error": Metric(
        "c",
        (),
        "JSON-RPC requests that ended in an error",
        "odoo_http_rpc_errors_total",
    ),
    "http.sql_queries": Metric(
        "c", (), "SQL queries of requests", "odoo_http_sql_queries_total"
    ),
    "http.sql_time": Metric(
        "ms", (), "a request's time in PostgreSQL", "odoo_http_sql_seconds", _REQUEST
    ),
    "http.button": Metric(
        "ms",
        ("model", "method"),
        "a click on a button",
        "odoo_http_button_seconds",
        _METHOD,
    ),
    "http.rpc": Metric(
        "ms",
        ("model", "method"),
        "another remote call of a method",
        "odoo_http_rpc_seconds",
        _METHOD,
    ),
    # the label is not `job`, which Prometheus keeps for itself
    "cron.job": Metric(
        "ms", ("cron",), "one run of a scheduled action", "odoo_cron_job_seconds", _CRON
    ),
    "cron.outcome": Metric(
        "c",
        ("cron", "outcome"),
        "runs by outcome: fully_done, partially_done, failed, crashed",
        "odoo_cron_runs_total",
    ),
    "cron.sql_queries": Metric(
        "c",
        ("cron",),
        "SQL queries of a scheduled action",
        "odoo_cron_sql_queries_total",
    ),
    "cron.sql_time": Metric(
        "ms", ("cron",), "a run's time in PostgreSQL", "odoo_cron_sql_seconds", _CRON
    ),
    "s3.operation": Metric(
        "ms",
        ("operation",),
        "an operation on the object store",
        "odoo_s3_operation_seconds",
        _REQUEST,
    ),
    "s3.bytes": Metric(
        "c", ("operation",), "bytes sent to or got from it", "odoo_s3_bytes_total"
    ),
    "s3.error": Metric(
        "c", ("operation", "error"), "its errors, by class", "odoo_s3_errors_total"
    ),
    "migration.attachments": Metric(
        "g",
        ("database", "state"),
        "contents of a move of attachments: total, moved, failed",
        "odoo_migration_attachments",
    ),
    "migration.bytes": Metric(
        "g",
        ("database", "state"),
        "their bytes: total, moved",
        "odoo_migration_bytes",
    ),
    "redis.operation": Metric(
        "ms",
        ("operation",),
        "a session operation on Redis",
        "odoo_redis_operation_seconds",
        _REDIS,
    ),
    "redis.error": Metric(
        "c", ("operation", "error"), "its errors, by class", "odoo_redis_errors_total"
    ),
    "redis.retries": Metric(
        "c", ("operation",), "how often it was tried again", "odoo_redis_retries_total"
    ),
    "worker.memory": Metric(
        "g",
        ("kind",),
        "resident memory of a process (bytes), of several the last one heard, in "
        "/metrics the largest",
        "odoo_worker_memory_bytes",
        gauge_of="livemax",
    ),
}


class Metrics:
    """Where metrics go: to statsd, to Prometheus or to both.

    :param settings: StatsdSettings
    :raises StatsdSettingsError: the folder of Prometheus' figures cannot be used
    """

    def __init__(self, settings):
        environment = settings.environment or config.get("running_env") or "test"
        self._place = {
            "customer": sanitize(settings.customer),
            "environment": sanitize(environment),
        }
        self._client = None
        if settings.enabled:
            self._client = NonBlockingStatsClient(
                settings.host,
                settings.port,
                # a prefix may well have several parts
                ".".join(sanitize(part) for part in settings.prefix.split(".")),
                settings.max_packet_bytes,
            )
        self._dogstatsd = settings.dogstatsd
        #: PrometheusSink, or None when nobody may fetch metrics
        self.prometheus = None
        if settings.serves_prometheus():
            self.prometheus = PrometheusSink(settings, NAMES, self._place)

    def batch(self):
        """Return a context manager that gathers metrics and sends them as one."""
        sinks = []
        if self._client:
            pipeline = self._client.pipeline()
            sinks.append(StatsdBatch(pipeline, self._dogstatsd, self._place))
        if self.prometheus:
            sinks.append(self.prometheus)
        return Batch(sinks)


class Batch:
    """Metrics that are measured together.

    A name that is not in NAMES raises KeyError.

    :param sinks: objects with ``add(name, value, labels)`` and ``send()``
    """

    def __init__(self, sinks):
        self._sinks = sinks

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.send()

    def send(self):
        for sink in self._sinks:
            sink.send()

    def timing(self, name, seconds, *labels):
        """Tell how long something took.

        :param str name: for instance ``http.request``
        :param float seconds:
        :param labels: values of the name's labels, in the order of NAMES
        """
        self._add(name, seconds, labels)

    def count(self, name, number, *labels):
        """Add to a counter."""
        self._add(name, number, labels)

    def gauge(self, name, value, *labels):
        """Tell a value that replaces the former one, zero or more."""
        self._add(name, value, labels)

    def _add(self, name, value, labels):
        parts = [sanitize(label) for label in labels]
        for sink in self._sinks:
            sink.add(name, value, parts)


class StatsdBatch:
    """Lines that leave together, in as few packets as possible.

    A name is ``<prefix>.<name>.<customer>.<environment>[.<label>…]``, or with DogStatsD
    ``<prefix>.<name>`` and the rest as tags.
    """

    # Lines kept before they are sent, even though more may come.
    _MAX_LINES = 100

    def __init__(self, pipeline, dogstatsd, place):
        self._pipeline = pipeline
        self._dogstatsd = dogstatsd
        self._place = place
        self._lines = 0

    def add(self, name, value, labels):
        metric = NAMES[name]
        if metric.kind == "ms":
            value = f"{value * 1000:.3f}"
        text = f"{value}|{metric.kind}"
        if self._dogstatsd:
            tags = self._place | dict(zip(metric.labels, labels, strict=True))
            text += "|#" + ",".join(f"{key}:{part}" for key, part in tags.items())
        else:
            name = ".".join([name, *self._place.values(), *labels])
        self._pipeline._send_stat(name, text, 1)
        self._lines += 1
        if self._lines >= self._MAX_LINES:
            self.send()

    def send(self):
        self._pipeline.send()
        self._lines = 0


_lock = threading.Lock()
_metrics = None


def use(settings):
    """Measure from now on, or stop when the settings say so.

    :param settings: StatsdSettings
    :raises StatsdSettingsError: as Metrics
    """
    global _metrics
    with _lock:
        _metrics = Metrics(settings) if settings.measures() else None


def active():
    """Return the Metrics, or None when nothing is measured."""
    return _metrics


@contextlib.contextmanager
def errors_logged():
    """Keep what fails while metrics are made away from the request or the job that is
    measured."""
    try:
        yield
    except Exception:
        _logger.warning("Metrics lost", exc_info=True)
