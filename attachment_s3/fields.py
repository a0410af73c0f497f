"""Binary fields of ``ir.attachment`` that know their size without their content."""

from odoo import fields
from odoo.exceptions import AccessError, MissingError
from odoo.tools import human_size

#: contents that are read together because one of them is asked for, and their bytes:
#: twice the records of a page, of the size that images have
PREFETCH_CONTENTS = 160
PREFETCH_BYTES = 32 * 1024 * 1024


class SizedBinary(fields.Binary):
    """With ``bin_size`` in the context the value is the recorded size.

    ``fields.Binary`` computes the content to measure it, which is a download.
    """

    def compute_value(self, records):
        if not self._is_size_only(records):
            return super().compute_value(records)
        for record in records:
            size = human_size(record.file_size) if record.file_size else None
            self._update_cache(record, size.encode() if size else None)
        return None

    def _to_prefetch(self, record):
        """Return the record and those to read with it, within the limits above.

        Odoo takes up to a thousand, whatever their size: the first of some films would
        bring all of them to memory.
        """
        records = super()._to_prefetch(record)[:PREFETCH_CONTENTS]
        if len(records) == 1 or self._is_size_only(records):
            return records
        try:
            sizes = records.mapped("file_size")
        except (AccessError, MissingError):
            # some are not for this user, or gone
            records = records.exists()._filtered_access("read")
            if record not in records:
                return record
            sizes = records.mapped("file_size")
        count = total = 0
        for size in sizes:
            total += size
            if count and total > PREFETCH_BYTES:
                break
            count += 1
        return records[:count]

    def _is_size_only(self, records):
        context = records.env.context
        return context.get("bin_size") or context.get(f"bin_size_{self.name}")
