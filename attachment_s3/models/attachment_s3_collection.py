from odoo import api, fields, models

#: runs that are kept
KEPT = 20


class AttachmentS3Collection(models.Model):
    """What a run of the collector did, for whoever wants to know that it runs."""

    _name = "attachment.s3.collection"
    _description = "Run of the Collector of Unused Objects"
    _order = "id desc"
    _log_access = False

    ended_at = fields.Datetime(
        required=True, readonly=True, default=lambda self: fields.Datetime.now()
    )
    settled = fields.Integer(readonly=True, help="Addresses that were looked at")
    deleted = fields.Integer(readonly=True, help="Objects that were deleted")
    error = fields.Char(readonly=True, help="Why it stopped")

    @api.model
    def _record(self, **values):
        """Keep what a run did, and forget the oldest ones."""
        self.create(values)
        self.search([], offset=KEPT, limit=1000).unlink()
