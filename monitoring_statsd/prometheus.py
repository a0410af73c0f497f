"""Metrics that Prometheus fetches, for those without statsd.

Any process may be asked, and tells of all: prometheus_client keeps what each of them
counts in files of a folder that they share (its "multiprocess mode").
"""

import atexit
import contextlib
import fcntl
import hmac
import logging
import os
import shutil
import tempfile

import psutil
from prometheus_client import Counter, Gauge, Histogram, values
from prometheus_client.exposition import choose_encoder
from prometheus_client.mmap_dict import MmapedDict
from prometheus_client.multiprocess import MultiProcessCollector
from werkzeug.wrappers import Request, Response

import odoo

from .settings import StatsdSettingsError

_logger = logging.getLogger(__name__)

PATH = "/metrics"
FOLDER_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
# Stands for the processes that have ended, in the names of files.
_ENDED = 0


class PrometheusSink:
    """Counts in files, and answers with their sums.

    :param settings: StatsdSettings
    :param dict names: metrics.NAMES
    :param dict place: values of the labels that all series have
    :raises StatsdSettingsError: the folder cannot be used
    """

    def __init__(self, settings, names, place):
        self._token = settings.metrics_token.get_secret_value()
        self._folder = _shared_folder(settings.metrics_folder)
        if not odoo.evented:  # that process is a part of a server that has begun
            self._begin()
        # The library is told by the environment alone, and looks at it when it is
        # imported: another addon may have been first.
        values.ValueClass = values.get_value_class()
        self._place = tuple(place.values())
        labels = tuple(place)
        self._series = {
            name: _series(metric, (*labels, *metric.labels))
            for name, metric in names.items()
        }

    # -- a sink, see metrics.Batch

    def add(self, name, value, labels):
        self._series[name](value, *self._place, *labels)

    def send(self):
        """Nothing waits."""

    # -- HTTP

    def answer(self, environ):
        """Return the response to a request for PATH.

        :param dict environ: of WSGI
        :rtype: werkzeug.wrappers.Response
        """
        request = Request(environ)
        if request.method not in ("GET", "HEAD"):
            return _text("method not allowed", 405, Allow="GET, HEAD")
        given = request.headers.get("Authorization", "")
        # in a time that does not tell how much of it was right
        if not hmac.compare_digest(given.encode(), f"Bearer {self._token}".encode()):
            return _text("token expected", 401, **{"WWW-Authenticate": "Bearer"})
        encode, content_type = choose_encoder(request.headers.get("Accept"))
        try:
            content = encode(self._collected())
        except (OSError, ValueError):  # the folder is gone, or a disk is full
            _logger.exception("Metrics cannot be read from %s", self._folder)
            return _text("metrics cannot be read", 503)
        return Response(
            content, content_type=content_type, headers={"Cache-Control": "no-store"}
        )

    def _collected(self):
        collector = MultiProcessCollector(None, self._folder)
        with self._locked():
            self._fold_ended()
            families = list(collector.collect())
        return _Collected(families)

    # -- files: <kind>_<pid>.db

    @contextlib.contextmanager
    def _locked(self):
        """Only one process reads and folds at a time; those that count do not wait."""
        with open(os.path.join(self._folder, "lock"), "a") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def _begin(self):
        """Forget what a former server has left, if none runs."""
        with self._locked():
            files = list(self._files())
            if all(_is_ended(pid) or pid == os.getpid() for _k, pid, _p in files):
                for _kind, _pid, path in files:
                    os.unlink(path)

    def _fold_ended(self):
        """Move what ended processes have counted to one file of each kind.

        Workers end every so many requests: without it there would be ever more files.
        """
        for kind, pid, path in list(self._files()):
            if pid == _ENDED or not _is_ended(pid):
                continue
            # gauges of living processes end with theirs
            if not kind.startswith("gauge_live"):
                self._fold(kind, path)
            os.unlink(path)

    def _fold(self, kind, path):
        ended = MmapedDict(os.path.join(self._folder, f"{kind}_{_ENDED}.db"))
        try:
            found = MmapedDict.read_all_values_from_file(path)
            for key, value, timestamp, _position in found:
                known, known_timestamp = ended.read_value(key)
                if not kind.startswith("gauge"):
                    value += known
                elif timestamp < known_timestamp:
                    continue
                ended.write_value(key, value, timestamp)
        finally:
            ended.close()

    def _files(self):
        for entry in os.scandir(self._folder):
            name, extension = os.path.splitext(entry.name)
            kind, _underscore, pid = name.rpartition("_")
            if extension == ".db" and pid.isdecimal():
                yield kind, int(pid), entry.path


class _Collected:
    """Families that were collected under the lock, for an encoder."""

    def __init__(self, families):
        self._families = families

    def collect(self):
        return self._families


def _is_ended(pid):
    return pid == _ENDED or not psutil.pid_exists(pid)


def _series(metric, labels):
    """Return a function that takes a value and the values of the labels."""
    arguments = (metric.series, metric.description, labels)
    # in no registry: what is told comes from the files
    if metric.kind == "ms":
        series = Histogram(*arguments, registry=None, buckets=metric.buckets)
        return lambda value, *labels: series.labels(*labels).observe(value)
    if metric.kind == "c":
        series = Counter(*arguments, registry=None)
        return lambda value, *labels: series.labels(*labels).inc(value)
    series = Gauge(*arguments, registry=None, multiprocess_mode=metric.gauge_of)
    return lambda value, *labels: series.labels(*labels).set(value)


def _shared_folder(folder):
    """Return the folder's path, made when it does not exist.

    The environment carries it to the library, and to the process of the websockets.
    """
    try:
        if folder:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            folder = str(folder)
            if not os.access(folder, os.W_OK | os.X_OK):
                raise PermissionError("it cannot be written to")
        else:
            folder = tempfile.mkdtemp(prefix="odoo-metrics-")
            atexit.register(_remove, folder, os.getpid())
    except OSError as error:
        raise StatsdSettingsError(
            f"{FOLDER_VARIABLE} is {str(folder or '')!r}: a folder that Odoo may write "
            f"to is expected ({error})"
        ) from error
    os.environ[FOLDER_VARIABLE] = folder
    return folder


def _remove(folder, pid):
    # workers inherit it, and end before their server does
    if os.getpid() == pid:
        shutil.rmtree(folder, ignore_errors=True)


def _text(content, status, **headers):
    return Response(
        content + "\n",
        status=status,
        content_type="text/plain; charset=utf-8",
        headers={"Cache-Control": "no-store", **headers},
    )
