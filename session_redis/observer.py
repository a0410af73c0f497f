"""Who wants to know what the session store asks of Redis, and how long it takes."""

import threading
from collections.abc import Callable

#: Called after each operation with its name (``get``, ``save``, ``rotate``,
#: ``delete``, ``missing``, ``import``), its duration in seconds, its error or
#: ``None``, and how often redis-py has tried again. A callback runs in the request and
#: must neither block nor raise. Empty: no cost.
observers: list[Callable[[str, float, Exception | None, int], None]] = []

_thread = threading.local()


def count_retry() -> None:
    """Note that the present operation of this thread is tried again."""
    _thread.retries = getattr(_thread, "retries", 0) + 1


def take_retries() -> int:
    """Return how often it was, and begin at 0 again."""
    retries = getattr(_thread, "retries", 0)
    _thread.retries = 0
    return retries
