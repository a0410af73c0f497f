"""All that this addon changes in Odoo, in one place.

The WSGI application is no model: only around it a request is seen once and whole,
static files, 404, authentication, retries and the commit included.
"""

import logging
import re

from pydantic import ValidationError

from odoo import http

from . import metrics, observers, prometheus, requests
from .settings import StatsdSettings, StatsdSettingsError

_logger = logging.getLogger(__name__)

_patched = False


def post_load():
    """Measure from now on, if the environment says so."""
    global _patched
    try:
        settings = StatsdSettings()
        settings.check()
        metrics.use(settings)
    except (ValidationError, StatsdSettingsError) as error:
        # No metric is worth a server that does not start.
        _logger.error("Metrics stay off: %s", error)
        return
    # a store may be away before any registry is loaded
    observers.connect()
    if not settings.measures() or _patched:
        return
    _patched = True
    _measure_requests()
    # those of the threaded or prefork server, and of the gevent one
    for name in ("werkzeug", "longpolling"):
        logging.getLogger(name).addFilter(_is_no_scrape)


# One that was refused stays in the access log. After `#` Odoo tells the model and
# method of the last remote call of the thread.
_SCRAPE = re.compile(rf'"(?:GET|HEAD) {prometheus.PATH}(?:[ ?#][^"]*)?" 200\b')


def _is_no_scrape(record):
    active = metrics.active()
    if not (active and active.prometheus):
        return True
    try:
        message = record.getMessage()
    except Exception:
        # the handler tells of a record that cannot be printed
        return True
    return not _SCRAPE.search(message)


def _measure_requests():
    application_call = http.Application.__call__

    def __call__(self, environ, start_response):
        # Not a controller: a scrape needs neither a session nor a database.
        if (
            environ.get("PATH_INFO") == prometheus.PATH
            and (active := metrics.active())
            and active.prometheus
        ):
            return active.prometheus.answer(environ)(environ, start_response)
        if requests.is_probe(environ):
            return application_call(self, environ, start_response)
        with requests.RequestMeasure(environ) as measure:
            body = application_call(
                self, environ, measure.start_response(start_response)
            )
        return requests.MeasuredBody(body, measure)

    http.Application.__call__ = __call__

    # Errors of JSON-RPC have the HTTP status 200. Odoo takes the last class that names
    # the routing type.
    class JsonRPCDispatcher(http._dispatchers["jsonrpc"]):
        def handle_error(self, exc):
            if measure := requests.current():
                measure.rpc_error = True
            return super().handle_error(exc)
