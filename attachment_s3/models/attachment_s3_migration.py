import hashlib
import logging
import os
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import timedelta
from functools import partial
from typing import NamedTuple

import psycopg2

from odoo import SUPERUSER_ID, api, fields, models
from odoo.exceptions import AccessError, UserError
from odoo.service.model import retrying
from odoo.tools import SQL

from .. import progress
from ..configuration import (
    LOCATION,
    READONLY,
    SCHEME,
    STORAGE,
    digest_uri,
    is_uri,
    split_uri,
)
from ..exceptions import S3ContentError, S3Error, S3ObjectMissing
from ..store import MIB, MULTIPART

_logger = logging.getLogger(__name__)

#: contents that move in one transaction, and their bytes
BATCH_ROWS = 200
BATCH_BYTES = 64 * MIB
#: attachments that are looked at with one query
PAGE_ROWS = 10_000
#: larger local files go to the bucket without being read into memory
STREAM_BYTES = MULTIPART.multipart_threshold
#: seconds between two lines of progress in the log
LOG_SECONDS = 10
#: seconds for which a start waits for the object store to take what modules wrote
SWEEP_SECONDS = 60


class Source(NamedTuple):
    """An attachment that has to move.

    :param place: where it is: ``s3``, ``db`` or ``file``
    :param target: where it belongs, one of the same
    """

    id: int
    name: str | None
    store_fname: str | None
    checksum: str | None
    size: int
    place: str
    target: str

    @property
    def key(self):
        """The same for those that one transfer moves."""
        return (self.store_fname or self.id, self.target, self.checksum)


class Arrived(NamedTuple):
    """A content that was read, checked and, if it goes there, uploaded.

    :param content: ``None`` when it was uploaded
    """

    size: int
    uri: str | None = None
    content: bytes | None = None


