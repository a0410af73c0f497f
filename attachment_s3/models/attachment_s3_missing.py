from collections.abc import Iterable

from odoo import api, fields, models
from odoo.tools import SQL


class AttachmentS3Missing(models.Model):
    """Objects that the last inventory did not find: a new upload is not left out."""

    _name = "attachment.s3.missing"
    _description = "Object That Is Missing"
    _log_access = False
    _rec_name = "uri"

    uri = fields.Char("Address", required=True, readonly=True)

    _uri_unique = models.Constraint("UNIQUE(uri)", "An object is missing once.")

    @api.model
    def _note(self, uris: Iterable[str]):
        """Add objects; those that are there already stay."""
        self.env.cr.execute(
            SQL(
                """INSERT INTO attachment_s3_missing (uri)
                   SELECT unnest(%s::varchar[]) ON CONFLICT DO NOTHING""",
                list(uris),
            )
        )

    @api.model
    def _forget(self):
        """Remove all, at the beginning of an inventory."""
        self.env.cr.execute("DELETE FROM attachment_s3_missing")
