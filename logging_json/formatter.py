"""Log records as JSON: never invalid, never lost, bounded."""

import functools
import json
import logging
import math
import threading
import time
import traceback
from datetime import date, datetime
from datetime import time as datetime_time

from pythonjsonlogger.json import JsonFormatter

from .mask import MASK, mask_secrets

# Bounds of structured values; what is beyond is told by an ellipsis.
_MAX_DEPTH = 6
_MAX_ITEMS = 100
# What each value costs beside its characters, of a budget of characters.
_VALUE_CHARS = 16
_MAX_INTEGER = 2**63 - 1  # a `long` of Elasticsearch
_ELLIPSIS = "…"

# Attributes of a record that are no field of their own, or that become one.
_RESERVED = frozenset(
    {
        *logging.LogRecord("", 0, "", 0, "", (), None).__dict__,
        "asctime",
        "message",
        "taskName",
        # Odoo's (netsvc.py) and those of this addon (patches.py)
        "dbname",
        "json_fields",
        "perf_info",
        "pid",
        "request_id",
        "trace_id",
        "uid",
    }
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
        self._names = ECS_NAMES if log_format == "ecs" else None
        self._max_text_chars = max_text_chars
        self._encode = _encoder()
        # Loggers and threads have few names.
        self._name = functools.lru_cache(maxsize=1024)(self._text)
        self._second = (None, "")
        self._busy = threading.local()

    # -- logging.Formatter

    def format(self, record):
        # A value whose __str__ logs would come back here without an end.
        nested = getattr(self._busy, "formatting", False)
        self._busy.formatting = True
        try:
            return self._line(self._fields(record, nested))
        except Exception as error:  # whatever it is, the record must not be lost
            return self._line(self._poor_fields(record, error))
        finally:
            self._busy.formatting = nested

    # -- fields

    def _fields(self, record, nested=False):
        """Return the fields of a record, in the order in which they are written."""
        attributes = record.__dict__
        get = attributes.get
        dbname = get("dbname", "?")
        uid = get("uid")
        fields = {
            "timestamp": self._timestamp(record.created),
            "level": logging.getLevelName(record.levelno),
            "logger": self._name(record.name),
            "message": "",
            "pid": record.process,
            "thread": self._name(record.threadName),
            # Odoo writes "?" when no database is in use
            "dbname": None if dbname == "?" else self._value(dbname),
            "uid": None if uid is None else self._value(uid),
            "request_id": get("request_id"),
            "trace_id": get("trace_id"),
        }
        fields["message"] = self._message(record, nested, fields)
        if record.exc_info and record.exc_info[0]:
            fields |= self._exception(record)
        elif record.exc_text:
            fields["exception_stack"] = self._text(record.exc_text)
        if record.stack_info:
            fields["stack"] = self._text(record.stack_info)
        if own := get("json_fields"):
            for name, value in own.items():
                fields[name] = self._value(value)
        if not _RESERVED.issuperset(attributes):
            fields["extra"] = self._extra(attributes)
        return fields

    def _extra(self, attributes):
        """Return what the caller gave as ``extra``; each value has its own budget."""
        extra = {}
        for name, value in attributes.items():
            if name in _RESERVED:
                continue
            if len(extra) >= _MAX_ITEMS:
                break
            extra |= self._value({name: value})
        return extra

    def _poor_fields(self, record, error):
        """What can be said of a record that cannot be formatted."""
        return {
            "timestamp": self._timestamp(record.created),
            "level": logging.getLevelName(record.levelno),
            "logger": self._text(_printed(record.name)),
            "message": self._text(_printed(record.msg)),
            "pid": record.process,
            "format_error": type(error).__name__,
        }

    def _message(self, record, nested, fields):
        """Return the text; when it cannot be made, message and arguments side by
        side, and the reason in ``format_error``."""
        if nested:
            return self._text(record.msg if isinstance(record.msg, str) else "")
        try:
            record.message = record.getMessage()
        except Exception as error:
            # a broken __str__, or arguments that do not fit the message
            fields["format_error"] = type(error).__name__
            record.message = f"{_printed(record.msg)} {_printed(record.args)}"
        return self._text(record.message)

    def _exception(self, record):
        kind, error, _traceback = record.exc_info
        if not record.exc_text:
            try:
                # kept for other handlers, as logging.Formatter does
                record.exc_text = self.formatException(record.exc_info)
            except Exception:  # an exception whose own __str__ fails
                record.exc_text = "".join(traceback.format_tb(_traceback))
        return {
            "exception_type": f"{kind.__module__}.{kind.__qualname__}"
            if kind.__module__ != "builtins"
            else kind.__qualname__,
            "exception_message": self._text(_printed(error)),
            # the end of a stack tells more than its start
            "exception_stack": self._text(record.exc_text, keep_end=True),
        }

    def _timestamp(self, created):
        """ISO 8601 in UTC with milliseconds, from seconds since the epoch."""
        second = int(created)
        known, text = self._second
        if known != second:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{int((created - second) * 1000):03d}Z"

    # -- values

    def _text(self, text, keep_end=False):
        """Return a text bounded, with its secrets masked, that UTF-8 can hold."""
        if type(text) is not str:
            text = _printed(text)
        cut = len(text) - self._max_text_chars
        if cut > 0:
            told = f"{_ELLIPSIS}[{cut} characters cut]"
            kept = text[cut:] if keep_end else text[:-cut]
            text = told + kept if keep_end else kept + told
        if not text.isascii():
            # lone surrogates are no valid JSON text (RFC 8259, 8.2)
            text = text.encode("utf-8", "replace").decode("utf-8")
        return mask_secrets(text)

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
                # `password=…` would be masked in a text: so it is as a key
                masked = mask_secrets(f"{name}=x") != f"{name}=x"
                items[name] = MASK if masked else self._bounded(item, depth, budget)
            return items
        items = []
        for item in value:
            if len(items) >= _MAX_ITEMS or budget[0] <= 0:
                items.append(f"{_ELLIPSIS} {left} more")
                break
            items.append(self._bounded(item, depth, budget))
        return items

    def _line(self, fields):
        if self._names:
            renamed = {self._names.get(key, key): fields[key] for key in fields}
            renamed["ecs.version"] = ECS_VERSION
            if "duration_ms" in fields:
                renamed["event.duration"] = int(fields["duration_ms"] * 1_000_000)
            if fields.get("uid") is not None:
                renamed["user.id"] = str(fields["uid"])  # a keyword in ECS
            fields = renamed
        return self._encode(fields)


def _encoder():
    """Return a function from a value to its JSON text.

    One C encoder serves all records where Python has it: json.dumps(), and an encoder's
    encode() too, make a new one for each value, which is a third of their time.
    """
    encoder = json.JSONEncoder(
        check_circular=False, allow_nan=False, separators=(",", ":")
    )
    make = getattr(json.encoder, "c_make_encoder", None)
    if make is None:
        return encoder.encode
    chunks = make(
        None,  # no markers of circular values
        encoder.default,
        json.encoder.encode_basestring_ascii,
        None,  # no indent
        encoder.key_separator,
        encoder.item_separator,
        False,  # keys in their order
        False,  # no keys skipped
        False,  # no NaN
    )
    return lambda value: "".join(chunks(value, 0))


def _printed(value):
    """Return str(value), or a text that says that it has none."""
    try:
        return str(value)
    except Exception as error:
        return (
            f"<{type(value).__name__} that cannot be printed: {type(error).__name__}>"
        )