class AttachmentS3Migration(models.Model):
    """A move of contents between the bucket, the database and local files.

    One at a time: whoever moves holds a lock, and writes the row on the connection of
    that lock (see ``progress``). A row that says ``running`` while nobody holds it is
    the one of a process that died.
    """

    _name = "attachment.s3.migration"
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
            progress.write(cr, now, **values)

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
        cancelled = progress.write(cr, now, state="running")
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
            cancelled = progress.write(cr, now)
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

    # after an installation or upgrade

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
            current = self._current()
            if current.status not in ("waiting", "running"):
                self._start_in_background()

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

    # what has to move

    @api.model
    def _plan(self, target: str, look: bool = False) -> dict[str, dict[str, int]]:
        """Tell what a move would do; it changes nothing.

        :param target: ``s3``, ``db`` or ``file``
        :param look: look for local files on this machine's disk
        :return: for each place that contents leave (``s3``, ``db``, ``file``) their
            ``number``, their ``bytes`` and, of local files, how many are ``missing``
            (``None``: nobody looked)
        """
        plan = {}
        full_path = self.env["ir.attachment"]._full_path
        for sources in self._pages(target):
            for source in sources:
                nothing = {"number": 0, "bytes": 0, "missing": None}
                place = plan.setdefault(source.place, nothing)
                place["number"] += 1
                place["bytes"] += source.size
                if look and source.place == "file":
                    missing = not os.path.isfile(full_path(source.store_fname))
                    place["missing"] = (place["missing"] or 0) + missing
        return plan

    @api.model
    def _count(self, target):
        """Return number and bytes of what has to move."""
        places = self._plan(target).values()
        return (
            sum(place["number"] for place in places),
            sum(place["bytes"] for place in places),
        )

    @api.model
    def _condition(self, target):
        """Return the SQL condition for attachments that may have to move."""
        in_s3 = SQL("store_fname LIKE %s", f"{SCHEME}%")
        condition = {
            STORAGE: SQL("(store_fname IS NOT NULL OR db_datas IS NOT NULL)"),
            "db": SQL("store_fname IS NOT NULL"),
            "file": SQL("(%s OR db_datas IS NOT NULL)", in_s3),
        }[target]
        return SQL("type = 'binary' AND COALESCE(file_size, 1) > 0 AND %s", condition)

    @api.model
    def _pages(self, target, after=0, more=None, rows=PAGE_ROWS):
        """Yield lists of what has to move, in the order of the ids.

        :param more: a further SQL condition
        """
        while True:
            self.env.cr.execute(
                SQL(
                    """SELECT id, name, store_fname, checksum, COALESCE(file_size, 0),
                              mimetype
                         FROM ir_attachment WHERE %s AND id > %s AND %s
                        ORDER BY id LIMIT %s""",
                    self._condition(target),
                    after,
                    more or SQL("TRUE"),
                    rows,
                )
            )
            found = self.env.cr.fetchall()
            if not found:
                return
            after = found[-1][0]
            yield list(self._sources(target, found))

    @api.model
    def _sources(self, target, rows):
        """Yield those of some attachments that are not where they belong."""
        keep_in_database = self.env["ir.attachment"]._keep_in_database
        for id_, name, store_fname, checksum, size, mimetype in rows:
            own_target = target
            if target == STORAGE and keep_in_database(mimetype, size):
                own_target = "db"
            place = "db" if not store_fname else "file"
            if is_uri(store_fname):
                place = STORAGE
            if place != own_target:
                yield Source(id_, name, store_fname, checksum, size, place, own_target)

    @api.model
    def _next_batch(self, target, after, more=None):
        """Return the ids of the next batch; empty at the end."""
        for sources in self._pages(target, after, more, BATCH_ROWS):
            batch, size = [], 0
            for source in sources:
                size += source.size
                if batch and size > BATCH_BYTES:
                    break
                batch.append(source.id)
            if batch:
                return batch
        return []

    # a batch

    @api.model
    def _move_batch(self, target, ids):
        """Move some contents in this transaction."""
        mine = SQL("id = ANY(%s)", ids)
        sources = next(self._pages(target, more=mine), [])
        attachment = self.env["ir.attachment"]
        self.env["attachment.s3.garbage"]._protect()
        transfer = self._transfer_function(sources)
        groups = {}
        for source in sources:
            groups.setdefault(source.key, []).append(source)
        result, local = progress.Result(), set()
        threads = attachment._s3_configuration().settings.threads
        with ThreadPoolExecutor(threads, "attachment_s3") as pool:
            try:
                futures = [
                    (group, pool.submit(transfer, group[0]))
                    for group in groups.values()
                ]
                for group, future in futures:
                    fname = group[0].store_fname
                    try:
                        arrived = future.result()
                    except (OSError, S3ObjectMissing, S3ContentError) as error:
                        # left as it is: an empty value would be lost for good
                        self._tell_failure(result, group, error)
                        continue
                    moved = self._update(group, arrived)
                    result.moved += moved
                    result.bytes += moved * arrived.size
                    if is_uri(fname):
                        attachment._file_delete(fname)
                    elif fname:
                        local.add(fname)
            except BaseException:
                # the others would fail in the same way, each after its timeouts
                pool.shutdown(cancel_futures=True)
                raise
        attachment.invalidate_model(["store_fname", "db_datas", "raw", "datas"])
        # Odoo's own collector removes the files, after it looked for references; the
        # list of its candidates must not be earlier than the commit
        for fname in local:
            self.env.cr.postcommit.add(partial(attachment._mark_for_gc, fname))
        return result

    @api.model
    def _tell_failure(self, result, group, error):
        names = ", ".join(f"{source.id} ({source.name})" for source in group)
        result.failed += len(group)
        result.failures.append(f"{names}: {error}")
        _logger.error("Attachments %s are not moved: %s", names, error)

    @api.model
    def _transfer_function(self, sources):
        """Return a function that moves the content of a source, in any thread."""
        attachment = self.env["ir.attachment"]
        config = attachment._s3_configuration()
        in_database = self._database_contents(sources)
        paths = {
            source.store_fname: attachment._full_path(source.store_fname)
            for source in sources
            if source.place == "file"
        }
        store = prefix = None
        if any(source.target == STORAGE for source in sources):
            store = config.store()
            prefix = self.env["attachment.s3.prefix"]._own_prefix()

        def transfer(source):
            if source.place == STORAGE:
                bucket, key = split_uri(source.store_fname)
                content = config.store(bucket).get(key)
            elif source.place == "file":
                path = paths[source.store_fname]
                if source.target == STORAGE and os.path.getsize(path) > STREAM_BYTES:
                    return upload_file(source, path)
                with open(path, "rb") as file:
                    content = file.read()
            elif (content := in_database.pop(source.id, None)) is None:
                raise S3ContentError("there is no content")
            check(source, hashlib.sha1(content, usedforsecurity=False))
            if source.target != STORAGE:
                return Arrived(len(content), content=content)
            uri = digest_uri(store.bucket, prefix, hashlib.sha256(content))
            store.put_verified(split_uri(uri)[1], content)
            return Arrived(len(content), uri)

        def upload_file(source, path):
            sha1, sha256 = hashlib.sha1(usedforsecurity=False), hashlib.sha256()
            size = 0
            with open(path, "rb") as file:
                while chunk := file.read(MIB):
                    size += len(chunk)
                    sha1.update(chunk)
                    sha256.update(chunk)
            check(source, sha1)
            uri = digest_uri(store.bucket, prefix, sha256)
            store.put_file_verified(split_uri(uri)[1], path, size)
            return Arrived(size, uri)

        def check(source, digest):
            if source.checksum and digest.hexdigest() != source.checksum:
                raise S3ContentError(
                    f"its SHA-1 is {digest.hexdigest()}, not {source.checksum} as "
                    "recorded"
                )

        return transfer

    @api.model
    def _database_contents(self, sources):
        ids = [source.id for source in sources if source.place == "db"]
        self.env.cr.execute(
            SQL("SELECT id, db_datas FROM ir_attachment WHERE id = ANY(%s)", ids)
        )
        return {
            id_: bytes(content) for id_, content in self.env.cr.fetchall() if content
        }

    @api.model
    def _update(self, group, arrived):
        """Let some attachments with one source refer to the new place.

        Only those that still have that source.

        :return: how many
        """
        fname = arrived.uri
        if group[0].target == "file":
            attachment = self.env["ir.attachment"]
            checksum = attachment._compute_checksum(arrived.content)
            fname = attachment._file_write(arrived.content, checksum)
        self.env.cr.execute(
            SQL(
                """UPDATE ir_attachment
                      SET store_fname = %s, db_datas = %s, file_size = %s
                    WHERE id = ANY(%s) AND store_fname IS NOT DISTINCT FROM %s
                      AND checksum IS NOT DISTINCT FROM %s""",
                fname,
                None if fname else arrived.content,
                arrived.size,
                [source.id for source in group],
                group[0].store_fname,
                group[0].checksum,
            ),
            # a change by somebody else is no error: the batch is tried again
            log_exceptions=False,
        )
        return self.env.cr.rowcount
