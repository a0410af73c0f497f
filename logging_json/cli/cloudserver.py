"""``odoo cloudserver``: the server, with JSON logs from the first line on.

A module of ``--load`` is imported after the first lines are written. Odoo imports this
file as ``odoo.cli.cloudserver``.
"""

import contextlib
import io
import logging
import sys

import odoo.cli
from odoo import netsvc
from odoo.addons.logging_json.patches import before_logging, post_load
from odoo.cli import Command
from odoo.cli import server as server_command

_logger = logging.getLogger(__name__)


class Cloudserver(Command):
    """Start the odoo server with JSON logs from the first line on"""

    def run(self, args):
        # Odoo and addons ask for this name to know that a server runs.
        odoo.cli.COMMAND = "server"
        server_command.config.parser.prog = self.prog
        init_logger = netsvc.init_logger

        def init_json_logger():
            init_logger()
            # Odoo does not call it when the package is already imported.
            post_load()

        netsvc.init_logger = init_json_logger
        if before_logging():
            _log_what_is_printed()
        server_command.main(args)


def _log_what_is_printed():
    """What the command prints to the standard error becomes a record."""

    def tell_wrong_option(message):
        # ends the process as optparse does, which prints the usage as well
        _logger.critical("Wrong command line: %s", message)
        sys.exit(2)

    def logged(level, check):
        def check_and_tell():
            printed = io.StringIO()
            try:
                with contextlib.redirect_stderr(printed):
                    check()
            finally:
                if text := printed.getvalue().strip():
                    _logger.log(level, "%s", text)

        return check_and_tell

    command = server_command
    command.config.parser.error = tell_wrong_option
    command.check_root_user = logged(logging.WARNING, command.check_root_user)
    # it ends the process
    command.check_postgres_user = logged(logging.CRITICAL, command.check_postgres_user)
