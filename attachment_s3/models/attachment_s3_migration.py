import logging
import time
from contextlib import suppress
from datetime import timedelta
from functools import partial

import psycopg2

from odoo import api, fields, models
from odoo.exceptions import AccessError, UserError
from odoo.service.model import retrying

from .. import observers, progress
from ..configuration import (
    LOCATION,
    READONLY,
    SCHEME,
    STORAGE,
)
from ..store import MIB

_logger = logging.getLogger(__name__)

#: seconds between two lines of progress in the log
LOG_SECONDS = 10


class AttachmentS3Migration(models.Model):
    """A move of contents between the bucket, the database and local files.

    One at a time: whoever moves holds a lock, and writes the row on the connection of
    that lock (see ``progress``). A row that says ``running`` while nobody holds it is
    the one of a process that died.
    """

    _name = "attachment.s3.migration"
    _inherit = ["attachment.s3.transfer"]
    _description = "Move of Attachments"
    _order = "id desc"
    _log_access = False

    target = fields.Char(required=True, readonly=True, help="s3, db or file")
    background = fields.Boolean(readonly=True, help="Moved by the scheduled action")
    state = fields.Selection(
        [
            ("waiting", "Waiting for the scheduled action"),
            ("running", "Running"),
            ("done", "Done"),
            ("failed", "Failed"),
            ("cancelled", "Cancelled"),
            ("interrupted", "Interrupted"),
        ],
        required=True,
        readonly=True,
        default="waiting",
        help="As it was last recorded. Who dies records nothing: see the status.",
    )
    status = fields.Selection(
        selection=lambda self: self._fields["state"].selection,
        compute="_compute_status",
        help="The state at this moment",
    )
    total = fields.Integer("Contents to Move", readonly=True)
    total_bytes = fields.Float("Bytes to Move", digits=(0, 0), readonly=True)
    moved = fields.Integer(readonly=True)
    moved_bytes = fields.Float(digits=(0, 0), readonly=True)
    failed = fields.Integer(readonly=True, help="Missing or damaged sources, left")
    failures = fields.Text(readonly=True, help="The first contents that were left")
    error = fields.Text(readonly=True, help="Why it failed")
    cancel_requested = fields.Boolean(readonly=True)
    seconds = fields.Float(readonly=True, help="For which contents were moved")
    position = fields.Integer(readonly=True, help="Last attachment that was looked at")
    started_at = fields.Datetime(
        required=True, readonly=True, default=lambda self: fields.Datetime.now()
    )
    updated_at = fields.Datetime(readonly=True)
    ended_at = fields.Datetime(readonly=True)
    percent = fields.Float(compute="_compute_progress")
    megabytes_per_second = fields.Float("MB/s", compute="_compute_progress")
    seconds_left = fields.Float(compute="_compute_progress", help="Estimated")

    @api.depends("state")
    def _compute_status(self):
        alive = progress.is_locked(self.env.cr)
        for run in self:
            dead = run.state == "running" and not alive
            run.status = "interrupted" if dead else run.state

    @api.depends("total", "total_bytes", "moved", "moved_bytes", "failed", "seconds")
    def _compute_progress(self):
        for run in self:
            now = run._progress()
            done = run.moved + run.failed
            run.percent = min(100 * done / run.total, 100) if run.total else 0
            run.megabytes_per_second = now.bytes_per_second / MIB
            run.seconds_left = now.seconds_left

    def _progress(self):
        return progress.Progress(**{name: self[name] for name in progress.COLUMNS})

    # for pages and commands

    @api.model
    def _current(self):
        """Return the move that runs or waits, else the last one, if any."""
        self._check_administrator()
        active = [("state", "in", ("waiting", "running"))]
        return self.search(active, limit=1) or self.search([], limit=1)

    @api.model
    def _start_in_background(self):
        """Have the scheduled action move all contents to where they belong.

        It moves for some seconds, and goes on in its next turn until all is done, also
        after a restart of the server.

        :return: the new move
        :raises AccessError: for others than administrators
        :raises UserError: when nothing can be moved, or a move goes on already
        """
        self._check_administrator()
        target = self._target()
        current = self._current()
        if current.status in ("waiting", "running"):
            raise UserError(self._already_text())
        cron = self.env.ref("attachment_s3.cron_migrate").sudo()
        if not cron.active:
            raise UserError(
                self.env._("The scheduled action %s is not active.", cron.name)
            )
        run = self.sudo().create({"target": target, "background": True})
        cron._trigger()
        return run.sudo(False)

    def action_cancel(self):
        """Stop after the batch that moves now; what was moved stays moved.

        :raises AccessError: for others than administrators
        """
        self._check_administrator()
        for run in self.sudo():
            values = {"cancel_requested": True}
            if run.status in ("waiting", "interrupted"):
                values.update(state="cancelled", ended_at=fields.Datetime.now())
            if run.status in ("waiting", "interrupted", "running"):
                run.write(values)
        return True

    @api.model
    def _check_administrator(self):
        if not self.env.is_system():
            raise AccessError(self.env._("Only administrators may move attachments."))

    @api.model
    def _target(self, target: str | None = None) -> str:
        """Return where all contents belong.

        :param target: what somebody asks for: ``s3``, ``db`` or ``file``
        :raises UserError: when nothing can be moved, or new contents go elsewhere
        :raises S3ConfigurationError: for an invalid variable or system parameter
        """
        attachment = self.env["ir.attachment"]
        config = attachment._s3_configuration()
        storage = attachment._storage()
        if config.settings.disabled or (
            config.location and not config.writable and target != storage
        ):
            raise UserError(
                self.env._(
                    "Attachments are not moved: the bucket is read-only or not used "
                    "(AWS_ATTACHMENT_READONLY, %s, DISABLE_ATTACHMENT_STORAGE).",
                    READONLY,
                )
            )
        if storage not in (STORAGE, "db", "file"):
            raise UserError(
                self.env._(
                    "The system parameter %s has an unknown value: expected s3://, db "
                    "or file.",
                    LOCATION,
                )
            )
        if target and target != storage:
            raise UserError(
                self.env._(
                    "Attachments do not move to %(target)s while new ones go to "
                    "%(storage)s: set the system parameter %(location)s to %(value)s "
                    "first.",
                    target=target,
                    storage=storage,
                    location=LOCATION,
                    value=SCHEME if target == STORAGE else target,
                )
            )
        return storage

    @api.model
    def _already_text(self):
        run = self.search([("state", "in", ("waiting", "running"))], limit=1)
        return self.env._(
            "Attachments are being moved already (move %(id)s to %(target)s, started "
            "at %(time)s UTC). Wait for its end, or cancel it.",
            id=run.id or "?",
            target=run.target or "?",
            time=run.started_at or "?",
        )

    # a run

    @api.model
    def _migrate(self, target: str) -> dict:
        """Move all contents to where they belong, in batches that it commits.

        By SQL, since Odoo refuses to write the contents of locked accounting entries.
        A source is dropped when its content has arrived and was verified.

        :param target: ``s3``, ``db`` or ``file``; with ``s3`` the small files that
            belong in the database move there
        :return: ``moved``, ``bytes``, ``failed`` and, as ``run``, the id of its record,
            which is ``False`` when there was nothing to move
        :raises S3Error: when the store cannot be used; what was moved stays moved
        :raises UserError: when another process moves attachments
        """
        self.env["ir.attachment"].flush_model()
        with progress.exclusive(self.env.cr.dbname) as cr:
            if cr is None:
                raise UserError(self._already_text())
            self._settle_dead(cr)
            total, total_bytes = self._count(target)
            now = progress.Progress(False, target, total, total_bytes)
            if total:
                now.id = progress.create(cr, target)
                # a batch that is tried again must not undo what was done before
                self._commit()
                self._run(cr, now)
        self.invalidate_model()
        return {
            "moved": now.moved,
            "bytes": int(now.moved_bytes),
            "failed": now.failed,
            "run": now.id,
        }

    @api.model
    def _run_in_background(self):
        """Go on with the moves that were started in the background, for some seconds.

        Called by the scheduled action.
        """
        domain = [("background", "=", True), ("state", "in", ("waiting", "running"))]
        run = self.search(domain, order="id", limit=1)
        if not run:
            return
        with progress.exclusive(self.env.cr.dbname) as cr:
            if cr is None:
                cron = self.env.ref("attachment_s3.cron_migrate")
                cron._trigger(fields.Datetime.now() + timedelta(minutes=1))
                return
            now = progress.read(cr, run.id)
            if run.state == "running":
                _logger.warning("Move %s was interrupted and goes on", run.id)
            self._settle_dead(cr)
            try:
                self._target(now.target)
                if not now.total:
                    now.total, now.total_bytes = self._count(now.target)
            except Exception as error:
                self._end(cr, now, "failed", error)
                raise
            self._run(cr, now)

    @api.model
    def _settle_dead(self, cr):
        """Record that those who said that they were running have died."""
        cr.execute(
            """UPDATE attachment_s3_migration
                  SET state = CASE WHEN background THEN 'waiting'
                                   ELSE 'interrupted' END,
                      ended_at = CASE WHEN background THEN NULL ELSE updated_at END
                WHERE state = 'running'"""
        )
        cr.commit()  # pylint: disable=invalid-commit

    @api.model
    def _run(self, cr, now):
        """Move until the end, a cancellation, an error or the end of a turn.

        :param cr: cursor of the connection that holds the lock
        """
        try:
            state = self._move(cr, now)
        except Exception as error:
            self._end(cr, now, "failed", error)
            raise
        except BaseException:  # the process is asked to end
            self._end(cr, now, "waiting" if self._in_cron() else "interrupted")
            raise
        self._end(cr, now, state)

    @api.model
    def _end(self, cr, now, state, error=None):
        values = {"state": state, "error": error and self._error_text(error)}
        if state != "waiting":
            values["ended_at"] = progress.NOW
            self._log_progress(now, state)
        # on a broken connection nothing can be recorded: it reads as interrupted
        with suppress(psycopg2.Error):
            self._record(cr, now, **values)

    @api.model
    def _error_text(self, error):
        """Return what may be shown of an error."""
        text = f"{type(error).__name__}: {error}"
        config = self.env["ir.attachment"]._s3_configuration()
        secrets = [config.settings.secret_key, config.settings.session_token]
        secrets.append(config.location and config.location.secret_key)
        for secret in filter(None, secrets):
            text = text.replace(secret.get_secret_value(), "***")
        return text

    @api.model
    def _in_cron(self):
        return bool(self.env.context.get("ir_cron_progress_id"))

    @api.model
    def _move(self, cr, now):
        """Move batch after batch.

        :return: the state in which it ends
        """
        _logger.info(
            "%s attachments (%.1f MB) move to %s",
            now.left,
            (now.total_bytes - now.moved_bytes) / MIB,
            now.target,
        )
        cancelled = self._record(cr, now, state="running")
        began = time.monotonic() - now.seconds
        logged = time.monotonic()
        while not cancelled:
            ids = self._next_batch(now.target, now.position)
            if not ids:
                self._commit(remaining=0)
                return "done"
            # who changes an attachment meanwhile makes PostgreSQL refuse the batch
            result = retrying(partial(self._move_batch, now.target, ids), self.env)
            now.position = ids[-1]
            now.seconds = time.monotonic() - began
            now.add(result)
            cancelled = self._record(cr, now)
            processed = result.moved + result.failed
            seconds = self._commit(processed, remaining=max(now.left, 1))
            if time.monotonic() - logged > LOG_SECONDS:
                logged = time.monotonic()
                self._log_progress(now)
            if not seconds and not cancelled:
                return "waiting"
        self._commit(remaining=0)
        return "cancelled"

    @api.model
    def _record(self, cr, now, state="running", **values):
        """Write the progress for those who look at its row, and tell the observers.

        :return: whether somebody asked to cancel the move
        """
        observers.tell_move(self.env.cr.dbname, state, now)
        return progress.write(cr, now, state=state, **values)

    @api.model
    def _commit(self, processed=0, remaining=None):
        """Keep a batch, so that it has not to be moved again.

        :return: seconds for which a scheduled action may go on
        """
        return self.env["ir.cron"]._commit_progress(processed, remaining=remaining)

    @api.model
    def _log_progress(self, now, state="running"):
        _logger.info(
            "Attachments to %s: %s, %s of %s moved, %s failed, %.1f MB/s, about %d s "
            "left",
            now.target,
            state,
            now.moved,
            now.total,
            now.failed,
            now.bytes_per_second / MIB,
            now.seconds_left,
        )
