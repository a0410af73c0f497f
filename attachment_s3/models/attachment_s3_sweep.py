import logging
import time

import psycopg2

from odoo import SUPERUSER_ID, api, models
from odoo.tools import SQL

from .. import progress
from ..configuration import (
    SCHEME,
    STORAGE,
)
from ..exceptions import S3Error

_logger = logging.getLogger(__name__)

#: seconds for which a start waits for the object store to take what modules wrote
SWEEP_SECONDS = 60


class AttachmentS3Sweep(models.AbstractModel):
    """Moves what modules wrote before this addon was loaded to where it belongs."""

    _name = "attachment.s3.sweep"
    _inherit = ["attachment.s3.transfer"]
    _description = "Sweep of What Modules Wrote"

    @api.model
    def _sweep_after_load(self, loaded_late):
        """Move what the load of this registry wrote elsewhere, when it has committed.

        That is before the registry serves any request. Modules that are loaded before
        this addon, base above all, write to the local disk.

        :param loaded_late: they could not read contents in the bucket either
        """
        # what is written belongs to a transaction that is younger than the connection
        self.env.cr.execute(
            """SELECT backend_start AT TIME ZONE 'UTC' FROM pg_stat_activity
                WHERE pid = pg_backend_pid()"""
        )
        [(since,)] = self.env.cr.fetchall()
        registry = self.env.registry
        loaded_late = loaded_late and "base" in registry.updated_modules

        def sweep():
            try:
                with registry.cursor() as cr:
                    env = api.Environment(cr, SUPERUSER_ID, {})
                    if (
                        loaded_late
                        and env["ir.attachment"]._s3_configuration().location
                    ):
                        _logger.warning(
                            "Modules that were loaded before attachment_s3 have read "
                            "contents in the bucket as empty ones: add attachment_s3 "
                            "to server_wide_modules before an upgrade"
                        )
                    env[self._name]._sweep(since)
            except Exception:
                # no reason not to start: nothing is lost, and a move takes it later
                _logger.exception(
                    "Contents that were written by modules stay where they are, "
                    "perhaps on the disk of this machine; run: odoo s3migrate"
                )

        self.env.cr.postcommit.add(sweep)

    @api.model
    def _sweep(self, since):
        """Move what was written since then to where it belongs.

        What the object store does not take in time goes to the database, because the
        disk of this machine may be gone before another move.

        :param since: naive UTC
        """
        attachment = self.env["ir.attachment"]
        if not attachment._s3_configuration().location:
            return
        # nor does a start wait for somebody else's transaction
        self.env.cr.execute("SET lock_timeout TO '10s'")
        self.env.cr.commit()  # pylint: disable=invalid-commit
        recent = SQL("write_date >= %s", since)
        local = SQL("%s AND store_fname NOT LIKE %s", recent, f"{SCHEME}%")
        all_moved = True
        if attachment._storage() == STORAGE:
            all_moved = self._sweep_to(STORAGE, recent)
        self._sweep_to("db", local)
        attachment._gc_local_leftovers()
        cron = self.env.ref("attachment_s3.cron_migrate", raise_if_not_found=False)
        if not all_moved and cron and cron.active:
            migration = self.env["attachment.s3.migration"]
            if migration._current().status not in ("waiting", "running"):
                migration._start_in_background()

    @api.model
    def _sweep_to(self, target, more):
        """Move, to the object store for a limited time.

        :return: whether all was moved
        """
        began, after, result = time.monotonic(), 0, progress.Result()
        try:
            while ids := self._next_batch(target, after, more):
                if target == STORAGE and time.monotonic() - began > SWEEP_SECONDS:
                    _logger.warning(
                        "What modules wrote stays in the database: the object store "
                        "takes too long"
                    )
                    return False
                result.add(self._move_batch(target, ids))
                self.env.cr.commit()  # pylint: disable=invalid-commit
                after = ids[-1]
        except S3Error as error:
            self.env.cr.rollback()
            _logger.error("What modules wrote stays in the database: %s", error)
            return False
        except psycopg2.OperationalError as error:
            # another process moves the same, or holds a lock
            self.env.cr.rollback()
            _logger.warning("What modules wrote does not move yet: %s", error)
            return False
        finally:
            if result.moved or result.failed:
                _logger.info(
                    "Of what modules wrote, %s contents moved to %s, %s failed",
                    result.moved,
                    target,
                    result.failed,
                )
        return True
