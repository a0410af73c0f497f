import hashlib
import logging
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from typing import NamedTuple

from odoo import api, models
from odoo.tools import SQL

from .. import progress
from ..configuration import (
    SCHEME,
    STORAGE,
    digest_uri,
    is_uri,
    split_uri,
)
from ..exceptions import S3ContentError, S3ObjectMissing
from ..store import MIB, MULTIPART

_logger = logging.getLogger(__name__)

#: contents that move in one transaction, and their bytes
BATCH_ROWS = 200
BATCH_BYTES = 64 * MIB
#: attachments that are looked at with one query
PAGE_ROWS = 10_000
#: larger local files go to the bucket without being read into memory
STREAM_BYTES = MULTIPART.multipart_threshold


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


class AttachmentS3Transfer(models.AbstractModel):
    """Finds the contents that are not where they belong, and moves them in batches.

    By SQL, since Odoo refuses to write the contents of locked accounting entries. A
    source is dropped when its content has arrived and was verified.
    """

    _name = "attachment.s3.transfer"
    _description = "Transfer of Attachments"

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
        result, local, uploaded = progress.Result(), set(), []
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
                    if arrived.content is None:
                        uploaded.append((group, arrived))
                    else:
                        self._update(result, [(group, arrived)])
                    if is_uri(fname):
                        attachment._file_delete(fname)
                    elif fname:
                        local.add(fname)
            except BaseException:
                # the others would fail in the same way, each after its timeouts
                pool.shutdown(cancel_futures=True)
                raise
        self._update(result, uploaded)
        attachment.invalidate_model(["store_fname", "db_datas", "raw", "datas"])
        # Odoo's own collector removes the files, after it looked for references; the
        # list of its candidates must not be earlier than the commit
        for fname in local:
            self.env.cr.postcommit.add(partial(self._let_collect, fname))
        return result

    @api.model
    def _let_collect(self, fname):
        """Leave a local file, whose content has moved, to Odoo's collector."""
        try:
            self.env["ir.attachment"]._mark_for_gc(fname)
        except OSError as error:
            # such as a filestore that is mounted read-only: what moved has moved
            _logger.warning("Local file %s stays: %s", fname, error)

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
    def _update(self, result, moves):
        """Let attachments refer to the new places of their contents, and count them.

        Only those that still have the source that was moved.

        :param moves: attachments with one source, and its content that arrived
        """
        if not moves:
            return
        rows = []
        for group, arrived in moves:
            fname = arrived.uri
            if group[0].target == "file":
                fname = self._write_file(arrived.content)
            content = None if fname else arrived.content
            rows += [
                (source.id, fname, content, arrived.size)
                + (source.store_fname, source.checksum)
                for source in group
            ]
        self.env.cr.execute(
            SQL(
                """UPDATE ir_attachment
                      SET store_fname = moved.fname, db_datas = moved.content,
                          file_size = moved.size
                     FROM unnest(%s, %s::text[], %s::bytea[], %s, %s::text[],
                                 %s::text[])
                          moved (id, fname, content, size, old_fname, checksum)
                    WHERE ir_attachment.id = moved.id
                      AND store_fname IS NOT DISTINCT FROM moved.old_fname
                      AND ir_attachment.checksum IS NOT DISTINCT FROM moved.checksum
                RETURNING moved.size""",
                *map(list, zip(*rows, strict=True)),
            ),
            # a change by somebody else is no error: the batch is tried again
            log_exceptions=False,
        )
        sizes = [size for (size,) in self.env.cr.fetchall()]
        result.moved += len(sizes)
        result.bytes += sum(sizes)

    @api.model
    def _write_file(self, content):
        """Write a local file.

        :return: its ``store_fname``
        """
        attachment = self.env["ir.attachment"]
        # Odoo's collector of local files waits for whoever changes the table, and must
        # not find the file before there is a reference
        self.env.cr.execute("LOCK ir_attachment IN ROW EXCLUSIVE MODE")
        checksum = attachment._compute_checksum(content)
        path = attachment._full_path(os.path.join(checksum[:2], checksum))
        with suppress(FileNotFoundError):
            with open(path, "rb") as file:
                intact = attachment._compute_checksum(file.read()) == checksum
            if not intact:  # a process died while it wrote it, or a full disk
                os.unlink(path)
        return attachment._file_write(content, checksum)
