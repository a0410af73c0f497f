"""What is measured of a request."""

import threading
import time
from contextvars import ContextVar

from odoo.modules.registry import Registry
from odoo.service.server import thread_local

from . import memory, metrics

# Metric of a remote call, by the path that it comes from.
_RPC_PATHS = {
    "/web/dataset/call_button": "http.button",
    "/web/dataset/call_kw": "http.rpc",
    "/json/2": "http.rpc",
}


# Frequent and fast: they would hide what users wait for.
_PROBES = ("/web/health", "/websocket/health", "/monitoring/")


def is_probe(environ):
    """Return whether a request only asks if the server is well."""
    return environ.get("PATH_INFO", "").startswith(_PROBES)


_current: ContextVar["RequestMeasure | None"] = ContextVar(
    "monitoring_statsd", default=None
)


def current():
    """Return the RequestMeasure of the running request, or None."""
    return _current.get()


class RequestMeasure:
    """Times one request, from the WSGI server's call to the application's return.

    A body that is sent after that (a download) is not part of the time: it tells of
    the client's network more than of Odoo.
    """

    def __init__(self, environ):
        self._environ = environ
        self._started = time.perf_counter()
        self._status = 500
        self._seconds = 0.0
        self._queries = 0
        self._query_seconds = 0.0
        self.rpc_error = False
        self._batch = None

    def __enter__(self):
        self._token = _current.set(self)
        return self

    def __exit__(self, kind, *exc_info):
        _current.reset(self._token)
        self._seconds = time.perf_counter() - self._started
        # gone when the access log has been written
        thread = threading.current_thread()
        self._queries = getattr(thread, "query_count", 0)
        self._query_seconds = getattr(thread, "query_time", 0.0)
        if kind:
            self.send()  # there will be no body

    def start_response(self, start_response):
        """Wrap the server's function to note the status."""

        def wrapped(status, headers, *exc_info):
            self._status = int(status[:3])
            return start_response(status, headers, *exc_info)

        return wrapped

    def batch(self):
        """Return the Batch that is sent when the request ends, or None when metrics
        are off."""
        if self._batch is None and (active := metrics.active()):
            self._batch = active.batch()
        return self._batch

    def send(self):
        """Send the metrics; never raises."""
        with metrics.errors_logged():
            if batch := self.batch():
                with batch:
                    self._fill(batch)

    def _fill(self, batch):
        batch.timing("http.request", self._seconds)
        batch.count("http.status", 1, f"{self._status // 100}xx")
        if self._queries:
            batch.count("http.sql_queries", self._queries)
            batch.timing("http.sql_time", self._query_seconds)
        if self.rpc_error:
            batch.count("http.rpc_error", 1)
        name, model, method = self._remote_call()
        if name:
            batch.timing(name, self._seconds, model, method)
        memory.sample(batch, "http")

    def _remote_call(self):
        """Return the metric's name, the model and the method, or three times None.

        What a client may invent gets no metric: the model and its method must exist.
        """
        path = self._environ.get("PATH_INFO", "")
        name = "http.rpc"
        called = getattr(thread_local, "rpc_model_method", "")
        for prefix, prefix_name in _RPC_PATHS.items():
            if path.startswith(prefix):
                name = prefix_name
                # Odoo leaves it empty where the path says it all
                called = called or path[len(prefix) + 1 :].replace("/", ".")
        model, _dot, method = called.rpartition(".")
        try:
            dbname = getattr(threading.current_thread(), "dbname", None)
            registry = Registry.registries[dbname]
            model_class = registry[model]
        except KeyError:
            return None, None, None
        if method.startswith("_") or not callable(getattr(model_class, method, None)):
            return None, None, None
        return name, model, method


class MeasuredBody:
    """A response's body that sends the metrics when it was sent itself.

    So whoever waits for the answer does not wait for its metrics.
    """

    def __init__(self, body, measure):
        self._body = body
        self._measure = measure

    def __iter__(self):
        return iter(self._body)

    def close(self):
        measure, self._measure = self._measure, None
        if measure is None:
            return
        # before the body's own close(): a websocket lives inside of it
        measure.send()
        if close := getattr(self._body, "close", None):
            close()

    def __del__(self):
        # Werkzeug does not close it when a client resets the connection that is read
        # to its end (serving.py, run_wsgi).
        self.close()
