"""``odoo cloudserver``: the server, with JSON logs from the first line on.

A module of ``--load`` is imported after the first lines are written. Odoo imports this
file as ``odoo.cli.cloudserver``.
"""

import odoo.cli
from odoo import netsvc
from odoo.addons.logging_json.patches import post_load
from odoo.cli import Command
from odoo.cli import server as server_command


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
        server_command.main(args)
