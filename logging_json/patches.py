"""All that this addon changes in Odoo and in Python, in one place.

None of it can be done by inheritance: logging is set up before any registry exists,
and the WSGI application and the HTTP handlers are no models.
"""

import contextlib
import logging
import os
import signal
import sys
import threading

from pydantic import ValidationError

import odoo
from odoo import http, netsvc
from odoo.service import server

from . import access, context
from .formatter import OdooJsonFormatter
from .settings import LoggingJsonSettings

_logger = logging.getLogger(__name__)

_patched = False


def post_load():
    """Write the log as JSON from now on, if the environment says so."""
    try:
        settings = LoggingJsonSettings()
    except ValidationError as error:
        # A log in the wrong format is better than none: go on with the plain one.
        _logger.error("JSON logging stays off: %s", error)
        return
    if settings.enabled:
        _write_json(settings)


def before_logging():
    """Write as JSON what goes wrong until Odoo sets its logging up.

    :return: whether the environment says so
    :rtype: bool
    """
    try:
        settings = LoggingJsonSettings()
    except ValidationError:
        return False  # post_load() tells it, when there is a log
    if settings.enabled:
        _write_json(settings)
    return settings.enabled


def _write_json(settings):
    global _patched
    use_json_formatter(settings)
    if _patched:
        return
    _patched = True
    _add_record_fields()
    _log_uncaught_exceptions()
    _log_access()
    _log_killed_workers()


def use_json_formatter(settings):
    """Let the handlers that Odoo made write JSON, and the one that Python has
    without them."""
    formatter = OdooJsonFormatter(settings.log_format, settings.max_text_chars)
    logging.lastResort.setFormatter(formatter)
    for handler in logging.getLogger().handlers:
        # Odoo's PostgreSQL handler has no formatter: it writes columns.
        if handler.formatter is not None:
            handler.setFormatter(formatter)


def _add_record_fields():
    # Odoo sets its logging up unless the factory is netsvc.LogRecord: a factory of
    # another name would give each record two handlers at a second parse_config().
    class LogRecord(netsvc.LogRecord):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            correlation = context.current()
            # one name that nobody else has: `extra` may not name an attribute again
            self.logging_json_context = (
                getattr(threading.current_thread(), "uid", None),
                correlation and correlation.request_id,
                correlation and correlation.trace_id,
            )

    in_use = logging.getLogRecordFactory() is netsvc.LogRecord
    netsvc.LogRecord = LogRecord
    if in_use:
        logging.setLogRecordFactory(LogRecord)


def _log_uncaught_exceptions():
    """What Python and gevent would print to the standard error becomes a record."""

    def excepthook(kind, error, trace):
        _logger.critical("Uncaught exception", exc_info=(kind, error, trace))

    def thread_excepthook(args):
        if args.exc_type is not SystemExit:
            _logger.critical(
                "Uncaught exception in thread %s",
                args.thread and args.thread.name,
                exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
            )

    def unraisablehook(args):
        _logger.error(
            "%s: %r",
            args.err_msg or "Exception ignored in",
            args.object,
            exc_info=(args.exc_type, args.exc_value, args.exc_traceback),
        )

    sys.excepthook = excepthook
    threading.excepthook = thread_excepthook
    sys.unraisablehook = unraisablehook

    if odoo.evented:
        from gevent.hub import Hub

        def print_exception(self, where, kind, error, trace):
            _logger.error(
                "Uncaught exception in %s", where, exc_info=(kind, error, trace)
            )

        Hub.print_exception = print_exception


def _log_killed_workers():
    """The master of a prefork server tells how its processes ended.

    Odoo replaces in silence a worker that the kernel has killed, for example because
    memory was short.
    """
    if not hasattr(os, "waitid"):  # macOS
        return
    process_zombie = server.PreforkServer.process_zombie

    def process_zombie_and_tell(self):
        for pid in filter(None, [*self.workers, self.long_polling_pid]):
            with contextlib.suppress(ChildProcessError):  # it has been waited for
                # WNOWAIT: the original waits for it in its turn
                ended = os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT)
                if ended and ended.si_code != os.CLD_EXITED:
                    _tell_killed(self.workers.get(pid), ended)
        return process_zombie(self)

    server.PreforkServer.process_zombie = process_zombie_and_tell


def _tell_killed(worker, ended):
    number = ended.si_status
    _logger.log(
        # whoever sends SIGTERM wants it to end
        logging.INFO if number == signal.SIGTERM else logging.ERROR,
        "%s (%s) was killed by signal %s (%s)",
        type(worker).__name__ if worker else "Process for websockets",
        ended.si_pid,
        number,
        signal.strsignal(number),
    )


def _log_access():
    # Colours and perf_info are for people.
    import werkzeug.serving

    werkzeug.serving._log_add_style = False

    application_call = http.Application.__call__

    def __call__(self, environ, start_response):
        record = access.Access(environ)
        try:
            body = application_call(
                self, environ, record.start_response(start_response)
            )
        except BaseException:
            record.status = 500
            record.log()
            record.end()
            raise
        return access.AccessBody(body, record)

    http.Application.__call__ = __call__

    set_request_dispatcher = http.Request._set_request_dispatcher

    def _set_request_dispatcher(self, rule):
        if record := access.current():
            record.route = rule.rule
        return set_request_dispatcher(self, rule)

    http.Request._set_request_dispatcher = _set_request_dispatcher

    # Odoo takes the last class that names the routing type.
    class JsonRPCDispatcher(http._dispatchers["jsonrpc"]):
        def handle_error(self, exc):
            if record := access.current():
                record.rpc_error = True
            return super().handle_error(exc)

    _silence_server_access_log()


def _silence_server_access_log():
    """The server writes no line of its own for a request that has its record.

    It still does for what never reaches Odoo, such as a malformed request.
    """
    log_request = server.CommonRequestHandler.log_request

    def werkzeug_log_request(self, code="-", size="-"):
        if access.MARK not in getattr(self, "environ", ()):
            log_request(self, code, size)

    server.CommonRequestHandler.log_request = werkzeug_log_request

    if odoo.evented:
        from gevent.pywsgi import WSGIHandler

        gevent_log_request = WSGIHandler.log_request

        def log_request_once(self):
            # popped: the environment stays when the next request is malformed
            if not (self.environ or {}).pop(access.MARK, None):
                gevent_log_request(self)

        WSGIHandler.log_request = log_request_once
