"""All that this addon changes in Odoo, in one place.

A controller would not do. Before Odoo looks for one, it opens a session, asks
PostgreSQL for its databases and waits for a registry: a probe could create sessions,
and hang with PostgreSQL instead of telling that it is away.
"""

import logging
import re

from odoo import http

from . import status

_patched = False


def post_load():
    """Answer probes before Odoo sees them, and keep them out of the access log."""
    global _patched
    if _patched:
        return
    _patched = True
    application_call = http.Application.__call__

    def __call__(self, environ, start_response):
        if environ.get("PATH_INFO") in status.PATHS:
            return status.answer(environ)(environ, start_response)
        return application_call(self, environ, start_response)

    http.Application.__call__ = __call__
    # those of the threaded or prefork server, and of the gevent one
    for name in ("werkzeug", "longpolling"):
        logging.getLogger(name).addFilter(_is_no_probe)


# After `#` Odoo tells the model and method of the last remote call of the thread.
_PROBE = re.compile(rf'"(?:GET|HEAD) (?:{"|".join(sorted(status.PATHS))})(?:[ ?#"]|$)')


def _is_no_probe(record):
    try:
        message = record.getMessage()
    except Exception:
        # the handler tells of a record that cannot be printed
        return True
    return not _PROBE.search(message)
