"""Sessions of before the switch: Odoo's files, and keys of the 2016 addon."""

import contextlib
import glob
import json
import os
import time

#: what Odoo's own store writes into a session that was rotated away
ROTATED = ("next_sid", "deletion_time")


def parse(text: str | bytes) -> dict | None:
    """Return a session's values, or ``None`` when they are of no use any more."""
    try:
        values = json.loads(text)
    except ValueError:
        return None  # as Odoo's own store: a damaged session is none
    if not isinstance(values, dict) or any(name in values for name in ROTATED):
        return None
    values.pop("gc_previous_sessions", None)
    return values


def keys(prefix: str | None, sid: str) -> list[str]:
    """Return the keys that the 2016 addon may have given a session.

    With a prefix it writes ``session::<prefix>:<session id>``, although its readme says
    ``session:<prefix>:<session id>``, which others of its kind write.

    :param prefix: value of ``ODOO_SESSION_REDIS_PREFIX``
    """
    if not prefix:
        return [f"session:{sid}"]
    return [f"session::{prefix}:{sid}", f"session:{prefix}:{sid}"]


def read_file(folder: str, sid: str, max_age_seconds: int) -> dict | None:
    """Return the values of a session's file, or ``None`` when there is none to move.

    :param folder: of Odoo's file store; it need not exist
    :param sid: a valid session id
    :param max_age_seconds: older files are left to Odoo's own garbage collection
    """
    try:
        with open(_path(folder, sid), encoding="utf-8") as file:
            if time.time() - os.fstat(file.fileno()).st_mtime > max_age_seconds:
                return None
            return parse(file.read())
    except OSError:
        return None


def delete_file(folder: str, sid: str) -> bool:
    """Delete the file of a session, and tell whether there was one."""
    try:
        os.unlink(_path(folder, sid))
    except FileNotFoundError:
        return False
    return True


def _path(folder, sid):
    return os.path.join(folder, sid[:2], sid)


def delete_files(folder: str, identifier: str) -> None:
    """Delete the files of a revoked login.

    :param identifier: a valid one
    """
    pattern = os.path.join(glob.escape(folder), identifier[:2], identifier + "*")
    for path in glob.glob(pattern):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
