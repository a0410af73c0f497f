import logging
import os
from functools import partial
from typing import NamedTuple

import psycopg2

from odoo import api, models
from odoo.exceptions import AccessError
from odoo.fields import Domain
from odoo.http import Stream
from odoo.tools import SQL

from ..configuration import (
    SCHEME,
    STORAGE,
    configuration_of,
    content_uri,
    is_uri,
    split_uri,
)
from ..exceptions import S3ObjectMissing
from ..fields import SizedBinary
from ..placement import PLACEMENT, is_kept, parse_rules
from ..post_load import unprotected
from ..reads import read_ahead, reading_ahead
from ..stream import S3Stream
from ..writes import pending_writes

_logger = logging.getLogger(__name__)

#: in the context: what is written stays in the database
IN_DATABASE = "attachment_s3_in_database"
#: in the values of a copy: the content that it shares
COPY_OF = "attachment_s3_copy_of"
#: in the context of a client: Odoo takes these out of the values only, and an address
#: is enough to read what it names
FORGED_DEFAULTS = {"default_store_fname", "default_checksum", "default_file_size"}


#: what this transaction sees is too old
_RETRY = """DO $$ BEGIN RAISE EXCEPTION 'an attachment was deleted meanwhile'
            USING ERRCODE = 'serialization_failure'; END $$"""


class SharedContent(NamedTuple):
    """What a copy takes over from an attachment in S3."""

    store_fname: str
    checksum: str
    file_size: int
    index_content: str


def _is_bundle(vals):
    """Tell whether the values are those of a bundle of assets or of its companion."""
    return (vals.get("url") or "").startswith("/web/assets/")


