import logging
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta, timezone

from odoo import api, fields, models
from odoo.exceptions import AccessError, UserError
from odoo.sql_db import db_connect
from odoo.tools import SQL

from ..configuration import READONLY, SCHEME, split_uri
from ..inventory import (
    MISSING,
    NOTED,
    ORPHAN,
    RECENT,
    UNKNOWN,
    WRONG_SIZE,
    Finding,
    Known,
    Listed,
    find,
    merge,
)
from ..settings import load

_logger = logging.getLogger(__name__)

#: objects that are compared in one transaction
CHUNK_OBJECTS = 50_000
#: rows that are fetched from PostgreSQL at a time
FETCH_ROWS = 5_000
#: seconds that one run of the scheduled action may take; the next one goes on
RUN_SECONDS = 60
#: inventories that are kept
KEPT = 20

#: the end of a content's address, as ``content_uri`` makes it, and its length
_CONTENT = "[0-9a-f]{2}/[0-9a-f]{64}$"
_CONTENT_CHARS = 2 + 1 + 64

#: field that counts the findings of a kind
_COUNTERS = {
    MISSING: "missing",
    WRONG_SIZE: "wrong_size",
    ORPHAN: "orphans",
    RECENT: "recent",
    NOTED: "noted",
    UNKNOWN: "unknown",
}


