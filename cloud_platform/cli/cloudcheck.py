import json
import logging
import optparse
import sys

from odoo.api import SUPERUSER_ID, Environment
from odoo.cli import Command
from odoo.modules.module import load_openerp_module
from odoo.modules.registry import Registry
from odoo.tools import config

EXIT_OK = 0
EXIT_FAULTS = 1
EXIT_USAGE = 2


class CloudCheck(Command):
    """Check the configuration of the cloud platform and the services it uses."""

    name = "cloudcheck"
    epilog = "Exit status: 0 all is well, 1 faults were found, 2 wrong usage."

    def run(self, arguments):
        parser = config.parser
        parser.prog = self.prog
        group = optparse.OptionGroup(parser, "Cloud check", self.__doc__)
        group.add_option(
            "--json", action="store_true", dest="as_json", help="Print JSON"
        )
        group.add_option(
            "--no-probe",
            action="store_true",
            dest="no_probe",
            help="Check the configuration only, ask no service",
        )
        parser.add_option_group(group)
        options = config.parse_config(arguments, setup_logging=True)
        if not options.log_handler and not options.log_level:
            # the report is the output: no chatter of the registry around it
            logging.getLogger().setLevel(logging.CRITICAL)
        if len(config["db_name"]) != 1:
            parser.error("give one database with -d")  # exits with 2
        report = check(config["db_name"][0], not options.no_probe)
        print(to_json(report) if options.as_json else to_text(report))
        sys.exit(EXIT_OK if report["ok"] else EXIT_FAULTS)


def check(database: str, probe: bool) -> dict:
    """Return the report of a database, or of the variables when it cannot be loaded."""
    load_openerp_module("cloud_platform")
    from odoo.addons.cloud_platform.faults import Fault
    from odoo.addons.cloud_platform.probes import Result
    from odoo.addons.cloud_platform.startup import environment_faults

    report = {"database": database, "ok": False, "checks": {}, "probes": {}}
    try:
        registry = Registry(database)
    except Exception as error:  # of PostgreSQL or of any addon
        fault = Fault(database, f"cannot be loaded: {error}".strip(), "See its log")
        report["checks"]["variables"] = Result(faults=environment_faults())
        report["checks"]["database"] = Result(faults=[fault])
        return report
    with registry.cursor() as cr:
        env = Environment(cr, SUPERUSER_ID, {})
        if "cloud.platform" not in env:
            remedy = "Install cloud_platform_exoscale or another platform on it"
            fault = Fault(database, "has no cloud_platform installed", remedy)
            report["checks"]["database"] = Result(faults=[fault])
            return report
        return {**report, **env["cloud.platform"]._report(probe)}


def to_json(report: dict) -> str:
    return json.dumps(report, default=lambda result: result.as_dict(), indent=2)


def to_text(report: dict) -> str:
    """Return a line for each check and probe, and one for each fault."""
    lines = [
        f"{title}: {report[title] or '-'}"
        for title in ("database", "environment", "kind", "location")
        if title in report
    ]
    for title, result in {**report["checks"], **report["probes"]}.items():
        detail = f" ({result.detail})" if result.detail else ""
        lines.append(f"[{result.status:^5}] {title}{detail}")
        lines += [f"        {fault}" for fault in result.faults]
        lines += [f"        advice: {advice}" for advice in result.advice]
    number = sum(
        len(result.faults)
        for result in (*report["checks"].values(), *report["probes"].values())
    )
    faults = "1 fault" if number == 1 else f"{number} faults"
    lines.append("all is well" if report["ok"] else faults)
    return "\n".join(lines)
