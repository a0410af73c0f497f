import logging
import math
import time
from collections.abc import Iterable
from datetime import datetime

import psycopg2

from odoo import api, fields, models
from odoo.sql_db import db_connect
from odoo.tools import SQL

from ..configuration import SCHEME, split_uri
from ..exceptions import S3Error
from ..ownership import referenced_in, users_of
from ..settings import load

_logger = logging.getLogger(__name__)

#: Contents are spread over this many locks. A transaction holds at most so many, which
#: is PostgreSQL's own budget of locks for one (max_locks_per_transaction).
LOCKS = 64
#: first key of the advisory locks of this addon (an arbitrary 32-bit number)
LOCK_CLASS = 0x53336762
#: objects that are deleted while one lock is held, for which a writer may have to wait
BATCH_OBJECTS = 100
#: key of the hooks' data: addresses that a transaction uploaded
_UPLOADS = "attachment_s3.uploads"
#: seconds that one run of the collector may take
RUN_SECONDS = 120


class AttachmentS3Garbage(models.Model):
    """Objects that may be unused.

    A row is written by the transaction that deletes an attachment, so that a rollback
    undoes both, and for an upload whose transaction was rolled back. It proves
    nothing: the collector looks for references before it deletes an object.

    The collector and those who are about to refer to a content exclude each other with
    an advisory lock, held by the latter until their transaction ends. The rows
    themselves are only added, so that two deletions of one content never wait for each
    other, nor fail on each other.
    """

    _name = "attachment.s3.garbage"
    _description = "Object That May Be Unused"
    _log_access = False
    _rec_name = "uri"

    uri = fields.Char("Address", required=True, readonly=True, index=True)
    lock_number = fields.Integer(required=True, readonly=True, index=True)
    noted_at = fields.Datetime(required=True, readonly=True)

    # what transactions do

    @api.model
    def _note(self, uris: Iterable[str]):
        """Note, in this transaction, that it stops to refer to these objects."""
        self.env.cr.execute(self._note_query(uris))

    @api.model
    def _note_after_rollback(self, uri: str):
        """Note an object when this transaction, which uploads it, is rolled back."""
        hooks = self.env.cr.postrollback
        if _UPLOADS in hooks.data:
            hooks.data[_UPLOADS].append(uri)
            return
        dbname, uploads = self.env.cr.dbname, [uri]
        hooks.data[_UPLOADS] = uploads

        def note():
            try:
                with db_connect(dbname).cursor() as cr:
                    cr.execute("SET LOCAL lock_timeout TO '2s'")
                    cr.execute(self._note_query(uploads))
            except psycopg2.Error:
                # the rollback itself has to go on; the inventory finds the objects
                _logger.warning("Could not note the unused objects %s", uploads)

        hooks.add(note)

    @api.model
    def _note_at(self, noted: Iterable[tuple[str, datetime]]):
        """Note objects as unused since a time, in UTC."""
        uris, times = zip(*noted, strict=True)
        self.env.cr.execute(
            SQL(
                """INSERT INTO attachment_s3_garbage (uri, lock_number, noted_at)
                   SELECT * FROM unnest(%s, %s, %s::timestamp[])""",
                list(uris),
                [self._lock_of(uri) for uri in uris],
                list(times),
            )
        )

    @api.model
    def _note_query(self, uris):
        uris = sorted(set(uris))
        return SQL(
            """INSERT INTO attachment_s3_garbage (uri, lock_number, noted_at)
               SELECT uri, lock_number, clock_timestamp() AT TIME ZONE 'UTC'
                 FROM unnest(%s, %s) noted (uri, lock_number)""",
            uris,
            [self._lock_of(uri) for uri in uris],
        )

    @api.model
    def _protect(self, uris: Iterable[str] | None = None):
        """Keep the collector away until this transaction ends.

        :param uris: from these objects; ``None``: from all
        """
        locks = range(LOCKS) if uris is None else {self._lock_of(uri) for uri in uris}
        self.env.cr.execute(
            SQL(
                "SELECT pg_advisory_xact_lock_shared(%s, lock) FROM unnest(%s) lock",
                LOCK_CLASS,
                list(locks),
            )
        )

    @api.model
    def _lock_of(self, uri):
        """Return the number of a content's lock: part of its digest."""
        name = uri.rpartition("/")[2]
        try:
            return int(name[:4], 16) % LOCKS
        except ValueError:
            return 0

    @api.model
    def _is_referenced_now(self, uri: str) -> bool:
        """Tell whether a committed attachment refers to an object at this moment.

        This transaction's own view may be older than a deletion and a collection. The
        answer stays true to the end of a transaction that protects the object.
        """
        return self._is_true_now(
            SQL("SELECT 1 FROM ir_attachment WHERE store_fname = %s LIMIT 1", uri)
        )

    @api.model
    def _is_stored_now(self, uri: str) -> bool:
        """Tell whether a content need not be uploaded, as above.

        It need be when the last inventory did not find it: who has the file of a lost
        object repairs all attachments that refer to it.
        """
        return self._is_true_now(
            SQL(
                """SELECT 1 FROM ir_attachment WHERE store_fname = %s
                   AND NOT EXISTS (SELECT FROM attachment_s3_missing WHERE uri = %s)
                   LIMIT 1""",
                uri,
                uri,
            )
        )

    @api.model
    def _is_true_now(self, query):
        # while modules are loaded this transaction may have locked the table
        if not self.env.registry.ready:
            return False
        try:
            with db_connect(self.env.cr.dbname).cursor() as cr:
                cr.execute("SET LOCAL lock_timeout TO '1s'", log_exceptions=False)
                cr.execute(query, log_exceptions=False)
                return bool(cr.fetchone())
        except psycopg2.Error:
            # no connection to spare, or a locked table: uploading again is right too
            return False

    # the collector

    @api.autovacuum
    def _collect(self):
        """Delete unused objects, a batch for each lock.

        Runs in the scheduled action of the automatic vacuum; bounded in time, the next
        run goes on. A batch commits on its own.
        """
        if not self.env["ir.attachment"]._s3_configuration().writable:
            return
        runs = self.env["attachment.s3.collection"]
        try:
            settled, deleted = self._collect_all(RUN_SECONDS)
        except (S3Error, psycopg2.Error) as error:
            # nothing is lost: what is noted stays noted
            _logger.error("The collector of unused objects stops: %s", error)
            runs._record(error=str(error))
            return
        runs._record(settled=settled, deleted=deleted)
        if settled:
            _logger.info(
                "Collector: %s addresses settled, %s objects deleted", settled, deleted
            )

    @api.model
    def _collect_all(self, seconds=math.inf):
        """Delete all unused objects that are due.

        :param seconds: how long it may take
        :return: how many addresses are settled, how many objects were deleted
        :raises S3Error: when the store cannot be used
        :raises psycopg2.Error: when another database cannot be asked what it uses
        """
        store = self.env["ir.attachment"]._s3_configuration().store()
        prefix = self.env["attachment.s3.prefix"]._prefix_to_delete_from()
        # without a prefix nothing was stored yet: it may delete nothing
        own = f"{SCHEME}{store.bucket}/{prefix}/" if prefix else None
        retention = f"{load().retention_days * 86400} seconds"
        deadline = time.monotonic() + seconds
        settled = deleted = 0
        # a copy is younger than what it shares; none that is made from now on refers to
        # what was unused for the whole retention
        copies = list(users_of(own, self.env.cr.dbname)) if own else []
        for lock in range(LOCKS):
            batch = BATCH_OBJECTS
            while batch == BATCH_OBJECTS and time.monotonic() < deadline:
                batch, objects = self._collect_batch(
                    store, own, copies, retention, lock
                )
                settled += batch
                deleted += objects
        return settled, deleted

    def _collect_batch(self, store, own, copies, retention, lock):
        """Collect some objects of one lock, in a transaction of its own.

        :param own: beginning of the addresses that this database may delete, if any
        :param copies: names of the other databases that may refer to them
        :param retention: an SQL interval
        :return: how many addresses were looked at, how many objects were deleted
        """
        with db_connect(self.env.cr.dbname).cursor() as cr:
            # each statement sees what was committed before it: the references are
            # looked for after the lock was taken
            cr.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cr.execute(
                SQL("SELECT pg_try_advisory_xact_lock(%s, %s)", LOCK_CLASS, lock)
            )
            if not cr.fetchone()[0]:
                return 0, 0  # somebody writes such a content; next time
            candidates = self._candidates(cr, retention, lock)
            if not candidates:
                return 0, 0
            cr.execute(
                SQL(
                    """SELECT DISTINCT store_fname FROM ir_attachment
                        WHERE store_fname = ANY(%s)""",
                    list(candidates),
                )
            )
            referenced = {uri for (uri,) in cr.fetchall()}
            unused = [
                uri
                for uri in candidates
                if uri not in referenced and own and uri.startswith(own)
            ]
            shared = self._shared(copies, unused)
            unused = [uri for uri in unused if uri not in shared]
            results = store.delete([split_uri(uri)[1] for uri in unused])
            kept = set()
            for uri in unused:
                if reason := results[split_uri(uri)[1]]:
                    _logger.warning("Could not delete %s: %s", uri, reason)
                    kept.add(uri)
            # only the rows that were seen: another deletion may have added one since
            settled, later = [], []
            for uri, rows in candidates.items():
                if uri in shared:
                    later += rows
                elif uri not in kept:
                    settled += rows
            cr.execute(
                SQL("DELETE FROM attachment_s3_garbage WHERE id = ANY(%s)", settled)
            )
            cr.execute(
                SQL(
                    """UPDATE attachment_s3_garbage
                          SET noted_at = clock_timestamp() AT TIME ZONE 'UTC'
                        WHERE id = ANY(%s)""",
                    later,
                )
            )
            return len(candidates) - len(kept), len(unused) - len(kept)

    def _shared(self, copies, uris):
        """Return the unused objects that copies of this database still use.

        They are looked at again after another retention.
        """
        shared = set()
        for copy in copies if uris else ():
            if found := referenced_in(copy, uris):
                _logger.info("%s unused objects stay for %s", len(found), copy)
                shared |= found
        return shared

    def _candidates(self, cr, retention, lock):
        """Return the addresses of a lock that were last noted long enough ago.

        :return: the rows of each
        """
        cr.execute(
            SQL(
                """SELECT uri, array_agg(id) FROM attachment_s3_garbage
                    WHERE lock_number = %s
                    GROUP BY uri
                   HAVING max(noted_at)
                          <= clock_timestamp() AT TIME ZONE 'UTC' - %s::interval
                    ORDER BY max(noted_at)
                    LIMIT %s""",
                lock,
                retention,
                BATCH_OBJECTS,
            )
        )
        return dict(cr.fetchall())