class AttachmentS3Inventory(models.Model):
    """A comparison of the bucket with the database, which goes on where it stopped."""

    _name = "attachment.s3.inventory"
    _description = "Inventory of the Bucket"
    _order = "id desc"
    _log_access = False

    started_at = fields.Datetime(
        required=True, readonly=True, default=lambda self: fields.Datetime.now()
    )
    ended_at = fields.Datetime(readonly=True)
    scheduled = fields.Boolean(readonly=True)
    folder = fields.Char(readonly=True, help="Folder that is looked at")
    position = fields.Char(readonly=True, help="Address up to which it has come")
    objects = fields.Integer(readonly=True, help="In the folders that are looked at")
    object_bytes = fields.Float("Bytes", digits=(0, 0), readonly=True)
    referenced = fields.Integer(
        "References", readonly=True, help="Objects that attachments refer to"
    )
    foreign = fields.Integer(
        "Foreign References",
        readonly=True,
        help="Those of them that this database may read but not delete",
    )
    missing = fields.Integer(readonly=True, help="References without their object")
    wrong_size = fields.Integer(
        readonly=True, help="Objects whose size is not the recorded one"
    )
    orphans = fields.Integer(
        readonly=True, help="Own objects that nothing refers to and nobody noted"
    )
    orphan_bytes = fields.Float(digits=(0, 0), readonly=True)
    recent = fields.Integer(
        "Recent Orphans", readonly=True, help="Orphans younger than the retention"
    )
    noted = fields.Integer(
        "To Be Collected",
        readonly=True,
        help="Unused objects that the collector deletes after the retention",
    )
    unknown = fields.Integer(
        "Unknown Objects",
        readonly=True,
        help="Objects in the own folder that this addon did not store",
    )
    deleted = fields.Integer(readonly=True, help="Unused objects that were deleted")

    # what others call

    @api.model
    def _take(
        self,
        fix: bool = False,
        report: Callable[[Finding], None] = lambda finding: None,
        progress: Callable[["AttachmentS3Inventory"], None] = lambda inventory: None,
    ) -> "AttachmentS3Inventory":
        """Take an inventory from beginning to end, in transactions that it commits.

        :param fix: delete the orphans that are older than the retention; like all
            unused objects that are due, and after another look for references
        :param report: called with each :class:`~..inventory.Finding`
        :param progress: called with the inventory after each chunk
        :return: the inventory
        :raises AccessError: for others than administrators
        :raises UserError: to fix, when the bucket is read-only or not used
        :raises S3Error: when the store cannot be used
        """
        if not self.env.is_admin():
            raise AccessError(
                self.env._("Only administrators can take an inventory of the bucket.")
            )
        if fix and not self.env["ir.attachment"]._s3_configuration().writable:
            raise UserError(
                self.env._(
                    "Nothing is deleted: the bucket is read-only or not used "
                    "(AWS_ATTACHMENT_READONLY, %s, DISABLE_ATTACHMENT_STORAGE).",
                    READONLY,
                )
            )
        inventory = self.sudo().create({})
        while inventory._continue(fix, report):
            progress(inventory)
        if fix:
            _settled, deleted = self.env["attachment.s3.garbage"].sudo()._collect_all()
            inventory.deleted = deleted
            self._commit()
        return inventory

    @api.model
    def _cron_take(self):
        """Take an inventory in the background, over several runs if need be.

        It only tells: who runs a restored copy beside its original, and gave it no
        environment of its own, must not lose what the original stored since.
        """
        config = self.env["ir.attachment"]._s3_configuration()
        if not config.location or config.settings.disabled:
            return
        deadline = time.monotonic() + RUN_SECONDS
        unfinished = [("scheduled", "=", True), ("ended_at", "=", False)]
        inventory = self.search(unfinished, limit=1) or self.create({"scheduled": True})
        while inventory._continue():
            if time.monotonic() > deadline:
                self.env.ref("attachment_s3.cron_inventory")._trigger()
                return

    # how it goes on

    def _continue(self, fix=False, report=lambda finding: None):
        """Compare one chunk and commit.

        :return: whether something is left
        """
        self.ensure_one()
        if not self.folder:
            self.env["attachment.s3.missing"]._forget()
        self._commit()  # what is compared has to be newer than the last listing
        folders = self._folders()
        folder = next((name for name in folders if name >= (self.folder or "")), None)
        if folder is None:  # nothing was ever stored
            self._end()
            return False
        position = (folder == self.folder and self.position) or ""
        nested = folders[folder]
        counts, last = self._compare_chunk(folder, nested, position, fix, report)
        following = next((name for name in folders if name > folder), None)
        self.write(
            {
                "folder": folder if last else following,
                "position": last,
                **{name: self[name] + number for name, number in counts.items()},
            }
        )
        if not last and not following:
            self._end()
            return False
        self._commit()
        return True

    def _end(self):
        self.ended_at = fields.Datetime.now()
        self.search([], offset=KEPT, limit=1000).unlink()
        self._commit()
        faulty = self.missing or self.wrong_size
        level = logging.ERROR if faulty else logging.INFO
        if self.orphans and not faulty:
            level = logging.WARNING
        _logger.log(
            level,
            "Inventory: %s objects (%.1f MB), %s referenced (%s of them foreign); %s "
            "missing, %s of wrong size, %s orphans, %s unknown, %s recent, %s to be "
            "collected%s",
            self.objects,
            self.object_bytes / 1024**2,
            self.referenced,
            self.foreign,
            self.missing,
            self.wrong_size,
            self.orphans,
            self.unknown,
            self.recent,
            self.noted,
            "; odoo s3inventory tells which" if faulty or self.orphans else "",
        )

    @api.model
    def _commit(self):
        """Keep what was counted, and see what others committed."""
        self.env.cr.commit()  # pylint: disable=invalid-commit

    @api.model
    def _folders(self):
        """Return the folders to look at, as addresses: the own and those referred to.

        :return: each with whether it has the folders of contents, sorted
        """
        self.env.cr.execute(
            SQL(
                """SELECT %s folder, bool_or(store_fname ~ %s) FROM ir_attachment
                    WHERE store_fname LIKE %s GROUP BY folder""",
                self._folder_of(SQL("store_fname")),
                f"/{_CONTENT}",
                f"{SCHEME}%",
            )
        )
        folders = dict(self.env.cr.fetchall())
        if own := self._own_folder():
            folders[own] = True
        return dict(sorted(folders.items()))

    @api.model
    def _own_folder(self):
        """Return the folder, as an address, from which this database may delete.

        :return: ``None`` when it stored nothing yet
        """
        prefix = self.env["attachment.s3.prefix"]._prefix_to_delete_from()
        if not prefix:
            return None
        bucket = self.env["ir.attachment"]._s3_configuration().bucket
        return f"{SCHEME}{bucket}/{prefix}/"

    @api.model
    def _folder_of(self, uri):
        """Return the SQL expression for the folder of an address."""
        return SQL(
            """CASE WHEN %(uri)s ~ %(content)s
                    THEN left(%(uri)s, -%(chars)s)
                    ELSE regexp_replace(%(uri)s, '[^/]*$', '') END""",
            uri=uri,
            content=f"/{_CONTENT}",
            chars=_CONTENT_CHARS,
        )

    def _compare_chunk(self, folder, nested, position, fix, report):
        """Compare a part of a folder, from a position on.

        :param nested: the folder has the folders of contents
        :return: what to add to the counters, and the last address; ``None`` for that
            when the folder ends here
        """
        own = folder == self._own_folder()
        now = datetime.now(timezone.utc).replace(tzinfo=None)
        limit = now - timedelta(days=load().retention_days)
        counts, orphans, missing = Counter(), [], []
        # the references first: what they refer to was there before them
        known = self._known(folder, position)
        last = None
        objects = self._listed(folder, nested, position)
        for compared, (listed, reference) in enumerate(merge(objects, known), 1):
            uri = (listed or reference).uri
            if listed:
                counts["objects"] += 1
                counts["object_bytes"] += listed.size
            if reference and reference.referenced:
                counts["referenced"] += 1
                counts["foreign"] += not own
            content = bool(re.fullmatch(_CONTENT, uri.removeprefix(folder)))
            finding = find(listed, reference, own, content, limit)
            if finding and finding.kind == MISSING:
                missing.append(finding)
            elif finding:
                counts[_COUNTERS[finding.kind]] += 1
                report(finding)
                if finding.kind == ORPHAN:
                    counts["orphan_bytes"] += finding.bytes
                    orphans.append((finding.uri, finding.modified))
            if compared == CHUNK_OBJECTS:
                last = uri
                break
        self.env.cr.execute("CLOSE attachment_s3_inventory")
        missing = self._still_referenced(missing)
        for finding in missing:
            counts[_COUNTERS[MISSING]] += 1
            report(finding)
        self.env["attachment.s3.missing"]._note(finding.uri for finding in missing)
        if fix and orphans:
            self.env["attachment.s3.garbage"]._note_at(orphans)
        return counts, last

    def _known(self, folder, position) -> Iterator[Known]:
        """Return what the database knows of a folder, after a position, sorted.

        The rows stay in PostgreSQL until they are needed.
        """
        where = SQL(
            '%s = %s AND uri COLLATE "C" > %s',
            self._folder_of(SQL("uri")),
            folder,
            position,
        )
        self.env.cr.execute(
            SQL(
                """DECLARE attachment_s3_inventory NO SCROLL CURSOR FOR
                   SELECT uri, bool_or(referenced), min(size), max(size)
                     FROM (SELECT store_fname, true, file_size FROM ir_attachment
                            UNION ALL
                           SELECT uri, false, NULL FROM attachment_s3_garbage
                          ) known (uri, referenced, size)
                    WHERE uri LIKE %s AND %s
                    GROUP BY uri
                    ORDER BY uri COLLATE "C" """,
                f"{SCHEME}%",
                where,
            )
        )
        return self._fetch()

    def _fetch(self):
        fetch = SQL("FETCH %s FROM attachment_s3_inventory", FETCH_ROWS)
        while True:
            self.env.cr.execute(fetch)
            rows = self.env.cr.fetchall()
            yield from map(Known._make, rows)
            if len(rows) < FETCH_ROWS:
                return

    def _listed(self, folder, nested, position) -> Iterator[Listed]:
        """Yield the objects of a folder after a position."""
        own = folder == self._own_folder()
        bucket, prefix = split_uri(folder)
        store = self.env["ir.attachment"]._s3_configuration().store(bucket)
        _bucket, key = split_uri(position)
        for entry in store.list(prefix, key, "" if nested else "/"):
            uri = f"{SCHEME}{bucket}/{entry['Key']}"
            if uri <= position:  # not each store knows where to start
                continue
            rest = uri.removeprefix(folder)
            # what is in another folder is looked at there, or belongs to others
            if own or "/" not in rest or re.fullmatch(_CONTENT, rest):
                modified = (
                    entry["LastModified"].astimezone(timezone.utc).replace(tzinfo=None)
                )
                yield Listed(uri, entry["Size"], modified)

    def _still_referenced(self, missing):
        """Return those findings whose reference was not deleted meanwhile."""
        if not missing:
            return []
        with db_connect(self.env.cr.dbname).cursor() as cr:
            cr.execute(
                SQL(
                    "SELECT store_fname FROM ir_attachment WHERE store_fname = ANY(%s)",
                    [finding.uri for finding in missing],
                )
            )
            referenced = {uri for (uri,) in cr.fetchall()}
        return [finding for finding in missing if finding.uri in referenced]
