import argparse
import os
import sys

from odoo.api import SUPERUSER_ID, Environment
from odoo.cli import Command
from odoo.modules.module import load_openerp_module
from odoo.modules.registry import Registry
from odoo.tools import config


class RedisSessions(Command):
    """Count, list, revoke, export and import the HTTP sessions in Redis."""

    name = "redissessions"
    epilog = """
    count, export and import look through all keys of Redis, without blocking it, and
    need a Redis user that may SCAN. No output is a usable session id, yet an export
    holds the values of all sessions: keep it as you keep a database dump.
    """

    def run(self, arguments):
        parser = self.parser
        parser.add_argument("-c", "--config", help="configuration file of Odoo")
        parser.add_argument("-d", "--database", help="for list and revoke")
        actions = parser.add_subparsers(dest="action", required=True)
        actions.add_parser("count", help="sessions by kind")
        actions.add_parser("list", help="logged-in sessions by user")
        revoke = actions.add_parser("revoke", help="end the sessions of a user")
        revoke.add_argument("login")
        export = actions.add_parser("export", help="write all sessions to a file")
        export.add_argument("file", type=argparse.FileType("x"))
        restore = actions.add_parser(
            "import", help="add the sessions of a file, which this Redis has not"
        )
        restore.add_argument("file", type=argparse.FileType("r"))
        options = parser.parse_args(arguments)
        if options.action in ("list", "revoke") and not options.database:
            parser.error(f"{options.action} needs a database: -d")
        own = ["--no-http"]
        own += ["-c", options.config] if options.config else []
        own += ["-d", options.database] if options.database else []
        config.parse_config(own, setup_logging=True)
        load_openerp_module("session_redis")
        sys.exit(self._act(options))

    def _act(self, options):
        from odoo.addons.session_redis import admin
        from odoo.addons.session_redis.exceptions import (
            SessionRedisConfigurationError,
            SessionStoreUnavailable,
        )

        try:
            store = admin.open_store()
            if options.action == "count":
                for kind, number in admin.count(store).items():
                    print(f"{number:>9} {kind}")
            elif options.action == "export":
                os.fchmod(options.file.fileno(), 0o600)
                print(f"{admin.export_sessions(store, options.file)} sessions written")
            elif options.action == "import":
                added, skipped = admin.import_sessions(store, options.file)
                print(f"{added} sessions added, {skipped} were there or have expired")
            else:
                with Registry(options.database).cursor() as cr:
                    env = Environment(cr, SUPERUSER_ID, {})
                    self._act_on_database(admin, store, env, options)
        except (
            admin.AdminError,
            SessionRedisConfigurationError,
            SessionStoreUnavailable,
        ) as error:
            print(f"{self.name}: {error}", file=sys.stderr)
            return 1
        return 0

    def _act_on_database(self, admin, store, env, options):
        if options.action == "revoke":
            print(f"{admin.revoke(store, env, options.login)} sessions ended")
            return
        for login, sessions in admin.sessions_by_user(store, env).items():
            print(f"{login}: {len(sessions)}")
            for session in sessions:
                print(
                    f"  {session['identifier'][:8]}…  last activity "
                    f"{session['last_activity']:%Y-%m-%d %H:%M}"
                )
