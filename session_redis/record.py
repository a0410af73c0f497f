"""How a session lies in Redis, and how two versions of one are merged.

Two keys per login, named after the identifier: the first 42 of the 84 characters of a
session id, which Odoo also stores in PostgreSQL for its list of devices::

    session:<prefix>:{Ab}Cd…            the session
    session:<prefix>:{Ab}Cd…:previous   for 120 s after a rotation

Redis Cluster puts them in a slot by what stands in braces, which a session that
follows another one shares with it: so one script can replace the one by the other.

The other 42 characters are the secret. Redis never sees them: a value begins with the
digest of the session id that may read it. The session id that follows a
rotation is derived from its predecessor and a random number (see
:func:`successor_sid`), because Odoo's own ``next_sid`` in a value would be a usable
cookie.
"""

import base64
import hashlib
import hmac
import json
import os
import struct
import time
from typing import NamedTuple

from odoo.http import SESSION_DELETION_TIMER, STORED_SESSION_BYTES

#: format, version, digest, lifetime in seconds, time of writing in seconds
_HEADER = struct.Struct(">B8s16sII")
_FORMAT = 1
#: first and last byte for the Lua scripts, which count from 1
VERSION_SLICE = "2, 9"
DIGEST_SLICE = "10, 25"
#: half of a SHA-256: nobody finds another session id for 128 bits, and with them a
#: session of 470 bytes stays below the 512 in which Redis allocates it
DIGEST_BYTES = 16
NONCE_BYTES = 32
#: characters of an identifier that choose the slot of a cluster: 4096 slots are used
TAG_BYTES = 2

#: Who is logged in. Never merged: a change of them belongs to one request only.
IDENTITY = ("uid", "login", "session_token", "pre_uid", "pre_login")
#: what a session shows differently to those who still use its previous session id
PREVIOUS_ONLY = ("session_token", "create_time", "deletion_time", "next_sid")


class UnreadableRecord(ValueError):
    """A value in Redis that this version of the addon did not write."""


class Previous(NamedTuple):
    """A rotated session id, as long as late requests may use it."""

    digest: bytes
    nonce: bytes
    #: ``session_token`` and ``create_time`` of that session id
    values: dict


class Stored(NamedTuple):
    """A session as Redis has it."""

    #: the session id with which it was read or written
    sid: str
    #: random, new with each write
    version: bytes
    #: of the session id that is in use, which is not ``sid`` after a rotation
    digest: bytes
    lifetime_seconds: int
    written_at: int
    json: bytes
    #: set when ``sid`` was rotated away
    previous: Previous | None = None

    def values(self) -> dict:
        """Return the session's values, the same for both session ids.

        :raises UnreadableRecord: when they are no JSON object
        """
        return _loads(self.json)

    def view(self) -> dict:
        """Return the values as the holder of ``sid`` must see them."""
        values = self.values()
        if self.previous:
            values.update(self.previous.values)
            # Redis alone says when it is over. By this clock, which may be ahead of
            # the one that rotated, Odoo would log out the successor with it.
            values["deletion_time"] = time.time() + SESSION_DELETION_TIMER
            values["next_sid"] = successor_sid(self.sid, self.previous.nonce)
        return values

    def encode(self) -> bytes:
        return (
            _HEADER.pack(
                _FORMAT,
                self.version,
                self.digest,
                self.lifetime_seconds,
                self.written_at,
            )
            + self.json
        )


def digest(sid: str) -> bytes:
    """Return what Redis knows of a session id.

    A session id has 378 random bits, so that a plain SHA-256 cannot be searched.
    """
    return hashlib.sha256(sid.encode()).digest()[:DIGEST_BYTES]


def short(sid: str) -> str:
    """Return a name for a session id in logs, which nobody can log in with."""
    return hashlib.sha256(sid.encode()).hexdigest()[:10]


def new_version() -> bytes:
    return os.urandom(8)


def new_nonce() -> bytes:
    return os.urandom(NONCE_BYTES)


