"""Hooks for metrics: who wants to know about the operations on the object store, and
how far a move of attachments is.

Add a callable to :data:`observers`; it is called after each operation, in the thread
that made it, with an :class:`Operation`. While the list is empty nothing is measured.
An observer must be quick and must not raise. Those of :data:`move_observers` are called
with a :class:`Move` when one begins, after each batch and when it ends.

>>> from odoo.addons.attachment_s3 import observers
>>> observers.observers.append(lambda operation: print(operation.name))
"""

import time
from collections.abc import Callable
from contextlib import contextmanager
from typing import NamedTuple


class Operation(NamedTuple):
    """One operation on the object store.

    :param name: ``put``, ``get``, ``head``, ``delete`` or ``list``; ``cached`` is a
        ``get`` that needed no request
    :param seconds: from the call to the end of the content; for a streamed download
        that includes the time in which the receiver was slow
    :param bytes: content sent or received
    :param error: the exception; ``S3ObjectMissing`` is a missing object. ``None``:
        it worked
    """

    name: str
    seconds: float
    bytes: int
    error: Exception | None


class Move(NamedTuple):
    """How far a move of attachments is.

    :param database: name of the database
    :param target: where they go: ``s3``, ``db`` or ``file``
    :param state: ``running``, or as it ended: ``done``, ``cancelled``, ``failed``,
        ``interrupted``, ``waiting`` (for the next turn of its scheduled action)
    :param total: contents to move when it began
    :param moved: of these, contents that have arrived
    :param failed: of these, contents that could not be moved and were left
    :param total_bytes: size of all
    :param moved_bytes: size of those that have arrived
    """

    database: str
    target: str
    state: str
    total: int
    moved: int
    failed: int
    total_bytes: float
    moved_bytes: float


observers: list[Callable[[Operation], None]] = []
move_observers: list[Callable[[Move], None]] = []


def tell_move(database: str, state: str, progress):
    """Tell the observers of moves, if any.

    :param progress: ``progress.Progress``
    """
    for observer in tuple(move_observers):
        observer(
            Move(
                database,
                progress.target,
                state,
                progress.total,
                progress.moved,
                progress.failed,
                progress.total_bytes,
                progress.moved_bytes,
            )
        )


class Measure:
    """Collects the figures of one operation; reported by :meth:`done`."""

    __slots__ = ("bytes", "name", "start")

    def __init__(self, name: str):
        self.name = name
        self.bytes = 0
        self.start = time.monotonic() if observers else 0.0

    def done(self, error: Exception | None = None):
        """Tell the observers, if any."""
        if not observers or not self.start:
            return
        seconds = time.monotonic() - self.start
        operation = Operation(self.name, seconds, self.bytes, error)
        for observer in tuple(observers):
            observer(operation)


@contextmanager
def measured(name: str):
    """Measure the block as one operation, which may set ``bytes``."""
    measure = Measure(name)
    try:
        yield measure
    except Exception as error:
        measure.done(error)
        raise
    measure.done()
