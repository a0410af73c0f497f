"""Contents that one read asks for, downloaded several at a time.

Odoo computes the contents of many attachments one by one. Their downloads are started
together before that, and are here for as long as it computes.
"""

from collections.abc import Callable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

_CACHE_KEY = "attachment_s3.reads"


@contextmanager
def reading_ahead(cr, downloads: Mapping[str, Callable[[], bytes]], threads: int):
    """Run downloads beside the block, in their order.

    :param cr: cursor of the transaction that reads; the threads never use it
    :param downloads: a function without arguments for each ``store_fname``
    :param threads: most downloads at a time
    """
    pool = ThreadPoolExecutor(min(threads, len(downloads)), "attachment_s3")
    outer = cr.cache.get(_CACHE_KEY)
    cr.cache[_CACHE_KEY] = {
        fname: pool.submit(download) for fname, download in downloads.items()
    }
    try:
        yield
    finally:
        cr.cache[_CACHE_KEY] = outer
        # After an error nobody waits for the others: what has begun ends within the
        # timeouts, and the rest does not begin.
        pool.shutdown(wait=False, cancel_futures=True)


def read_ahead(cr, fname: str) -> Future | None:
    """Return the download of a content, if this read has one."""
    return (cr.cache.get(_CACHE_KEY) or {}).get(fname)
