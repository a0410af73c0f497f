"""Puts the store into Odoo's application."""

import functools
import logging
import os
import sys

import odoo.cli
from odoo import http

from . import connection, settings
from .exceptions import SessionRedisConfigurationError
from .store import RedisSessionStore

_logger = logging.getLogger(__name__)


def post_load():
    """Install the store when ``ODOO_SESSION_REDIS`` is true.

    A server with unusable variables stops: it would keep its sessions in local files,
    where no other front end finds them. A shell or a song starts all the same, and
    can repair what is wrong.
    """
    try:
        values = settings.load()
        if values is None:
            return
        store = RedisSessionStore(values, functools.partial(connection.connect, values))
        place = connection.describe(values)
    except SessionRedisConfigurationError as error:
        _logger.critical("%s", error)
        if odoo.cli.COMMAND in ("server", "start"):
            logging.shutdown()
            sys.exit(os.EX_CONFIG)
        return
    install(store)
    _logger.info("HTTP sessions are in Redis: %s", place)


def install(store: RedisSessionStore) -> None:
    """Make a store that of the application.

    ``Application.session_store`` is no setting but a cached property that names the
    file store. It has to stay a cached property of the class, since Odoo's tests drop
    cached values. A value that an early request has cached goes, or half of the
    process would use files.
    """
    application = type(http.root)
    prop = functools.cached_property(lambda self: store)
    prop.__set_name__(application, "session_store")
    application.session_store = prop
    vars(http.root).pop("session_store", None)
