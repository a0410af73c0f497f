"""The changes to Odoo's server classes, which offer no place for an override."""

import logging

from odoo.modules.module import load_openerp_module
from odoo.service import server

from . import startup
from .sessions import session_faults

_logger = logging.getLogger(__name__)


def post_load() -> None:
    """Check the environment before any database, and tell why a child refused.

    In ``--load`` this runs before the server is made. Without it this runs while the
    first database is loaded: then that database's checks do the same, later.
    """
    if not hasattr(server.CommonServer.__init__, "checks_environment"):
        _patch_common_server()
        _patch_prefork_server()
    startup.register_variable_faults(session_faults)
    try:
        # before its settings are imported: that would make Odoo skip its post_load
        load_openerp_module("session_redis")
    except SystemExit:
        # it tells its own faults only: go on, and tell them with all others
        if not startup.is_serving():
            raise


def _patch_common_server():
    original = server.CommonServer.__init__

    def __init__(self, app):
        # all server-wide modules are loaded, nothing listens yet
        startup.check_environment()
        original(self, app)

    __init__.checks_environment = True
    server.CommonServer.__init__ = __init__


def _patch_prefork_server():
    original = server.PreforkServer.run

    def run(self, preload, stop):
        status = original(self, preload, stop)
        message = startup.shared_message()
        if not message:
            return status
        # as Odoo's graceful stop does; this was a stop that leaves it behind
        if self.long_polling_pid:
            self.worker_kill(self.long_polling_pid, server.signal.SIGKILL)
        _logger.critical("%s\nThis server does not start.", message)
        return startup.EXIT_CONFIGURATION

    server.PreforkServer.run = run
