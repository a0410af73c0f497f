"""Stop a server whose configuration is wrong.

Odoo goes on serving when the load of a database fails, so the process is ended here.
"""

import contextlib
import hashlib
import logging
import mmap
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import psutil

import odoo
import odoo.cli
from odoo.cli.server import rm_pid_file
from odoo.service import server

from .environment import environment_folder_faults
from .faults import ConfigurationError, Fault, settings_faults
from .settings import CloudPlatformSettings

_logger = logging.getLogger(__name__)

#: exit status of a server with a wrong configuration: EX_CONFIG of sysexits.h
EXIT_CONFIGURATION = 78
#: with this one the master of a prefork server stops everything instead of starting
#: another child (odoo.service.server.PreforkServer.process_zombie)
EXIT_CHILD = 3
#: commands that serve; odoo shell, odoo cloudcheck and anthem (None) must go on, or
#: the configuration could not be repaired with them
SERVING_COMMANDS = ("server", "start")

#: both are shared by the master of a prefork server and its children, when this addon
#: is loaded server-wide: what a child has to tell
MESSAGE_BYTES = 1 << 16
MESSAGE_NAME = "cloud_platform_message"
_message = (
    os.fdopen(os.memfd_create(MESSAGE_NAME), "r+b", buffering=0)
    if hasattr(os, "memfd_create")
    else tempfile.TemporaryFile(buffering=0)  # noqa: SIM115 - as long as the process
)
#: the process that loaded this addon
_loaded_by = os.getpid()
#: seconds that a master has to end its evented process
EVENTED_SECONDS = 10
#: digests of the names of databases that were served with a good configuration
PASSED_SLOTS = 1024
_passed = mmap.mmap(-1, PASSED_SLOTS * 32)

#: functions that return the faults of variables, called before any database is loaded
_variable_faults: list[Callable[[], list[Fault]]] = []


def register_variable_faults(variable_faults: Callable[[], list[Fault]]) -> None:
    """Have variables checked before any database is loaded.

    :param variable_faults: returns what is wrong with them
    """
    if variable_faults not in _variable_faults:
        _variable_faults.append(variable_faults)


def shared_message() -> str:
    """Return what a child left for the master, or an empty string."""
    _message.seek(0)
    return _message.read(MESSAGE_BYTES).decode(errors="replace")


def environment_faults() -> list[Fault]:
    """Return the faults that can be told without a database."""
    faults = settings_faults(CloudPlatformSettings)
    if not faults:
        faults += environment_folder_faults(CloudPlatformSettings())
    for variable_faults in _variable_faults:
        try:
            faults += variable_faults()
        except Exception:
            if not faults:
                raise
            # of an addon that imports server_environment, which raises without the
            # folder: that fault is told
            _logger.debug("No faults of %s", variable_faults, exc_info=True)
    return faults


def is_serving() -> bool:
    """Tell whether this process is a server, which must stop when it is wrong."""
    return odoo.cli.COMMAND in SERVING_COMMANDS


def check_environment() -> None:
    """Stop the server, before it loads a database, when a variable is wrong."""
    if not is_serving() or not (faults := environment_faults()):
        return
    error = ConfigurationError(faults)
    if is_unsafe():
        _logger.warning("ODOO_CLOUD_PLATFORM_UNSAFE is set, although: %s", error)
        return
    refuse(str(error))


def is_unsafe() -> bool:
    """Tell whether the checks are to be skipped."""
    # an invalid flag is a fault of its own, and skips nothing
    return not settings_faults(CloudPlatformSettings) and CloudPlatformSettings().unsafe


def passed(dbname: str) -> None:
    """Remember that this server has served a database with a good configuration."""
    place, digest = _passed_place(dbname)
    _passed[place] = digest


def has_passed(dbname: str) -> bool:
    """Tell whether this server has served a database with a good configuration."""
    place, digest = _passed_place(dbname)
    return _passed[place] == digest


def _passed_place(dbname):
    # of two names that share a place, the first one is forgotten: on the safe side
    digest = hashlib.sha256(dbname.encode()).digest()
    start = int.from_bytes(digest[:4], "big") % PASSED_SLOTS * 32
    return slice(start, start + 32), digest


def refuse_database(dbname: str, error: ConfigurationError, ready: bool) -> None:
    """Stop the server because of the configuration of a database.

    A later load of the registry (a custom field was added, an addon installed, a
    worker replaced) does not stop a server that works for its users: the faults are
    logged.

    :param ready: the registry serves already
    """
    if not is_serving() or ready or has_passed(dbname):
        _logger.error("Database %s: %s", dbname, error)
        return
    refuse(f"Database {dbname}: {error}")


def refuse(message: str) -> None:
    """End this process with a message as the last log record.

    It ends at once: an exception would be turned into a page by a request's thread,
    and would give waiting threads the time to serve a half-loaded registry.
    """
    _logger.critical("%s\nThis server does not start.", message)
    status = EXIT_CONFIGURATION
    if _is_child():
        status = EXIT_CHILD
        _leave_message(message.encode()[:MESSAGE_BYTES])
        if not odoo.evented and _loaded_by == os.getpid():
            _end_evented_sibling()
    else:
        rm_pid_file(os.getpid())
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)


def _leave_message(data):
    if not odoo.evented:
        _message.write(data)
        return
    # it is no fork of the master, which has the file open all the same
    folder = Path(f"/proc/{os.getppid()}/fd")
    with contextlib.suppress(OSError):  # no Linux, or not allowed: the log has it
        for path in folder.iterdir():
            if MESSAGE_NAME in os.readlink(path):
                path.write_bytes(data)


def _end_evented_sibling():
    """Have the master end its evented process, which has no share in this refusal.

    A master that does not know this addon leaves it behind when a worker ends with
    ``EXIT_CHILD``; it ends it when it is asked to stop. Not stopping it would end
    with status 0, so this worker ends with ``EXIT_CHILD`` meanwhile.
    """
    master = psutil.Process(os.getppid())
    evented = [child for child in master.children() if "gevent" in child.cmdline()]
    master.terminate()
    psutil.wait_procs(evented, EVENTED_SECONDS)


def _is_child():
    running = server.server
    return odoo.evented or (
        isinstance(running, server.PreforkServer) and running.pid != os.getpid()
    )
