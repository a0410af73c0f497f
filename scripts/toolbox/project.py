"""Where things are in this checkout, and how the scripts speak."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
#: the virtual environment of the scripts and the tests
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
ODOO = VENV / "bin" / "odoo"
#: Debian packages unpacked for this checkout alone
DEBIAN = ROOT / ".debian"
#: data of the running services, configuration files, logs
RUN = ROOT / ".run"

#: server-wide modules that an instance needs in ``--load``
SERVER_WIDE_MODULES = (
    "base",
    "web",
    "attachment_s3",
    "session_redis",
    "logging_json",
    "monitoring_statsd",
    "monitoring_status",
)


def addons() -> list[str]:
    """Return the names of the addons of this repository, sorted."""
    return sorted(path.parent.name for path in ROOT.glob("*/__manifest__.py"))


class ProjectError(Exception):
    """A script cannot go on; the text says what is missing and what to do."""


def say(text: str) -> None:
    print(text, flush=True)


def main(run) -> None:
    """Run a script's main function and turn errors into a message and exit 1.

    :param run: function without parameters that returns the exit status
    """
    try:
        sys.exit(run())
    except ProjectError as error:
        sys.exit(f"{Path(sys.argv[0]).name}: {error}")
    except KeyboardInterrupt:
        sys.exit(130)


def use_venv() -> None:
    """Run the calling script with the interpreter of the virtual environment.

    Sets the checkout up first when that is not done yet (see ``scripts/setup``).
    """
    from . import setup

    setup.run()
    if Path(sys.prefix).resolve() != VENV.resolve():
        os.execv(PYTHON, [str(PYTHON), *sys.argv])
