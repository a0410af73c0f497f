"""Contents that a transaction is about to write.

Odoo asks for the path of a content, inserts the record, and hands the content over for
writing with nothing but its SHA-1, also when the record keeps it in the database. What
was decided for the path is remembered here until then.
"""

from typing import NamedTuple

_CACHE_KEY = "attachment_s3.writes"


class Write(NamedTuple):
    """A content to write.

    :param seen: the transaction sees an attachment that already has it
    """

    uri: str
    content: bytes
    seen: bool


class PendingWrites:
    """The contents of one transaction, by Odoo's checksum.

    Two contents of one checksum (a collision of SHA-1) stay two.
    """

    def __init__(self):
        self._writes = {}
        self._kept = set()

    def add(self, checksum: str, uri: str, content: bytes, seen: bool):
        """Remember a content that goes to the object store."""
        self._writes.setdefault(checksum, {})[uri] = Write(uri, content, seen)

    def keep(self, checksum: str):
        """Remember a content that stays in the database."""
        self._kept.add(checksum)

    def knows(self, checksum: str) -> bool:
        """Tell whether something was decided for a checksum."""
        return checksum in self._writes or checksum in self._kept

    def take(self, checksum: str) -> list[Write]:
        """Return what is to be written for a checksum, and forget it."""
        self._kept.discard(checksum)
        return list(self._writes.pop(checksum, {}).values())

    def clear(self):
        """Forget everything."""
        self._writes.clear()
        self._kept.clear()


def pending_writes(cr) -> PendingWrites:
    """Return the pending writes of a cursor's transaction."""
    if _CACHE_KEY not in cr.cache:
        cr.cache[_CACHE_KEY] = PendingWrites()
    writes = cr.cache[_CACHE_KEY]
    hooks = cr.postrollback
    if not hooks.data.get(_CACHE_KEY):
        hooks.data[_CACHE_KEY] = True
        cr.postrollback.add(writes.clear)
        cr.postcommit.add(writes.clear)
    return writes
