"""Log records as JSON: never invalid, never lost, bounded."""

import functools
import json
import logging
import math
import os
import threading
import time
import traceback
from datetime import date, datetime
from datetime import time as datetime_time
from json.encoder import encode_basestring_ascii as _quote

from pythonjsonlogger.json import JsonFormatter

from .mask import MASK, mask_secrets

# Bounds of structured values; what is beyond is told by an ellipsis.
_MAX_DEPTH = 6
_MAX_ITEMS = 100
# What each value costs beside its characters, of a budget of characters.
_VALUE_CHARS = 16
_MAX_INTEGER = 2**63 - 1  # a `long` of Elasticsearch
_ELLIPSIS = "…"
_NO_CONTEXT = (None, None, None)
# Beyond a cut, what is looked at for a secret that the cut parts from its name.
_MARGIN_CHARS = 1024

# Attributes of a record that are no field of their own, or that become one.
_RESERVED = frozenset(
    {
        *logging.LogRecord("", 0, "", 0, "", (), None).__dict__,
        "asctime",
        "message",
        "taskName",
        # Odoo's (netsvc.py) and those of this addon (patches.py)
        "dbname",
        "logging_json_context",
        "logging_json_fields",
        "perf_info",
        "pid",
    }
)

# The fields of each record, in their order.
_CORE = (
    "timestamp",
    "level",
    "logger",
    "message",
    "pid",
    "thread",
    "dbname",
    "uid",
    "request_id",
    "trace_id",
)

ECS_VERSION = "8.11.0"
# https://www.elastic.co/guide/en/ecs/8.11/ecs-field-reference.html; what has no place
# there is put under `odoo`.
ECS_NAMES = {
    "timestamp": "@timestamp",
    "level": "log.level",
    "logger": "log.logger",
    "message": "message",
    "pid": "process.pid",
    "thread": "process.thread.name",
    "dbname": "odoo.dbname",
    "uid": "user.id",
    "request_id": "http.request.id",
    "trace_id": "trace.id",
    "exception_type": "error.type",
    "exception_message": "error.message",
    "exception_stack": "error.stack_trace",
    "stack": "odoo.stack",
    "format_error": "odoo.format_error",
    "extra": "odoo.extra",
    "method": "http.request.method",
    "path": "url.original",
    "route": "odoo.route",
    "model": "odoo.model",
    "model_method": "odoo.model_method",
    "status": "http.response.status_code",
    "rpc_error": "odoo.rpc_error",
    "duration_ms": "odoo.duration_ms",
    "query_count": "odoo.query_count",
    "query_time_ms": "odoo.query_time_ms",
    "cursor_mode": "odoo.cursor_mode",
    "response_bytes": "http.response.body.bytes",
    "remote_addr": "client.address",
    "user_agent": "user_agent.original",
}


