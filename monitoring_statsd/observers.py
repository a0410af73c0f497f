"""Listen to the addons that keep attachments in S3 and sessions in Redis.

They know nothing of statsd: each has a list of callables that it calls after an
operation. This addon depends on neither, and imports neither: where one of them is
loaded, it is listened to.
"""

import contextlib
import sys

from . import metrics, requests


def observe_s3(operation):
    """Send an operation on the object store.

    :param operation: with ``name``, ``seconds``, ``bytes`` and ``error``
    """
    if not metrics.active():
        return
    with metrics.errors_logged(), _batch() as batch:
        batch.timing("s3.operation", operation.seconds, operation.name)
        if operation.bytes:
            batch.count("s3.bytes", operation.bytes, operation.name)
        _count_error(batch, "s3.error", operation.name, operation.error)


def observe_redis(operation, seconds, error, retries):
    """Send a session operation on Redis."""
    if not metrics.active():
        return
    with metrics.errors_logged(), _batch() as batch:
        batch.timing("redis.operation", seconds, operation)
        _count_error(batch, "redis.error", operation, error)
        if retries:
            batch.count("redis.retries", retries, operation)


def observe_move(move):
    """Send how far a move of attachments is."""
    if not metrics.active():
        return
    with metrics.errors_logged(), _batch() as batch:
        for state in ("total", "moved", "failed"):
            number = getattr(move, state)
            batch.gauge("migration.attachments", number, move.database, state)
        for state, size in (("total", move.total_bytes), ("moved", move.moved_bytes)):
            # statsd reads no exponents
            batch.gauge("migration.bytes", int(size), move.database, state)


# The module and the name of its list, by who listens
_OBSERVED = {
    observe_s3: ("odoo.addons.attachment_s3.observers", "observers"),
    observe_move: ("odoo.addons.attachment_s3.observers", "move_observers"),
    observe_redis: ("odoo.addons.session_redis.observer", "observers"),
}


def connect():
    """Listen to those addons that are loaded, once; to none when metrics are off."""
    if not metrics.active():
        return
    for observe, (module_name, list_name) in _OBSERVED.items():
        module = sys.modules.get(module_name)
        if module is not None and observe not in getattr(module, list_name):
            getattr(module, list_name).append(observe)


def _batch():
    """Return the request's batch, which leaves at its end, or one that leaves at the
    end of the block."""
    if request := requests.current():
        return contextlib.nullcontext(request.batch())
    return metrics.active().batch()


def _count_error(batch, name, operation, error):
    if error is not None:
        batch.count(name, 1, operation, type(error).__name__)
