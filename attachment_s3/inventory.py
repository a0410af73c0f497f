"""Comparison of what a bucket has with what the database knows, in constant memory."""

from collections.abc import Iterable, Iterator
from datetime import datetime
from typing import NamedTuple

from .exceptions import S3Unavailable

#: a reference without its object
MISSING = "missing"
#: an object whose size is not the recorded one
WRONG_SIZE = "wrong size"
#: an own object that nothing refers to, and that nobody noted
ORPHAN = "orphan"
#: the same, younger than the retention: perhaps of a transaction that still runs
RECENT = "recent"
#: an own object that a deletion noted: the collector takes it after the retention
NOTED = "noted"
#: something under the own prefix that this addon did not store
UNKNOWN = "unknown"


class Listed(NamedTuple):
    """An object of the bucket; the size is in bytes, the time is UTC without zone."""

    uri: str
    size: int
    modified: datetime


class Known(NamedTuple):
    """An address that the database knows.

    :param referenced: an attachment refers to it; else a deletion noted it
    :param smallest: smallest size that an attachment records, in bytes
    :param largest: largest one
    """

    uri: str
    referenced: bool
    smallest: int | None
    largest: int | None


class Finding(NamedTuple):
    """A difference, or an object that waits for the collector.

    :param bytes: size of the object; ``None`` when it is missing
    """

    kind: str
    uri: str
    bytes: int | None
    modified: datetime | None


def merge(
    listed: Iterable[Listed], known: Iterable[Known]
) -> Iterator[tuple[Listed | None, Known | None]]:
    """Pair what has the same address, of two sequences sorted by address.

    :raises S3Unavailable: when the bucket's is not sorted by the bytes of the address,
        as S3 does it ("ListObjectsV2" in its API reference)
    """
    listed, known = _sorted(listed), iter(known)
    one, other = next(listed, None), next(known, None)
    while one or other:
        if other is None or (one and one.uri < other.uri):
            yield one, None
            one = next(listed, None)
        elif one is None or other.uri < one.uri:
            yield None, other
            other = next(known, None)
        else:
            yield one, other
            one, other = next(listed, None), next(known, None)


def _sorted(listed):
    last = ""
    for entry in listed:
        if entry.uri <= last:
            raise S3Unavailable(
                f"the store does not list its objects in order: {entry.uri} comes "
                f"after {last}; they cannot be compared with the database"
            )
        last = entry.uri
        yield entry


def find(
    listed: Listed | None,
    known: Known | None,
    own: bool,
    content: bool,
    limit: datetime,
) -> Finding | None:
    """Say what is wrong with an address, if anything.

    :param own: this database may delete there
    :param content: the key is one that this addon makes
    :param limit: an orphan that was stored after this time is a recent one
    """
    if known and known.referenced:
        if not listed:
            return Finding(MISSING, known.uri, None, None)
        if {known.smallest, known.largest} - {listed.size, None}:
            return Finding(WRONG_SIZE, *listed)
        return None
    if not listed or not own:
        return None
    if not content:
        return Finding(UNKNOWN, *listed)
    if known:
        return Finding(NOTED, *listed)
    return Finding(ORPHAN if listed.modified <= limit else RECENT, *listed)
