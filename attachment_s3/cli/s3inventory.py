import argparse
import json
import logging
import sys

from odoo.api import SUPERUSER_ID, Environment
from odoo.cli import Command
from odoo.exceptions import UserError
from odoo.modules.module import load_openerp_module
from odoo.modules.registry import Registry
from odoo.tools import config

EXIT_OK = 0
EXIT_DIFFERENCES = 1
EXIT_FAILED = 2

#: counters of the summary, and their words
COUNTERS = {
    "objects": "objects in the folders that were looked at",
    "referenced": "objects that attachments refer to",
    "foreign": "of them in folders that this database may not delete from",
    "missing": "references without their object",
    "wrong_size": "objects of another size than recorded",
    "orphans": "objects that nothing refers to",
    "unknown": "objects in the own folder that the addon did not store",
    "recent": "objects too recent to be told from those of a running transaction",
    "noted": "unused objects that wait for the collector",
    "deleted": "objects deleted",
}


class S3Inventory(Command):
    """Compare the objects of the bucket with the attachments of a database."""

    name = "s3inventory"
    epilog = """
    Exit status: 0 nothing is wrong, 1 objects are missing, of wrong size, or orphans
    are left, 2 wrong usage or the store cannot be used.
    """

    def run(self, arguments):
        parser = self.parser
        parser.formatter_class = argparse.HelpFormatter
        parser.add_argument("-c", "--config", help="configuration file of Odoo")
        parser.add_argument("-d", "--database", required=True)
        parser.add_argument(
            "--json",
            action="store_true",
            dest="as_json",
            help="a JSON object on a line for each finding, the last for the counters",
        )
        parser.add_argument(
            "--fix",
            action="store_true",
            help="delete the orphans that are older than the retention "
            "(AWS_ATTACHMENT_RETENTION_DAYS), and nothing else",
        )
        options = parser.parse_args(arguments)
        own = ["--no-http", "-d", options.database]
        own += ["-c", options.config] if options.config else []
        config.parse_config(own, setup_logging=True)
        # the report is the output: no chatter of the registry around it
        logging.getLogger().setLevel(logging.CRITICAL)
        sys.exit(self._take(options))

    def _take(self, options):
        load_openerp_module("attachment_s3")
        from odoo.addons.attachment_s3.exceptions import S3Error

        try:
            registry = Registry(options.database)
        except Exception as error:  # of PostgreSQL or of any addon
            return self._fail(f"{options.database} cannot be loaded: {error}".strip())
        with registry.cursor() as cr:
            env = Environment(cr, SUPERUSER_ID, {})
            if "attachment.s3.inventory" not in env:
                return self._fail(f"attachment_s3 is not installed on {cr.dbname}")
            report = print_json if options.as_json else print_line
            try:
                inventory = env["attachment.s3.inventory"]._take(
                    options.fix, report, self._progress
                )
            except (S3Error, UserError) as error:
                return self._fail(str(error))
            counters = {name: inventory[name] for name in COUNTERS}
            if options.as_json:
                sizes = {"object_bytes", "orphan_bytes"}
                counters |= {name: int(inventory[name]) for name in sizes}
                print(json.dumps(counters))
            else:
                print_summary(counters, inventory)
        orphans_left = counters["orphans"] and not options.fix
        faulty = counters["missing"] or counters["wrong_size"] or orphans_left
        return EXIT_DIFFERENCES if faulty else EXIT_OK

    def _progress(self, inventory):
        print(f"{inventory.objects} objects…", file=sys.stderr)

    def _fail(self, reason):
        print(f"{self.name}: {reason}", file=sys.stderr)
        return EXIT_FAILED


def is_told(finding) -> bool:
    """Tell whether a finding has a line of its own; the others are only counted."""
    return finding.kind not in ("recent", "noted")


def print_line(finding):
    if is_told(finding):
        size = "-" if finding.bytes is None else finding.bytes
        print(f"{finding.kind:<10} {size:>12} {finding.uri}")


def print_json(finding):
    if is_told(finding):
        values = finding._asdict()
        if finding.modified:
            values["modified"] = f"{finding.modified.isoformat()}Z"
        print(json.dumps(values))


def print_summary(counters, inventory):
    for name, words in COUNTERS.items():
        size = {"objects": "object_bytes", "orphans": "orphan_bytes"}.get(name)
        size = f" ({inventory[size] / 1024**2:.1f} MB)" if size else ""
        print(f"{counters[name]:>10} {words}{size}")
