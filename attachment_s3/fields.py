"""Binary fields of ``ir.attachment`` that know their size without their content."""

from odoo import fields
from odoo.tools import human_size


class SizedBinary(fields.Binary):
    """With ``bin_size`` in the context the value is the recorded size.

    ``fields.Binary`` computes the content to measure it, which is a download.
    """

    def compute_value(self, records):
        if not (
            records.env.context.get("bin_size")
            or records.env.context.get(f"bin_size_{self.name}")
        ):
            return super().compute_value(records)
        for record in records:
            size = human_size(record.file_size) if record.file_size else None
            self._update_cache(record, size.encode() if size else None)
        return None
