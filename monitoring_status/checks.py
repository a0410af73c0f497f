"""Check the parts of the server, each in its own thread and its own time."""

import contextlib
import logging
import threading
import time
from dataclasses import dataclass, field

from odoo import sql_db
from odoo.modules.registry import Registry
from odoo.service.db import list_dbs
from odoo.tools import config

_logger = logging.getLogger(__name__)

MODEL = "monitoring.status"


@dataclass
class Check:
    """The check of one part, while it runs and after."""

    name: str
    function: object
    started: float = field(default_factory=time.monotonic)
    seconds: float | None = None
    error: Exception | None = None
    done: threading.Event = field(default_factory=threading.Event)

    def run(self):
        try:
            self.function()
        except Exception as error:  # a fault of any kind is what is looked for
            self.error = error
        finally:
            self.seconds = time.monotonic() - self.started
            self.done.set()


@dataclass(frozen=True)
class PartResult:
    """What a check found.

    :ivar bool ok: the part works
    :ivar float seconds: how long the check took, or has been running
    :ivar str | None error: kind and text of the fault, for those with the token
    """

    ok: bool
    seconds: float
    error: str | None = None


class Checker:
    """Checks all parts, at most one check of a part at a time."""

    def __init__(self):
        self._lock = threading.Lock()
        self._running = {}
        self._results = {}
        self._checked_at = None

    def results(self, settings):
        """Return the result of each part, at most ``cache_seconds`` old.

        It takes at most twice ``timeout_seconds``: the registry comes first, because
        it knows the other parts.

        :param settings: MonitoringStatusSettings
        :rtype: dict[str, PartResult]
        """
        # Probes that come together wait for one check and share its result.
        with self._lock:
            if (
                self._checked_at is None
                or time.monotonic() - self._checked_at >= settings.cache_seconds
            ):
                self._results = self._check(settings.timeout_seconds)
                self._checked_at = time.monotonic()
            return self._results

    def _check(self, timeout_seconds):
        former = self._results
        results = self._check_parts(
            {"postgresql": check_postgresql, "registry": check_registries},
            timeout_seconds,
        )
        if results["registry"].ok:
            results |= self._check_parts(other_parts(), timeout_seconds)
        for name, result in results.items():
            if not result.ok and (name not in former or former[name].ok):
                _logger.warning("Not ready: %s: %s", name, result.error)
            elif result.ok and name in former and not former[name].ok:
                _logger.info("Ready again: %s", name)
        return results

    def _check_parts(self, functions, timeout_seconds):
        checks = {}
        for name, function in functions.items():
            check = self._running.get(name)
            # One that hangs is not started again: threads would heap up.
            if check is None or check.done.is_set():
                check = self._running[name] = Check(name, function)
                threading.Thread(
                    target=check.run, name=f"monitoring_status.{name}", daemon=True
                ).start()
            checks[name] = check
        deadline = time.monotonic() + timeout_seconds
        results = {}
        for name, check in checks.items():
            check.done.wait(max(0, deadline - time.monotonic()))
            if not check.done.is_set():
                seconds = time.monotonic() - check.started
                results[name] = PartResult(False, seconds, "no answer in time")
            elif check.error:
                text = f"{type(check.error).__name__}: {check.error}".strip()
                results[name] = PartResult(False, check.seconds, text)
            else:
                results[name] = PartResult(True, check.seconds)
        return results


def database_names():
    """Return the databases that this server is there for: those of ``-d``, or the only
    one that there is. Several without ``-d`` are nobody's in particular.

    :raises psycopg2.OperationalError: PostgreSQL does not answer
    """
    names = config["db_name"] or list_dbs(force=True)
    return list(names) if config["db_name"] or len(names) == 1 else []


def check_postgresql():
    """Ask each database, or the maintenance one, for an answer."""
    for name in database_names() or ["postgres"]:
        with contextlib.closing(sql_db.db_connect(name).cursor()) as cr:
            cr.execute("SELECT 1")


def check_registries():
    """Load each database's registry unless it is; a failed check of it raises."""
    for name in database_names():
        Registry(name)


def other_parts():
    """Return the checks that addons add, by name (see the model's ``_parts``)."""
    parts = {}
    for registry in list(Registry.registries.values()):
        ours = not config["db_name"] or registry.db_name in config["db_name"]
        # --load brings the addon to databases where it is not installed
        if ours and MODEL in registry:
            parts |= registry[MODEL]._parts()
    return parts
