import json
import optparse
import sys
from contextlib import closing

import psycopg2

from odoo.api import SUPERUSER_ID, Environment
from odoo.cli import Command
from odoo.exceptions import UserError
from odoo.modules.module import load_openerp_module
from odoo.modules.registry import Registry
from odoo.tools import config

EXIT_OK = 0
EXIT_FAILED = 1
EXIT_USAGE = 2

MEGABYTE = 1e6
TARGETS = ("s3", "db", "file")
PLACES = {"s3": "bucket", "db": "database", "file": "files"}


class S3Migrate(Command):
    """Move all attachments to where the configuration says."""

    name = "s3migrate"
    epilog = (
        "It can be stopped at any time and run again. Its log lines, on standard "
        "error, tell the progress. Exit status: 0 all moved, 1 some are left or the "
        "store cannot be used, 2 wrong usage."
    )

    def run(self, arguments):
        parser = config.parser
        parser.prog = self.prog
        parser.epilog = self.epilog
        group = optparse.OptionGroup(parser, "Move of attachments", self.__doc__)
        group.add_option(
            "--to",
            choices=TARGETS,
            help="s3, db or file: refused unless new attachments go there too, which "
            "the system parameter ir_attachment.location decides",
        )
        group.add_option(
            "--dry-run",
            action="store_true",
            dest="dry_run",
            help="Only tell what would move, from where, and which local files this "
            "machine has not",
        )
        group.add_option(
            "--json", action="store_true", dest="as_json", help="Print JSON"
        )
        parser.add_option_group(group)
        options = config.parse_config(arguments, setup_logging=True)
        if len(config["db_name"]) != 1:
            parser.error("give one database with -d")  # exits with 2
        sys.exit(self._act(parser, config["db_name"][0], options))

    def _act(self, parser, database, options):
        load_openerp_module("attachment_s3")
        from odoo.addons.attachment_s3.exceptions import S3Error

        def fail(error):
            print(f"{self.name}: {error}", file=sys.stderr)
            return EXIT_FAILED

        try:
            registry = Registry(database)
            with closing(registry.cursor()) as cr:
                env = Environment(cr, SUPERUSER_ID, {})
                if "attachment.s3.migration" not in env:
                    return fail(f"attachment_s3 is not installed in {database}")
                migration = env["attachment.s3.migration"]
                if options.dry_run:
                    target = options.to or migration._target()
                    report = plan(migration, target)
                    print(to_json(report) if options.as_json else plan_text(report))
                    return EXIT_OK
                try:
                    target = migration._target(options.to)
                except UserError as error:
                    if options.to:
                        parser.error(str(error))
                    raise
                report = move(migration, target)
                print(to_json(report) if options.as_json else report_text(report))
                done = report["state"] == "done" and not report["failed"]
                return EXIT_OK if done else EXIT_FAILED
        except (S3Error, UserError, psycopg2.Error, OSError) as error:
            return fail(error)


def plan(migration, target: str) -> dict:
    """Return what a move would do."""
    return {
        "database": migration.env.cr.dbname,
        "target": target,
        "dry_run": True,
        "places": migration._plan(target, look=True),
    }


def move(migration, target: str) -> dict:
    """Move, and return what became of it."""
    report = migration._migrate(target)
    run = migration.browse(report.pop("run"))
    return {
        "database": migration.env.cr.dbname,
        "target": target,
        "state": run.state or "done",
        **report,
        "seconds": round(run.seconds, 3),
        "failures": (run.failures or "").splitlines(),
    }


def to_json(report: dict) -> str:
    return json.dumps(report, indent=2)


def plan_text(report: dict) -> str:
    """Return a line for each place that contents would leave."""
    lines = [f"database {report['database']}: would move to {report['target']}"]
    for place, figures in sorted(report["places"].items()):
        missing = figures["missing"]
        lines.append(
            f"  from {PLACES[place] + ':':<10}{figures['number']:>9} "
            f"{figures['bytes'] / MEGABYTE:>11.1f} MB"
            + (f", {missing} missing on this machine" if missing else "")
        )
    if not report["places"]:
        lines.append("  nothing: all are there")
    elif report["target"] == "s3":
        lines.append("  (small files of the kinds that stay in the database go there)")
    return "\n".join(lines)


def report_text(report: dict) -> str:
    """Return one line, and one for each source that was left."""
    lines = [
        f"database {report['database']}: {report['state']}, {report['moved']} moved to "
        f"{report['target']} ({report['bytes'] / MEGABYTE:.1f} MB), "
        f"{report['failed']} left"
    ]
    return "\n".join([*lines, *(f"  {failure}" for failure in report["failures"])])
