import hashlib
import logging
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import NamedTuple

from odoo import api, fields, models
from odoo.service.model import retrying
from odoo.tools import SQL

from ..configuration import SCHEME, STORAGE, content_uri, is_uri, split_uri
from ..exceptions import S3ContentError, S3ObjectMissing
from ..store import MIB

_logger = logging.getLogger(__name__)

#: contents that move in one transaction, and their bytes
BATCH_ROWS = 200
BATCH_BYTES = 64 * MIB
#: seconds between two lines of progress in the log
LOG_SECONDS = 10


class Source(NamedTuple):
    """An attachment that has to move.

    :param target: ``s3``, ``db`` or ``file``
    """

    id: int
    store_fname: str | None
    checksum: str | None
    size: int
    target: str


class AttachmentS3Migration(models.Model):
    """A move of contents between the bucket, the database and local files."""

    _name = "attachment.s3.migration"
    _description = "Move of Attachments"
    _order = "id desc"
    _log_access = False

    target = fields.Char(required=True, readonly=True)
    state = fields.Selection(
        [("running", "Running"), ("done", "Done")],
        required=True,
        readonly=True,
        default="running",
    )
    total = fields.Integer("Contents to Move", readonly=True)
    total_bytes = fields.Float("Bytes to Move", digits=(0, 0), readonly=True)
    moved = fields.Integer(readonly=True)
    moved_bytes = fields.Float(digits=(0, 0), readonly=True)
    failed = fields.Integer(readonly=True, help="Missing or damaged sources, left")
    started_at = fields.Datetime(
        required=True, readonly=True, default=lambda self: fields.Datetime.now()
    )
    ended_at = fields.Datetime(readonly=True)

    # the move

    @api.model
    def _migrate(self, target: str) -> dict:
        """Move all contents to where they belong, in batches that it commits.

        By SQL, since Odoo refuses to write the contents of locked accounting entries.
        A source is dropped when its content has arrived and was verified.

        :param target: ``s3``, ``db`` or ``file``; with ``s3`` the small files that
            belong in the database move there
        :return: ``moved``, ``bytes`` and ``failed``
        :raises S3Error: when the store cannot be used; what was moved stays moved
        """
        self.env["ir.attachment"].flush_model()
        total, total_bytes = self._count(target)
        report = {"moved": 0, "bytes": 0, "failed": 0}
        if not total:
            return report
        run = self.create(
            {"target": target, "total": total, "total_bytes": total_bytes}
        )
        self._commit()
        _logger.info(
            "%s attachments (%.1f MB) move to %s", total, total_bytes / MIB, target
        )
        started = logged = time.monotonic()
        last_id = 0
        while ids := self._next_batch(target, last_id):
            last_id = ids[-1]
            # who changes an attachment meanwhile makes PostgreSQL refuse the batch
            result = retrying(partial(self._move_batch, target, ids), self.env)
            for name, value in result.items():
                report[name] += value
            run._progress(report)
            if time.monotonic() - logged > LOG_SECONDS:
                logged = time.monotonic()
                run._log_progress(report, logged - started)
        run.write({"state": "done", "ended_at": fields.Datetime.now()})
        self._commit()
        run._log_progress(report, time.monotonic() - started)
        return report

    @api.model
    def _commit(self):
        """Keep a batch, so that it has not to be moved again."""
        self.env.cr.commit()  # pylint: disable=invalid-commit

    def _progress(self, report):
        self.write(
            {
                "moved": report["moved"],
                "moved_bytes": report["bytes"],
                "failed": report["failed"],
            }
        )
        self._commit()

    def _log_progress(self, report, seconds):
        speed = report["bytes"] / max(seconds, 0.001)
        _logger.info(
            "Attachments to %s: %s of %s moved, %s failed, %.1f MB/s, about %d s left",
            self.target,
            report["moved"],
            self.total,
            report["failed"],
            speed / MIB,
            max(self.total_bytes - report["bytes"], 0) / max(speed, 1),
        )

    def _condition(self, target):
        """Return the SQL condition for attachments that may have to move."""
        in_s3 = SQL("store_fname LIKE %s", f"{SCHEME}%")
        condition = {
            STORAGE: SQL("(store_fname IS NOT NULL OR db_datas IS NOT NULL)"),
            "db": SQL("store_fname IS NOT NULL"),
            "file": SQL("(%s OR db_datas IS NOT NULL)", in_s3),
        }[target]
        return SQL("type = 'binary' AND COALESCE(file_size, 1) > 0 AND %s", condition)

    def _count(self, target):
        """Return number and bytes of what has to move, by type of content."""
        self.env.cr.execute(
            SQL(
                """SELECT id, store_fname, checksum, COALESCE(file_size, 0), mimetype
                     FROM ir_attachment WHERE %s""",
                self._condition(target),
            )
        )
        total = total_bytes = 0
        while rows := self.env.cr.fetchmany(1000):
            for source in self._sources(target, rows):
                total += 1
                total_bytes += source.size
        return total, total_bytes

    def _next_batch(self, target, last_id):
        """Return the ids of the next batch; empty at the end."""
        while True:
            self.env.cr.execute(
                SQL(
                    """SELECT id, store_fname, checksum, COALESCE(file_size, 0),
                              mimetype
                         FROM ir_attachment WHERE %s AND id > %s
                        ORDER BY id LIMIT %s""",
                    self._condition(target),
                    last_id,
                    BATCH_ROWS,
                )
            )
            rows = self.env.cr.fetchall()
            if not rows:
                return []
            last_id = rows[-1][0]
            batch, size = [], 0
            for source in self._sources(target, rows):
                size += source.size
                if batch and size > BATCH_BYTES:
                    break
                batch.append(source.id)
            if batch:
                return batch

    def _sources(self, target, rows):
        """Yield those of some attachments that are not where they belong."""
        keep_in_database = self.env["ir.attachment"]._keep_in_database
        for id_, store_fname, checksum, size, mimetype in rows:
            own_target = target
            if target == STORAGE and keep_in_database(mimetype, size):
                own_target = "db"
            place = "db" if not store_fname else "file"
            if is_uri(store_fname):
                place = STORAGE
            if place != own_target:
                yield Source(id_, store_fname, checksum, size, own_target)

    def _batch_sources(self, target, ids):
        """Return what the attachments of a batch are now."""
        self.env.cr.execute(
            SQL(
                """SELECT id, store_fname, checksum, COALESCE(file_size, 0), mimetype
                     FROM ir_attachment WHERE %s AND id = ANY(%s)""",
                self._condition(target),
                ids,
            )
        )
        return list(self._sources(target, self.env.cr.fetchall()))

    def _move_batch(self, target, ids):
        """Move some contents in this transaction."""
        sources = self._batch_sources(target, ids)
        attachment = self.env["ir.attachment"]
        config = attachment._s3_configuration()
        self.env["attachment.s3.garbage"]._protect()
        in_database = self._database_contents(sources)
        store = prefix = None
        if any(source.target == STORAGE for source in sources):
            store = config.store()
            prefix = self.env["attachment.s3.prefix"]._own_prefix()
        paths = {
            source.store_fname: attachment._full_path(source.store_fname)
            for source in sources
            if source.store_fname and not is_uri(source.store_fname)
        }

        def transfer(fname, first):
            """Read a source, and upload it if it goes there; runs in a thread."""
            content = in_database.get(first.id)
            if is_uri(fname):
                bucket, key = split_uri(fname)
                content = config.store(bucket).get(key)
            elif fname:
                with open(paths[fname], "rb") as file:
                    content = file.read()
            if content is None:
                raise S3ContentError("there is no content")
            digest = hashlib.sha1(content, usedforsecurity=False).hexdigest()
            if first.checksum and digest != first.checksum:
                raise S3ContentError(
                    f"its SHA-1 is {digest}, not {first.checksum} as recorded"
                )
            if first.target != STORAGE:
                return None, content
            uri = content_uri(store.bucket, prefix, content)
            store.put_verified(split_uri(uri)[1], content)
            return uri, content

        # one transfer for rows that share a source
        groups = {}
        for source in sources:
            place = (source.store_fname or source.id, source.target, source.checksum)
            groups.setdefault(place, []).append(source)
        result = {"moved": 0, "bytes": 0, "failed": 0}
        local = set()
        with ThreadPoolExecutor(config.settings.threads, "attachment_s3") as pool:
            futures = [
                (group, pool.submit(transfer, group[0].store_fname, group[0]))
                for group in groups.values()
            ]
            for group, future in futures:
                try:
                    uri, content = future.result()
                except (OSError, S3ObjectMissing, S3ContentError) as error:
                    # left as it is: an empty value would be lost for good
                    result["failed"] += len(group)
                    _logger.error(
                        "Attachments %s are not moved: %s",
                        [source.id for source in group],
                        error,
                    )
                    continue
                moved = self._update(group, uri, content)
                result["moved"] += moved
                result["bytes"] += moved * len(content)
                fname = group[0].store_fname
                if is_uri(fname):
                    attachment._file_delete(fname)
                elif fname:
                    local.add(fname)
        attachment.invalidate_model(["store_fname", "db_datas", "raw", "datas"])
        # Odoo's own collector removes the files, after it looked for references; the
        # list of its candidates must not be earlier than the commit
        for fname in local:
            self.env.cr.postcommit.add(partial(attachment._mark_for_gc, fname))
        return result

    def _database_contents(self, sources):
        ids = [source.id for source in sources if not source.store_fname]
        self.env.cr.execute(
            SQL("SELECT id, db_datas FROM ir_attachment WHERE id = ANY(%s)", ids)
        )
        return {
            id_: bytes(content) for id_, content in self.env.cr.fetchall() if content
        }

    def _update(self, group, uri, content):
        """Let some attachments with one source refer to the new place.

        Only those that still have that source.

        :return: how many
        """
        if group[0].target == "file":
            attachment = self.env["ir.attachment"]
            uri = attachment._file_write(content, attachment._compute_checksum(content))
        self.env.cr.execute(
            SQL(
                """UPDATE ir_attachment
                      SET store_fname = %s, db_datas = %s, file_size = %s
                    WHERE id = ANY(%s) AND store_fname IS NOT DISTINCT FROM %s
                      AND checksum IS NOT DISTINCT FROM %s""",
                uri,
                None if uri else content,
                len(content),
                [source.id for source in group],
                group[0].store_fname,
                group[0].checksum,
            )
        )
        return self.env.cr.rowcount
