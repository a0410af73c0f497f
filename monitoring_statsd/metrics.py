"""The metrics: their names, and how they are sent."""

import contextlib
import logging
import re
import threading
from dataclasses import dataclass

from odoo.tools import config

from .client import NonBlockingStatsClient

_logger = logging.getLogger(__name__)

# Dots part names, `:`, `|`, `@` and `#` part fields; statsd knows no escape.
_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_MAX_PART_CHARS = 80


def sanitize(part):
    """Return a text as one part of a metric's name: ``res.partner`` → ``res_partner``.

    :param part: any value
    :rtype: str
    """
    return _UNSAFE.sub("_", str(part))[:_MAX_PART_CHARS] or "_"


@dataclass(frozen=True)
class Metric:
    """What a metric is.

    :ivar str kind: ``ms`` (timing), ``c`` (counter) or ``g`` (gauge)
    :ivar tuple labels: further parts of the name, or DogStatsD tags
    :ivar str description: what is measured, and where it is not said by the kind the
        unit
    """

    kind: str
    labels: tuple[str, ...]
    description: str


NAMES = {
    "http.request": Metric("ms", (), "a request, until its answer begins"),
    "http.status": Metric("c", ("status",), "requests by class of HTTP status (2xx…)"),
    "http.rpc_error": Metric("c", (), "JSON-RPC requests that ended in an error"),
    "http.sql_queries": Metric("c", (), "SQL queries of requests"),
    "http.sql_time": Metric("ms", (), "a request's time in PostgreSQL"),
    "http.button": Metric("ms", ("model", "method"), "a click on a button"),
    "http.rpc": Metric("ms", ("model", "method"), "another remote call of a method"),
    # the label is not `job`, which Prometheus keeps for itself
    "cron.job": Metric("ms", ("cron",), "one run of a scheduled action"),
    "cron.outcome": Metric(
        "c",
        ("cron", "outcome"),
        "runs by outcome: fully_done, partially_done, failed, crashed",
    ),
    "cron.sql_queries": Metric("c", ("cron",), "SQL queries of a scheduled action"),
    "cron.sql_time": Metric("ms", ("cron",), "a run's time in PostgreSQL"),
    "s3.operation": Metric("ms", ("operation",), "an operation on the object store"),
    "s3.bytes": Metric("c", ("operation",), "bytes sent to or got from it"),
    "s3.error": Metric("c", ("operation", "error"), "its errors, by class"),
    "redis.operation": Metric("ms", ("operation",), "a session operation on Redis"),
    "redis.error": Metric("c", ("operation", "error"), "its errors, by class"),
    "redis.retries": Metric("c", ("operation",), "how often it was tried again"),
    "worker.memory": Metric(
        "g", ("kind",), "resident memory of a process (bytes), the last one heard"
    ),
}


class Metrics:
    """Sends metrics with the customer and the environment in their names.

    A name is ``<prefix>.<name>.<customer>.<environment>[.<label>…]``, or with DogStatsD
    ``<prefix>.<name>`` and the rest as tags.

    :param settings: StatsdSettings
    """

    def __init__(self, settings):
        self._client = NonBlockingStatsClient(
            settings.host,
            settings.port,
            # a prefix may well have several parts
            ".".join(sanitize(part) for part in settings.prefix.split(".")),
            settings.max_packet_bytes,
        )
        self._dogstatsd = settings.dogstatsd
        environment = settings.environment or config.get("running_env") or "test"
        self._place = {
            "customer": sanitize(settings.customer),
            "environment": sanitize(environment),
        }

    def batch(self):
        """Return a context manager that gathers metrics and sends them as one."""
        return Batch(self._client.pipeline(), self._dogstatsd, self._place)


class Batch:
    """Metrics that leave together, in as few packets as possible.

    A name that is not in NAMES raises KeyError.
    """

    # Lines kept before they are sent, even though more may come.
    _MAX_LINES = 100

    def __init__(self, pipeline, dogstatsd, place):
        self._pipeline = pipeline
        self._dogstatsd = dogstatsd
        self._place = place
        self._lines = 0

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.send()

    def send(self):
        self._pipeline.send()
        self._lines = 0

    def timing(self, name, seconds, *labels):
        """Send how long something took.

        :param str name: for instance ``http.request``
        :param float seconds:
        :param labels: values of the name's labels, in the order of NAMES
        """
        # milliseconds are statsd's unit
        self._add(name, f"{seconds * 1000:.3f}|ms", labels)

    def count(self, name, number, *labels):
        """Add to a counter."""
        self._add(name, f"{number}|c", labels)

    def gauge(self, name, value, *labels):
        """Send a value that replaces the former one, zero or more."""
        self._add(name, f"{value}|g", labels)

    def _add(self, name, value, labels):
        keys = NAMES[name].labels
        parts = [sanitize(label) for label in labels]
        if self._dogstatsd:
            tags = dict(self._place) | dict(zip(keys, parts, strict=True))
            value += "|#" + ",".join(f"{key}:{part}" for key, part in tags.items())
        else:
            name = ".".join([name, *self._place.values(), *parts])
        self._pipeline._send_stat(name, value, 1)
        self._lines += 1
        if self._lines >= self._MAX_LINES:
            self.send()


_lock = threading.Lock()
_metrics = None


def use(settings):
    """Send metrics from now on, or stop when the settings say so.

    :param settings: StatsdSettings
    """
    global _metrics
    with _lock:
        _metrics = Metrics(settings) if settings.enabled else None


def active():
    """Return the Metrics, or None when nothing is to be sent."""
    return _metrics


@contextlib.contextmanager
def errors_logged():
    """Keep what fails while metrics are made away from the request or the job that is
    measured."""
    try:
        yield
    except Exception:
        _logger.warning("Metrics lost", exc_info=True)