class OdooJsonFormatter(JsonFormatter):
    """Formats a record as one line of JSON.

    :param str log_format: ``flat`` or ``ecs``
    :param int max_text_chars: longest text of a field, in characters
    """

    def __init__(self, log_format="flat", max_text_chars=16384):
        super().__init__()
        self._names = ECS_NAMES if log_format == "ecs" else {}
        self._max_text_chars = max_text_chars
        # One for all records: json.dumps() with arguments makes a new one each time.
        self._encode = json.JSONEncoder(
            check_circular=False, allow_nan=False, separators=(",", ":")
        ).encode
        # The fields that each record has are put together as text, which takes half
        # the time of encoding them.
        names = ",".join(f"{_quote(self._names.get(name, name))}:%s" for name in _CORE)
        version = f',"ecs.version":"{ECS_VERSION}"' if self._names else ""
        self._template = f"{{{names}{version}}}"
        self._second = (None, "")
        # Loggers and threads have few names.
        self._quoted_name = functools.lru_cache(maxsize=1024)(self._quoted)
        self._busy = threading.local()

    # -- logging.Formatter

    def format(self, record):
        # A value whose __str__ logs would come back here without an end.
        nested = getattr(self._busy, "formatting", False)
        self._busy.formatting = True
        try:
            return self._line(record, nested)
        except Exception as error:  # whatever it is, the record must not be lost
            return self._poor_line(record, error)
        finally:
            self._busy.formatting = nested

    # -- lines

    def _line(self, record, nested=False):
        attributes = record.__dict__
        more = {}
        message = self._message(record, nested, more)
        if record.exc_info or record.exc_text:
            more |= self._exception(record)
        if record.stack_info:
            more["stack"] = self._text(record.stack_info)
        if own := attributes.get("logging_json_fields"):
            for name, value in own.items():
                more[name] = self._value(value)
        if not _RESERVED.issuperset(attributes):
            more["extra"] = self._extra(attributes)
        return self._joined(record, message, more)

    def _poor_line(self, record, error):
        """Say what can be said of a record that cannot be formatted."""
        message = self._text(_printed(record.__dict__.get("message", record.msg)))
        told = {"format_error": type(error).__name__}
        try:
            return self._joined(record, message, told)
        except Exception:  # what the record has from its birth is wrong
            name = self._text(record.name)
            record = logging.LogRecord(name, logging.ERROR, "", 0, "", (), None)
            return self._joined(record, message, told)

    def _joined(self, record, message, more):
        get = record.__dict__.get
        dbname = get("dbname", "?")
        uid, request_id, trace_id = get("logging_json_context", _NO_CONTEXT)
        # the order is that of _CORE
        line = self._template % (
            self._timestamp(record.created),
            _quote(logging.getLevelName(record.levelno)),
            self._quoted_name(record.name),
            _quote(message),
            int(record.process or os.getpid()),
            self._quoted_name(record.threadName),
            # Odoo writes "?" when no database is in use
            "null" if dbname == "?" else self._quoted(dbname),
            "null" if uid is None else self._uid(uid),
            "null" if request_id is None else self._quoted(request_id),
            "null" if trace_id is None else self._quoted(trace_id),
        )
        if more:
            if self._names:
                more = self._ecs(more)
            line = f"{line[:-1]},{self._encode(more)[1:]}"
        return line

    def _ecs(self, fields):
        renamed = {self._names.get(name, name): fields[name] for name in fields}
        if (duration_ms := fields.get("duration_ms")) is not None:
            renamed["event.duration"] = int(duration_ms * 1_000_000)
        return renamed

    # -- fields

    def _uid(self, uid):
        if self._names:
            return self._quoted(uid)  # a keyword in ECS
        return uid if type(uid) is int else "null"

    def _extra(self, attributes):
        """Return what the caller gave as ``extra``; each value has its own budget."""
        extra = {}
        for name, value in attributes.items():
            if name in _RESERVED:
                continue
            if len(extra) >= _MAX_ITEMS:
                break
            try:
                extra |= self._value({name: value})
            except Exception as error:  # of a class that breaks what it inherits
                extra[self._text(name)] = _unprintable(value, error)
        return extra

    def _message(self, record, nested, more):
        """Return the text; when it cannot be made, message and arguments side by
        side, and the reason in ``format_error``."""
        if nested:
            return self._text(record.msg if isinstance(record.msg, str) else "")
        try:
            record.message = record.getMessage()
        except Exception as error:
            # a broken __str__, or arguments that do not fit the message
            more["format_error"] = type(error).__name__
            record.message = f"{_printed(record.msg)} {_printed(record.args)}"
        return self._text(record.message)

    def _exception(self, record):
        kind, error, trace = record.exc_info or (None, None, None)
        if not record.exc_text and kind:
            try:
                # kept for other handlers, as logging.Formatter does
                record.exc_text = self.formatException(record.exc_info)
            except Exception as failure:  # an exception whose own __str__ fails
                stack = traceback.format_tb(trace)
                record.exc_text = "".join([*stack, _unprintable(error, failure)])
        fields = {}
        if kind:
            module = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
            fields["exception_type"] = self._text(f"{module}{kind.__qualname__}")
            fields["exception_message"] = self._text(_printed(error))
        if record.exc_text:
            # the end of a stack tells more than its start
            fields["exception_stack"] = self._text(record.exc_text, keep_end=True)
        return fields

    def _timestamp(self, created):
        """ISO 8601 in UTC with milliseconds, quoted, from seconds since the epoch."""
        second = int(created // 1)
        known, text = self._second
        if known != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f'"{text}.{int((created - second) * 1000):03d}Z"'

    # -- values

    def _quoted(self, value):
        return _quote(self._text(value))

    def _text(self, text, keep_end=False):
        """Return a text bounded, with its secrets masked, that UTF-8 can hold."""
        if type(text) is not str:
            text = _printed(text)
        limit = self._max_text_chars
        cut = len(text) - limit
        if cut > 0:
            told = f"{_ELLIPSIS}[{cut} characters cut]"
            # masked first: a half secret, or one without its name, would be told
            if keep_end:
                kept = mask_secrets(text[-limit - _MARGIN_CHARS :])
                text = told + kept[-limit:]
            else:
                kept = mask_secrets(text[: limit + _MARGIN_CHARS])
                text = kept[:limit] + told
        else:
            text = mask_secrets(text)
        if not text.isascii():
            # lone surrogates are no valid JSON text (RFC 8259, 8.2)
            text = text.encode("utf-8", "replace").decode("utf-8")
        return text

    def _value(self, value):
        """Return a value that every JSON reader accepts."""
        # The common ones first, without the cost of a budget.
        kind = type(value)
        if value is None or kind is bool:
            return value
        if kind is str:
            return self._text(value)
        return self._bounded(value, _MAX_DEPTH, [2 * self._max_text_chars])

    def _bounded(self, value, depth, budget):
        budget[0] -= _VALUE_CHARS
        if value is None or isinstance(value, bool):
            return value
        if isinstance(value, str):
            budget[0] -= len(value)
            return self._text(value)
        if isinstance(value, int):
            if -_MAX_INTEGER <= value <= _MAX_INTEGER:
                return int(value)
            return self._text(hex(value))
        if isinstance(value, float):
            return float(value) if math.isfinite(value) else str(float(value))
        if isinstance(value, bytes | bytearray | memoryview):
            start = bytes(value[: self._max_text_chars + 1])
            budget[0] -= len(start)
            return self._text(start.decode("utf-8", "replace"))
        if isinstance(value, date | datetime | datetime_time):
            return value.isoformat()
        if isinstance(value, dict | list | tuple | set | frozenset):
            if not depth or budget[0] <= 0:
                return _ELLIPSIS  # also where a circular value ends
            return self._bounded_items(value, depth - 1, budget)
        text = self._text(value)
        budget[0] -= len(text)
        return text

    def _bounded_items(self, value, depth, budget):
        left = len(value) - _MAX_ITEMS
        if isinstance(value, dict):
            items = {}
            for name, item in value.items():
                if len(items) >= _MAX_ITEMS or budget[0] <= 0:
                    items[_ELLIPSIS] = f"{len(value)} items"
                    break
                name = self._text(name)
                masked = _tells_secret(name)
                items[name] = MASK if masked else self._bounded(item, depth, budget)
            return items
        items = []
        if len(value) == 2 and isinstance(value, list | tuple):
            name, _item = value
            if isinstance(name, str) and _tells_secret(name):
                return [self._text(name), MASK]
        for item in value:
            if len(items) >= _MAX_ITEMS or budget[0] <= 0:
                items.append(f"{_ELLIPSIS} {left} more")
                break
            items.append(self._bounded(item, depth, budget))
        return items


def _tells_secret(name):
    """Return whether `name=…` would be masked in a text: so is the value of a key."""
    return mask_secrets(f"{name[-64:]}=x") != f"{name[-64:]}=x"


def _printed(value):
    """Return str(value), or a text that says that it has none."""
    try:
        return str(value)
    except Exception as error:
        return _unprintable(value, error)


def _unprintable(value, error):
    return f"<{type(value).__name__} that cannot be printed: {type(error).__name__}>"
