"""Identifiers that tie the log records of one request or one cron job together."""

import contextlib
import os
import re
from contextvars import ContextVar
from dataclasses import dataclass

# A client's own identifier is written to the log and sent back in a header: only
# harmless characters, and short.
_REQUEST_ID = re.compile(r"[A-Za-z0-9._:=@/+-]{1,128}")

# https://www.w3.org/TR/trace-context/#traceparent-header-field-values
_TRACEPARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})"
    r"-(?!0{32})(?P<trace_id>[0-9a-f]{32})"
    r"-(?!0{16})(?P<parent_id>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<later_version>-.*)?"
)


@dataclass(frozen=True, slots=True)
class Correlation:
    """What the records of one request or job have in common."""

    request_id: str
    trace_id: str
    span_id: str
    trace_flags: str

    @classmethod
    def new(cls, request_id=None, traceparent=None):
        """Take over the caller's identifiers where they are valid, make the others.

        :param str | None request_id: value of the header ``X-Request-ID``
        :param str | None traceparent: value of the header ``traceparent``
        """
        made = os.urandom(24).hex()
        if not request_id or not _REQUEST_ID.fullmatch(request_id):
            request_id = made[:32]
        trace = _TRACEPARENT.fullmatch(traceparent) if traceparent else None
        if trace and trace["version"] == "00" and trace["later_version"]:
            trace = None
        return cls(
            request_id=request_id,
            trace_id=trace["trace_id"] if trace else made[:32],
            span_id=made[32:],
            trace_flags=trace["flags"] if trace else "00",
        )

    @property
    def traceparent(self):
        return f"00-{self.trace_id}-{self.span_id}-{self.trace_flags}"


_current: ContextVar[Correlation | None] = ContextVar("logging_json", default=None)


def current():
    """Return the identifiers of the running request or job, or None."""
    return _current.get()


def set_current(correlation):
    _current.set(correlation)


@contextlib.contextmanager
def use(correlation):
    """Run a block with these identifiers, then put the former ones back."""
    token = _current.set(correlation)
    try:
        yield correlation
    finally:
        _current.reset(token)
