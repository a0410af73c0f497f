"""The access log: one record per request, written when the response is complete."""

import logging
import threading
import time
from contextvars import ContextVar

from odoo.service.server import thread_local

from . import context

# The server's own access log goes to this logger; so does this one, in every mode.
_logger = logging.getLogger("werkzeug")

# In the WSGI environment: this request has its record from here.
MARK = "logging_json.access"

_current: ContextVar["Access | None"] = ContextVar("logging_json_access", default=None)

_RPC_PATHS = ("/web/dataset/call_kw/", "/web/dataset/call_button/", "/json/2/")


class Access:
    """What is known of one request.

    :param dict environ: the request's WSGI environment
    """

    def __init__(self, environ):
        self.environ = environ
        self.started = time.monotonic()
        self.status = None
        self.response_bytes = 0
        self.route = None
        self.rpc_error = False
        self.logged = False
        self.correlation = context.Correlation.new(
            environ.get("HTTP_X_REQUEST_ID"), environ.get("HTTP_TRACEPARENT")
        )
        environ[MARK] = True
        _current.set(self)
        context.set_current(self.correlation)

    def start_response(self, start_response):
        """Wrap the server's function: note the status, send the identifiers."""

        def wrapped(status, headers, *exc_info):
            self.status = int(status[:3])
            names = {name.lower() for name, _value in headers}
            for name, value in (
                ("X-Request-ID", self.correlation.request_id),
                ("traceparent", self.correlation.traceparent),
            ):
                if name.lower() not in names:
                    headers.append((name, value))
            return start_response(status, headers, *exc_info)

        return wrapped

    def log(self):
        """Write the record, once."""
        if self.logged:
            return
        self.logged = True
        if not _logger.isEnabledFor(logging.INFO):
            return
        environ = self.environ
        method = environ.get("REQUEST_METHOD", "-")
        path = self._path()
        thread = threading.current_thread()
        query_time = getattr(thread, "query_time", None)
        model, _dot, model_method = self._model_method().rpartition(".")
        _logger.info(
            '"%s %s" %s',
            method,
            path,
            self.status,
            extra={
                "logging_json_fields": {
                    "method": method,
                    "path": path,
                    "route": self.route,
                    "model": model or None,
                    "model_method": model_method or None,
                    "status": self.status,
                    "rpc_error": self.rpc_error,
                    "duration_ms": round((time.monotonic() - self.started) * 1000, 3),
                    "query_count": getattr(thread, "query_count", None),
                    "query_time_ms": None
                    if query_time is None
                    else round(query_time * 1000, 3),
                    "cursor_mode": getattr(thread, "cursor_mode", None),
                    "response_bytes": self.response_bytes,
                    # after the request, because Odoo puts the proxy's word here
                    "remote_addr": environ.get("REMOTE_ADDR"),
                    "user_agent": environ.get("HTTP_USER_AGENT"),
                }
            },
        )

    def end(self):
        """Forget the request: its thread may serve another one."""
        if _current.get() is self:
            _current.set(None)
            context.set_current(None)

    def _path(self):
        if self.route and "token" in self.route:
            return self.route  # a part of the path is a secret
        path = environ_text(self.environ.get("PATH_INFO", ""))
        query = environ_text(self.environ.get("QUERY_STRING", ""))
        return f"{path}?{query}" if query else path

    def _model_method(self):
        """Return ``model.method`` of a remote call, or an empty text."""
        if name := getattr(thread_local, "rpc_model_method", ""):
            return name
        # Odoo leaves the name empty where the path says it all
        path = self.environ.get("PATH_INFO", "")
        for prefix in _RPC_PATHS:
            if path.startswith(prefix):
                return environ_text(path[len(prefix) :]).replace("/", ".")
        return ""


class AccessBody:
    """A response's body that counts its bytes and ends the request when closed."""

    def __init__(self, body, access):
        self._body = body
        self._access = access

    def __iter__(self):
        access = self._access
        for chunk in self._body:
            access.response_bytes += len(chunk)
            yield chunk

    def close(self):
        body, self._body = self._body, ()
        try:
            # Before the body's own close(): a websocket lives inside of it.
            self._access.log()
            if close := getattr(body, "close", None):
                close()
        finally:
            self._access.end()

    def __del__(self):
        # Werkzeug does not close it when a client resets the connection that is read
        # to its end (serving.py, run_wsgi).
        self.close()


def environ_text(value):
    """Return a WSGI text, which is latin-1 (PEP 3333), as what the client meant."""
    return value.encode("latin-1", "replace").decode("utf-8", "replace")


def current():
    """Return the Access of the running request, or None."""
    return _current.get()
