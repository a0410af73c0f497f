"""The answers to probes."""

import hmac
import json
import logging

from pydantic import ValidationError
from werkzeug.wrappers import Request, Response

from .checks import Checker
from .settings import MonitoringStatusSettings

_logger = logging.getLogger(__name__)

LIVE = "/monitoring/live"
READY = "/monitoring/ready"
STATUS = "/monitoring/status"
PATHS = frozenset({LIVE, READY, STATUS})

checker = Checker()


def answer(environ):
    """Return the response to a probe.

    :param dict environ: WSGI environment of a request for one of PATHS
    :rtype: werkzeug.wrappers.Response
    """
    request = Request(environ)
    if request.method not in ("GET", "HEAD"):
        return _response({"status": "method not allowed"}, 405, Allow="GET, HEAD")
    if request.path == LIVE:
        return _response({"status": "ok"}, 200)
    try:
        settings = MonitoringStatusSettings()
    except ValidationError as error:
        _logger.error("Probes cannot be answered: %s", error)
        return _response({"status": "invalid configuration"}, 503)
    results = checker.results(settings)
    ready = all(result.ok for result in results.values())
    status = 200 if ready else 503
    if request.path == STATUS:
        # the number is what probes of the 2016 addon look for
        return _response({"status": 1 if ready else 0}, status)
    detailed = _has_token(request, settings)
    return _response(
        {
            "status": "ok" if ready else "failing",
            "parts": {
                name: _part(result, detailed) for name, result in results.items()
            },
        },
        status,
    )


def _part(result, detailed):
    part = {"status": "ok" if result.ok else "failing"}
    if detailed:
        part["seconds"] = round(result.seconds, 4)
        if result.error:
            part["error"] = result.error
    return part


def _has_token(request, settings):
    if not settings.token or not settings.token.get_secret_value():
        return False
    given = request.headers.get("Authorization", "")
    expected = f"Bearer {settings.token.get_secret_value()}"
    # in a time that does not tell how much of it was right
    return hmac.compare_digest(given.encode(), expected.encode())


def _response(content, status, **headers):
    return Response(
        json.dumps(content) + "\n",
        status=status,
        content_type="application/json",
        headers={"Cache-Control": "no-store", **headers},
    )
