import logging

from werkzeug.exceptions import ServiceUnavailable

#: seconds after which a browser may try again: a Sentinel failover, or the restart
#: of a Redis with its data on disk, is usually over by then
RETRY_AFTER_SECONDS = 5


class SessionRedisConfigurationError(Exception):
    """Environment variables that cannot be used.

    :param list[str] faults: one sentence per fault, each with its variable
    """

    def __init__(self, faults):
        self.faults = faults
        super().__init__("session_redis: " + "; ".join(faults))


class SessionStoreUnavailable(ServiceUnavailable):
    """Redis cannot be asked, so that nobody knows whether a session exists.

    To a browser it is a 503 with ``Retry-After`` and without ``Set-Cookie``: the login
    is still there when Redis is back. The body is not JSON, which Odoo's web client
    takes for a lost connection, and tries again.
    """

    #: read by ``odoo.http.Application.__call__``, which logs the exception once
    loglevel = logging.ERROR

    def __init__(self, reason):
        super().__init__(
            description="The session store does not answer. Please try again.",
            retry_after=RETRY_AFTER_SECONDS,
        )
        self.reason = reason

    def __str__(self):
        return f"Session store unavailable: {self.reason}"

    @property
    def error_response(self):
        """WSGI application that answers the request.

        ``odoo.http`` and ``ir.http`` render an error page of their own, which may need
        the session again, unless an exception brings its response.
        """
        return self.get_response()
