"""The metrics: their names, and how they are sent."""

import contextlib
import logging
import re
import threading

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
        self._place = {
            "customer": settings.customer,
            "environment": settings.environment or config.get("running_env") or "test",
        }

    def batch(self):
        """Return a context manager that gathers metrics and sends them as one."""
        return Batch(self._client.pipeline(), self._dogstatsd, self._place)


class Batch:
    """Metrics that leave together, in as few packets as possible."""

    def __init__(self, pipeline, dogstatsd, place):
        self._pipeline = pipeline
        self._dogstatsd = dogstatsd
        self._place = place

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self._pipeline.send()

    def timing(self, name, seconds, **labels):
        """Send how long something took.

        :param str name: for instance ``http.request``
        :param float seconds:
        :param labels: further parts of the name, in this order
        """
        # milliseconds are statsd's unit
        self._send(name, f"{seconds * 1000:.3f}|ms", labels)

    def count(self, name, number=1, **labels):
        self._send(name, f"{number}|c", labels)

    def gauge(self, name, value, **labels):
        """Send a value that replaces the former one, zero or more."""
        self._send(name, f"{value}|g", labels)

    def _send(self, name, value, labels):
        labels = {key: sanitize(part) for key, part in (self._place | labels).items()}
        if self._dogstatsd:
            tags = ",".join(f"{key}:{part}" for key, part in labels.items())
            self._pipeline._send_stat(name, f"{value}|#{tags}", 1)
        else:
            self._pipeline._send_stat(".".join([name, *labels.values()]), value, 1)


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