class IrAttachment(models.Model):
    _inherit = "ir.attachment"

    raw = SizedBinary()
    datas = SizedBinary()

    # overrides

    def _register_hook(self):
        super()._register_hook()
        registry = self.env.registry
        loaded_late = registry.db_name in unprotected
        unprotected.discard(registry.db_name)
        # the hooks run again on a registry that is in use
        if registry.updated_modules and not registry.ready:
            self.env["attachment.s3.sweep"]._sweep_after_load(loaded_late)

    @api.model
    def _storage(self):
        location = super()._storage()
        # not yet: the addon is being installed, and its tables are not committed
        if "attachment_s3" not in self.env.registry._init_modules:
            return "db" if location.startswith(STORAGE) else location
        config = self._s3_configuration()
        if not config.location:
            return location
        if not config.writable or self.env.context.get(IN_DATABASE):
            return "db"
        return STORAGE

    @api.model
    def _get_storage_domain(self):
        in_s3 = Domain("store_fname", "=like", f"{SCHEME}%")
        if self._storage() == STORAGE:
            return ~in_s3
        domain = Domain(super()._get_storage_domain())
        return domain | in_s3 if self._storage() == "file" else domain

    @api.model
    def force_storage(self):
        """Move all contents to where the configuration says, in both directions.

        Runs in batches, each of which it commits, together with what this transaction
        did before. It can be stopped and run again.

        :return: how many contents were moved (``moved``, ``bytes``), were left because
            their source is missing or damaged (``failed``)
        :raises AccessError: for others than administrators
        :raises UserError: when the bucket is read-only or not used, or another process
            moves attachments
        """
        if not self.env.is_admin():
            raise AccessError(
                self.env._("Only administrators can execute this action.")
            )
        migration = self.env["attachment.s3.migration"].sudo()
        report = migration._migrate(migration._target())
        return {name: report[name] for name in ("moved", "bytes", "failed")}

    @api.model
    def _get_path(self, bin_data, sha):
        if self._storage() != STORAGE:
            return super()._get_path(bin_data, sha)
        store = self._s3_configuration().store()
        prefix = self.env["attachment.s3.prefix"].sudo()._own_prefix()
        uri = content_uri(store.bucket, prefix, bin_data)
        self.env.cr.execute(
            SQL("SELECT 1 FROM ir_attachment WHERE store_fname = %s LIMIT 1", uri)
        )
        pending_writes(self.env.cr).add(
            sha, uri, bin_data, bool(self.env.cr.fetchone())
        )
        return uri, uri

    @api.model
    def _file_read(self, fname, size=None):
        if not is_uri(fname):
            return super()._file_read(fname, size)
        config = self._s3_configuration()
        if config.settings.disabled:
            _logger.warning("%s is not read: DISABLE_ATTACHMENT_STORAGE is set", fname)
            return b""
        bucket, key = split_uri(fname)
        try:
            if size is None and (download := read_ahead(self.env.cr, fname)):
                return download.result()
            return config.store(bucket).get(key, size)
        except S3ObjectMissing as error:
            _logger.error("%s is missing: %s", fname, error)
            return b""

    def _compute_raw(self):
        forged = self.filtered(lambda attachment: attachment._s3_is_forged())
        forged.raw = False
        self -= forged
        downloads = self._s3_downloads() if len(self) > 1 else None
        if not downloads:
            return super()._compute_raw()
        threads = self._s3_configuration().settings.threads
        with reading_ahead(self.env.cr, downloads, threads):
            return super()._compute_raw()

    @api.model
    def _file_write(self, bin_value, checksum):
        if self._storage() != STORAGE:
            return super()._file_write(bin_value, checksum)
        writes = pending_writes(self.env.cr)
        if not writes.knows(checksum):
            self._get_path(bin_value, checksum)  # who calls this did not call it
        uri = None
        for write in writes.take(checksum):
            self._s3_write(write)
            uri = write.uri
        return uri

    @api.model
    def _file_delete(self, fname):
        if not is_uri(fname):
            return super()._file_delete(fname)
        return self.env["attachment.s3.garbage"].sudo()._note([fname])

    @api.autovacuum
    def _gc_file_store(self):
        if self._storage() != "file":
            return self._gc_local_leftovers()
        return super()._gc_file_store()

    def _get_datas_related_values(self, data, mimetype):
        if self._storage() == STORAGE and data:
            if self._keep_in_database(mimetype, len(data)):
                self = self.with_context(**{IN_DATABASE: True})
            values = super()._get_datas_related_values(data, mimetype)
            if not values["store_fname"]:
                pending_writes(self.env.cr).keep(values["checksum"])
            return values
        return super()._get_datas_related_values(data, mimetype)

    def _set_attachment_data(self, asbytes):
        replaced = self.mapped("store_fname") if self._storage() == "db" else ()
        result = super()._set_attachment_data(asbytes)
        if replaced := list(filter(is_uri, replaced)):
            # the base method forgets them when the new content is in the database
            self.env["attachment.s3.garbage"].sudo()._note(replaced)
        return result

    def _to_http_stream(self):
        self.ensure_one()
        if not is_uri(self.store_fname):
            return super()._to_http_stream()
        config = self._s3_configuration()
        if config.settings.disabled:
            _logger.warning("Not served: DISABLE_ATTACHMENT_STORAGE is set")
            return Stream(
                type="data",
                data=b"",
                size=0,
                mimetype=self.mimetype,
                download_name=self.name,
                public=self.public,
            )
        bucket, key = split_uri(self.store_fname)
        return S3Stream(
            config.store(bucket),
            key,
            config.serving(bucket),
            size=self.file_size,
            # the content's own name, not Odoo's SHA-1, which can collide
            etag=key.rpartition("/")[2],
            last_modified=self.write_date,
            mimetype=self.mimetype,
            download_name=self.name,
            public=self.public,
        )

    @api.model_create_multi
    def create(self, vals_list):
        if any(self.env.context.get(key) for key in FORGED_DEFAULTS):
            without = self.with_context(**dict.fromkeys(FORGED_DEFAULTS, False))
            return without.create(vals_list).with_env(self.env)
        if not self.env.context.get(IN_DATABASE) and any(map(_is_bundle, vals_list)):
            # Odoo makes them one by one
            records = [
                self.with_context(**({IN_DATABASE: True} if _is_bundle(vals) else {}))
                .create([vals])
                .with_env(self.env)
                for vals in vals_list
            ]
            return self.concat(*records)
        shared = [vals.get(COPY_OF) for vals in vals_list]
        if not any(shared):
            return super().create(vals_list)
        vals_list = [
            {key: value for key, value in vals.items() if key != COPY_OF}
            for vals in vals_list
        ]
        records = super().create(vals_list)
        for record, content in zip(records, shared, strict=True):
            # a client cannot send such an object, and so not name any content
            if isinstance(content, SharedContent):
                record._s3_share(content)
        return records

    def copy_data(self, default=None):
        default = dict(default or {})
        shares = (
            self._storage() == STORAGE or self._s3_configuration().settings.disabled
        )
        if not shares or default.keys() & {"datas", "db_datas", "raw"}:
            return super().copy_data(default=default)
        vals_list = []
        for attachment in self:
            if content := attachment._s3_shared_content():
                # the base method would read the content, unless it is given
                [vals] = super(IrAttachment, attachment).copy_data(
                    {**default, "raw": b""}
                )
                vals.pop("raw")
                vals[COPY_OF] = content
            else:
                [vals] = super(IrAttachment, attachment).copy_data(default=default)
            vals_list.append(vals)
        return vals_list

    # what the addon decides; others may override

    @api.model
    def _keep_in_database(self, mimetype: str | None, size: int) -> bool:
        """Tell whether a content stays in the database although the location is S3.

        :param size: in bytes
        """
        value = self.env["ir.config_parameter"].sudo().get_param(PLACEMENT)
        return is_kept(parse_rules(value or None), mimetype, size)

    # own methods

    @api.model
    def _s3_configuration(self):
        """Return the :class:`~..configuration.Configuration` of this database.

        :raises S3ConfigurationError: for an invalid variable or system parameter
        """
        return configuration_of(self.env)

    def _s3_downloads(self):
        """Return a function for each content in S3 that downloads it.

        The functions know nothing of Odoo, so that threads can call them.

        :raises AccessError: when the user may not read one of the attachments
        """
        config = self._s3_configuration()
        if config.settings.disabled:
            return {}
        downloads = {}
        for fname in self.mapped("store_fname"):
            if is_uri(fname) and fname not in downloads:
                bucket, key = split_uri(fname)
                downloads[fname] = partial(config.store(bucket).get, key)
        return downloads

    def _s3_is_forged(self):
        """Tell whether a client gave the address to a record that is not stored.

        As in ``onchange``, whose records read what their values say.
        """
        if self.id or not is_uri(self.store_fname):
            return False
        return self.store_fname != self._origin.store_fname

    def _s3_write(self, write):
        """Upload a content, unless a committed attachment has the same one."""
        garbage = self.env["attachment.s3.garbage"].sudo()
        garbage._protect([write.uri])
        if write.seen and garbage._is_stored_now(write.uri):
            return
        garbage._note_after_rollback(write.uri)
        bucket, key = split_uri(write.uri)
        try:
            self._s3_configuration().store(bucket).put(key, write.content)
        except BaseException as error:
            self._s3_refuse_commit(write.uri, error)
            raise

    def _s3_refuse_commit(self, uri, error):
        """Let no commit keep an attachment whose content was not uploaded.

        Odoo inserts the row first, and a caller may go on after the error. The rollback
        of a savepoint takes the hook away together with the row.
        """
        cr = self.env.cr

        def refuse():
            cr.execute(
                SQL("SELECT 1 FROM ir_attachment WHERE store_fname = %s LIMIT 1", uri)
            )
            if cr.fetchone():
                cr.precommit.add(refuse)  # a hook is gone when it is called
                raise error

        cr.precommit.add(refuse)

    def _s3_shared_content(self):
        """Return what a copy takes over to share this content; ``None``: it cannot.

        It can when this database owns the object. It does so too while the store must
        not be used: a copy that was read as empty would be empty for good.
        """
        uri = self.sudo().store_fname
        if not is_uri(uri):
            return None
        if not self._s3_configuration().settings.disabled:
            prefix = self.env["attachment.s3.prefix"].sudo()._own_prefix()
            if not split_uri(uri)[1].startswith(f"{prefix}/"):
                return None
        self.check_access("read")
        return SharedContent(*(self.sudo()[name] for name in SharedContent._fields))

    def _s3_share(self, content):
        """Refer to a content that another attachment has too.

        :raises psycopg2.errors.SerializationFailure: when that one was deleted, and
            collected, meanwhile; Odoo then tries the transaction again
        """
        garbage = self.env["attachment.s3.garbage"].sudo()
        garbage._protect([content.store_fname])
        config = self._s3_configuration()
        if config.settings.disabled or garbage._is_referenced_now(content.store_fname):
            # past the base model, which lets nobody write these fields
            models.Model.write(self.sudo(), content._asdict())
            return
        # nothing committed keeps it: its object may go at any time
        bucket, key = split_uri(content.store_fname)
        try:
            self.raw = config.store(bucket).get(key)
        except S3ObjectMissing:
            if self.env.registry.ready:
                self.env.cr.execute(_RETRY, log_exceptions=False)
            raise

    @api.model
    def _gc_local_leftovers(self):
        """Collect local files that were moved elsewhere, as the base model would."""
        if not os.path.isdir(self._full_path("checklist")):
            return
        cr = self.env.cr
        # the lock has to be the first statement of a transaction, as in the base model
        cr.commit()  # pylint: disable=invalid-commit
        cr.execute("SET LOCAL lock_timeout TO '10s'")
        try:
            cr.execute("LOCK ir_attachment IN SHARE MODE")
        except psycopg2.errors.LockNotAvailable:
            cr.rollback()  # the next run tries again
            return
        self._gc_file_store_unsafe()
        cr.commit()  # pylint: disable=invalid-commit
