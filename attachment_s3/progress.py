"""The row of a move of attachments, and the lock of whoever moves.

Both are on a connection of their own. So the lock ends with the process however it
ends, and the row is read and written without a conflict with the transaction that
moves contents.
"""

# pylint: disable=invalid-commit; the cursors are this module's own

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, fields

import psycopg2

from odoo.sql_db import BaseCursor, db_connect
from odoo.tools import SQL

#: key of the advisory lock that a process holds while it moves attachments (two
#: arbitrary 32-bit numbers, the first one is no other lock's of this addon)
LOCK = (0x53336D67, 0)

#: contents that could not be moved and are told in the row; the log tells all
FAILURE_LINES = 200

NOW = SQL("date_trunc('second', clock_timestamp() AT TIME ZONE 'UTC')")


@contextmanager
def exclusive(dbname: str) -> Iterator[BaseCursor | None]:
    """Hold the lock of moves, of the whole session and not of a transaction.

    :return: a cursor of the connection that holds the lock; ``None``: another has it
    """
    with db_connect(dbname).cursor() as cr:
        cr.execute(SQL("SELECT pg_try_advisory_lock%s", LOCK))
        [(free,)] = cr.fetchall()
        # no transaction stays open: it would keep PostgreSQL from cleaning up
        cr.commit()
        if not free:
            yield None
            return
        try:
            yield cr
        finally:
            # on a broken connection there is no lock any more
            with suppress(psycopg2.Error):
                cr.rollback()
                # it would outlive the cursor, whose connection others use next
                cr.execute(SQL("SELECT pg_advisory_unlock%s", LOCK))


def is_locked(cr: BaseCursor) -> bool:
    """Tell whether a process moves attachments of this database now."""
    cr.execute(
        SQL(
            """SELECT 1 FROM pg_locks
                WHERE locktype = 'advisory' AND granted
                  AND (classid, objid, objsubid) = (%s, %s, 2)
                  AND database = (SELECT oid FROM pg_database
                                   WHERE datname = current_database())""",
            *LOCK,
        )
    )
    return bool(cr.rowcount)


@dataclass
class Result:
    """What became of the contents of a batch.

    :param failures: why some of them were left, a line for each source
    """

    moved: int = 0
    bytes: int = 0
    failed: int = 0
    failures: list[str] = field(default_factory=list)

    def add(self, other: "Result") -> None:
        """Count another batch too."""
        self.moved += other.moved
        self.bytes += other.bytes
        self.failed += other.failed
        self.failures += other.failures


@dataclass
class Progress:
    """What a row of ``attachment.s3.migration`` says, while its move goes on.

    :param seconds: for which it was active
    :param position: id of the last attachment that was looked at
    :param failures: a line for each of the first contents that could not be moved
    """

    id: int
    target: str
    total: int = 0
    total_bytes: float = 0
    moved: int = 0
    moved_bytes: float = 0
    failed: int = 0
    seconds: float = 0
    position: int = 0
    failures: str | None = None

    def add(self, result: Result) -> None:
        """Count a batch."""
        self.moved += result.moved
        self.moved_bytes += result.bytes
        self.failed += result.failed
        lines = [*(self.failures or "").splitlines(), *result.failures]
        self.failures = "\n".join(lines[:FAILURE_LINES]) or None

    @property
    def left(self) -> int:
        return max(self.total - self.moved - self.failed, 0)

    @property
    def bytes_per_second(self) -> float:
        return self.moved_bytes / self.seconds if self.seconds else 0

    @property
    def seconds_left(self) -> float:
        """Estimated from bytes, or from contents when their sizes are not known."""
        if self.total_bytes and self.moved_bytes:
            bytes_left = max(self.total_bytes - self.moved_bytes, 0)
            return bytes_left / self.bytes_per_second if self.left else 0
        done = self.moved + self.failed
        return self.left * self.seconds / done if done else 0


COLUMNS = tuple(column.name for column in fields(Progress))


def create(cr: BaseCursor, target: str) -> int:
    """Commit a new row and return its id."""
    cr.execute(
        SQL(
            """INSERT INTO attachment_s3_migration (target, state, started_at)
               VALUES (%s, 'running', %s) RETURNING id""",
            target,
            NOW,
        )
    )
    [(id_,)] = cr.fetchall()
    cr.commit()
    return id_


def read(cr: BaseCursor, id_: int) -> Progress:
    """Return the progress that a row tells."""
    cr.execute(
        SQL(
            "SELECT %s FROM attachment_s3_migration WHERE id = %s",
            SQL(", ").join(map(SQL.identifier, COLUMNS)),
            id_,
        )
    )
    [values] = cr.fetchall()
    cr.commit()
    known = zip(COLUMNS, values, strict=True)
    return Progress(**{name: value for name, value in known if value is not None})


def write(cr: BaseCursor, progress: Progress, **values) -> bool:
    """Write and commit the progress, and other values, to its row.

    :return: whether somebody asked to cancel the move
    """
    # who asks so writes to the same row: each waits for the other, and none fails
    cr.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
    names = [name for name in COLUMNS if name != "id"]
    values = {name: getattr(progress, name) for name in names} | values
    cr.execute(
        SQL(
            """UPDATE attachment_s3_migration
                  SET updated_at = %s, %s WHERE id = %s
               RETURNING cancel_requested""",
            NOW,
            SQL(", ").join(
                SQL("%s = %s", SQL.identifier(name), value)
                for name, value in values.items()
            ),
            progress.id,
        )
    )
    [(cancelled,)] = cr.fetchall()
    cr.commit()
    return bool(cancelled)
