"""What an administrator does with all sessions; see ``odoo redissessions``."""

import base64
import json
import math
import time
from collections.abc import Iterator
from typing import TextIO

from redis.exceptions import RedisError

from odoo.http import STORED_SESSION_BYTES

from . import connection, record, settings
from .record import TAG_BYTES
from .store import RedisSessionStore

EXPORT_FORMAT = "odoo-session-redis-1"
#: keys that Redis looks at per SCAN, some tenths of a millisecond of its time
SCAN_COUNT = 500


class AdminError(Exception):
    """The command cannot do what it was asked; the text says why."""


def open_store() -> RedisSessionStore:
    """Return the store of the environment.

    :raises SessionRedisConfigurationError: when the variables cannot be used
    :raises AdminError: when sessions are not in Redis
    """
    values = settings.load()
    if values is None:
        raise AdminError("ODOO_SESSION_REDIS is not true: sessions are in files")
    return RedisSessionStore(values, lambda: connection.connect(values))


def count(store: RedisSessionStore) -> dict[str, int]:
    """Return how many sessions there are, by kind."""
    return count_for(store, math.inf)[0]


def count_for(store: RedisSessionStore, seconds: float) -> tuple[dict[str, int], bool]:
    """Count the sessions by kind, for some seconds at most.

    :return: the numbers, and whether these are all
    """
    deadline = time.monotonic() + seconds
    numbers = {"with a user": 0, "without a user": 0}
    for record_ in _records(store, every_key=seconds < math.inf):
        if time.monotonic() > deadline:
            return numbers, False
        if record_ is None:
            continue
        try:
            values = record.read_values(record_[1])
        except record.UnreadableRecord:
            continue  # of no use to anybody: the store ignores it, too
        numbers["with a user" if values.get("uid") else "without a user"] += 1
    return numbers, True


def sessions_by_user(store: RedisSessionStore, env) -> dict[str, list[dict]]:
    """Return the living sessions that Odoo's list of devices knows, by login.

    :return: ``identifier`` and ``last_activity`` of each
    """
    known = _identifiers(env, [])
    identifiers = {identifier for _user, identifier, _activity in known}
    missing = store.get_missing_session_identifiers(identifiers)
    users = {}
    for user, identifier, activity in known:
        if identifier not in missing:
            users.setdefault(user.login, []).append(
                {"identifier": identifier, "last_activity": activity}
            )
    return users


def revoke(store: RedisSessionStore, env, login: str) -> int:
    """End all sessions of a user, as the user's list of devices would.

    :return: how many were living
    :raises AdminError: when there is no such user
    """
    users = env["res.users"].with_context(active_test=False)
    user = users.search([("login", "=", login)])
    if not user:
        raise AdminError(f"no user has the login {login!r}")
    known = _identifiers(env, [("user_id", "=", user.id)])
    identifiers = sorted({identifier for _user, identifier, _activity in known})
    living = len(identifiers) - len(store.get_missing_session_identifiers(identifiers))
    store.delete_from_identifiers(identifiers)
    logs = env["res.device.log"].sudo()
    logs.search([("session_identifier", "in", identifiers)]).write({"revoked": True})
    return living


def export_sessions(store: RedisSessionStore, file: TextIO) -> int:
    """Write all sessions as lines of JSON, and return their number."""
    number = 0
    file.write(json.dumps({"format": EXPORT_FORMAT}) + "\n")
    for key, value, ttl_ms in _records(store):
        line = {
            "key": key.decode().removeprefix(store.key_prefix),
            "value": base64.b64encode(value).decode(),
            "expires_at": time.time() + ttl_ms / 1000,
        }
        file.write(json.dumps(line) + "\n")
        number += 1
    return number


def import_sessions(store: RedisSessionStore, file: TextIO) -> tuple[int, int]:
    """Add the sessions of an export.

    :return: how many were added, and how many were there already or have expired
    :raises AdminError: when the file is no export
    """
    added = skipped = 0
    try:
        if json.loads(file.readline()).get("format") != EXPORT_FORMAT:
            raise AdminError("the file is no export of sessions")
        for line in file:
            entry = json.loads(line)
            ttl_ms = int((entry["expires_at"] - time.time()) * 1000)
            key = store.key_prefix + entry["key"]
            value = base64.b64decode(entry["value"])
            if ttl_ms > 0 and store.client.set(key, value, px=ttl_ms, nx=True):
                added += 1
            else:
                skipped += 1
    except (ValueError, KeyError, AttributeError) as error:
        raise AdminError("the file is no export of sessions") from error
    except RedisError as error:
        raise AdminError(f"Redis: {error}") from error
    return added, skipped


def _identifiers(env, domain):
    return env["res.device.log"]._read_group(
        [("revoked", "=", False), *domain],
        ["user_id", "session_identifier"],
        ["last_activity:max"],
    )


def _records(store, every_key=False) -> Iterator[tuple[bytes, bytes, int] | None]:
    """Give key, value and remaining life in ms of each session.

    :param every_key: give ``None`` for each other key, so that who has little time can
        stop among those of others
    """
    # identifiers, and neither "…:previous" nor keys of the 2016 addon
    identifier = "{" + "?" * TAG_BYTES + "}" + "?" * (STORED_SESSION_BYTES - TAG_BYTES)
    pattern = store.key_prefix + identifier
    length, prefix = len(pattern.encode()), store.key_prefix.encode() + b"{"
    match = None if every_key else pattern
    try:
        for key in store.client.scan_iter(match, count=SCAN_COUNT):
            if len(key) == length and key.startswith(prefix):
                value, ttl_ms = store.client.get(key), store.client.pttl(key)
                if value is not None and ttl_ms > 0:
                    yield key, value, ttl_ms
            elif every_key:
                yield None
    except RedisError as error:
        raise AdminError(f"Redis: {error}") from error