def successor_sid(sid: str, nonce: bytes) -> str:
    """Return the session id that follows ``sid`` when it is rotated with ``nonce``.

    As Odoo does, it keeps the identifier. The nonce leaves Redis when the predecessor
    does, and then nobody who only has the old session id gets at the new one.
    """
    secret = hmac.digest(sid.encode(), nonce, "sha512")
    text = base64.urlsafe_b64encode(secret).decode()
    return sid[:STORED_SESSION_BYTES] + text[:STORED_SESSION_BYTES]


_encode = json.JSONEncoder(separators=(",", ":")).encode


def dumps(values: dict) -> bytes:
    return _encode(values).encode()


def _loads(text: bytes) -> dict:
    try:
        values = json.loads(text.decode())  # which is faster than from bytes
    except ValueError:
        # without the error's text and context, which quote the session
        raise UnreadableRecord("session record without JSON") from None
    if not isinstance(values, dict):
        raise UnreadableRecord("session record without a JSON object")
    return values


def encode_previous(previous: Previous) -> bytes:
    return previous.digest + previous.nonce + dumps(previous.values)


def decode(sid: str, current: bytes | None, previous: bytes | None) -> Stored | None:
    """Return what the holder of a session id may read.

    :param current: value of the session's key
    :param previous: value of the key of its predecessor
    :return: ``None`` when there is nothing for this session id
    :raises UnreadableRecord: when the value has another format
    """
    if current is None:
        return None
    try:
        number, version, current_digest, lifetime, written_at = _HEADER.unpack_from(
            current
        )
    except struct.error as error:
        raise UnreadableRecord("no session record") from error
    if number != _FORMAT:
        raise UnreadableRecord(f"session record of format {number}")
    own = digest(sid)
    rotated = None
    if not hmac.compare_digest(own, current_digest):
        if previous is None or not hmac.compare_digest(own, previous[:DIGEST_BYTES]):
            return None
        nonce_end = DIGEST_BYTES + NONCE_BYTES
        rotated = Previous(
            digest=own,
            nonce=previous[DIGEST_BYTES:nonce_end],
            values=_loads(previous[nonce_end:]),
        )
    return Stored(
        sid,
        version,
        current_digest,
        lifetime,
        written_at,
        current[_HEADER.size :],
        rotated,
    )


def read_values(current: bytes) -> dict:
    """Return the values of a session's key, for whoever may read all of Redis.

    :raises UnreadableRecord: when the value has another format
    """
    if current[:1] != bytes([_FORMAT]):
        raise UnreadableRecord("no session record of this format")
    return _loads(current[_HEADER.size :])


def changed(base: dict, mine: dict, theirs: dict, ignore: tuple = ()) -> dict:
    """Apply to ``theirs`` what distinguishes ``mine`` from ``base``, key by key."""
    result = dict(theirs)
    for key in {*base, *mine}.difference(ignore):
        if key not in mine:
            result.pop(key, None)
        elif key not in base or mine[key] != base[key]:
            result[key] = mine[key]
    return result


def merge(base: dict, mine: dict, theirs: dict, rotated: bool) -> dict | None:
    """Merge the changes of one request with those that others have stored meanwhile.

    :param base: the values with which the request began
    :param mine: the values with which it ends
    :param theirs: the values that are stored now
    :param rotated: whether the session id of the request was rotated meanwhile, so
        that its token and its time of creation count no more
    :return: what to store, or ``None`` when the session is somebody else's now
    """
    fields = [name for name in IDENTITY if not (rotated and name == "session_token")]

    def identity(values):
        return [values.get(name) for name in fields]

    if base.get("uid") and not mine.get("uid"):
        return mine  # logging out wins over everything
    if identity(theirs) not in (identity(base), identity(mine)):
        return None
    if identity(mine) != identity(base) and identity(mine) != identity(theirs):
        return None if rotated else mine
    return changed(base, mine, theirs, PREVIOUS_ONLY if rotated else ())
