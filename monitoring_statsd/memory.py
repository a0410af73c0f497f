"""The memory of this process, now and then."""

import os
import time

import psutil

import odoo
from odoo.service.server import memory_info
from odoo.tools import config

# Asking takes some 20 µs, and a chart needs no more, in seconds.
SAMPLE_SECONDS = 10

_next_sample = 0.0


def sample(batch, work):
    """Add the memory of this process, unless it was added lately.

    :param batch: metrics.Batch
    :param str work: ``http`` or ``cron``, what this process does when it is one of
        several workers
    """
    global _next_sample
    now = time.monotonic()
    if now < _next_sample:
        return
    _next_sample = now + SAMPLE_SECONDS
    if odoo.evented:
        kind = "gevent"
    elif config["workers"]:
        kind = work
    else:
        kind = "threaded"
    batch.gauge("worker.memory", memory_info(psutil.Process(os.getpid())), kind)
