"""Named errors of the object store.

All of them are a 503 with ``Retry-After`` for a browser (see ``ir.http``): an outage is
told as one, and never becomes an empty file that a later write would make permanent.
"""

import logging

from werkzeug.exceptions import ServiceUnavailable

#: seconds after which a browser may try again
RETRY_AFTER_SECONDS = 10


class S3Error(ServiceUnavailable):
    """The object store cannot be used.

    :param str reason: one sentence, without secrets
    """

    #: read by ``odoo.http.Application.__call__``, which logs the exception once
    loglevel = logging.ERROR

    def __init__(self, reason):
        super().__init__(
            description="The file storage does not answer. Please try again.",
            retry_after=RETRY_AFTER_SECONDS,
        )
        self.reason = reason
        self.args = (reason,)  # for pickle and repr

    def __str__(self):
        return self.reason


class S3ConfigurationError(S3Error):
    """A variable or a system parameter that cannot be used."""


class S3Unavailable(S3Error):
    """The object store does not answer, or answers that it cannot work now."""


class S3AccessDenied(S3Error):
    """The object store refuses the credentials, or an operation to them."""


class S3BucketMissing(S3Error):
    """The bucket does not exist."""


class S3ObjectMissing(S3Error):
    """The object does not exist. Callers treat it as Odoo does a missing file."""


class S3ContentError(S3Error):
    """The content that arrived is not the one that was stored."""
