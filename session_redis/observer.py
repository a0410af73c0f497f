"""Who wants to know what the session store asks of Redis, and how long it takes."""

from collections.abc import Callable

#: Called after each operation with its name (``get``, ``save``, ``rotate``,
#: ``delete``, ``missing``), its duration in seconds and its error or ``None``. A
#: callback runs in the request and must neither block nor raise. Empty: no cost.
observers: list[Callable[[str, float, Exception | None], None]] = []
