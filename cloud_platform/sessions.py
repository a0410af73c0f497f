"""Where HTTP sessions are, as ``session_redis`` understands its variables."""

import re
from dataclasses import dataclass
from urllib.parse import urlsplit

from .faults import Fault, settings_faults, variable_value

#: seconds for which sessions are counted, for a page
COUNT_SECONDS = 2


@dataclass(frozen=True)
class SessionStore:
    """The store of sessions, without its secrets.

    :param redis: whether it is in Redis
    :param address: whether a variable says where Redis is
    :param password: whether there is one
    :param prefix: of the keys, empty when there is none
    """

    redis: bool
    address: bool
    password: bool
    prefix: str


def _settings_class():
    # not at the top: an import before session_redis is loaded would make Odoo skip
    # its post_load
    from odoo.addons.session_redis.settings import Settings

    return Settings


def session_faults() -> list[Fault]:
    """Return what is wrong with the variables, alone and between them."""
    settings_class = _settings_class()
    faults = settings_faults(settings_class)
    if faults:
        return faults
    settings = settings_class()
    if not settings.enabled:
        return []
    return [
        Fault(_first_variable(sentence), sentence, "Correct these variables")
        for sentence in settings.faults()
    ]


def session_store() -> SessionStore:
    """Return where sessions are; the variables are valid."""
    settings = _settings_class()()

    def value(name):
        return variable_value(settings, f"ODOO_SESSION_REDIS{name}")

    url = value("_URL") or ""
    return SessionStore(
        redis=bool(value("")),
        address=bool(url or value("_HOST") or value("_SENTINEL_HOST")),
        password=bool(
            value("_PASSWORD") or value("_PASSWORD_FILE") or urlsplit(url).password
        ),
        prefix=value("_PREFIX") or "",
    )


def count_sessions() -> dict:
    """Return how many sessions Redis has, counted for a bounded time.

    :return: ``logged_in``, ``anonymous``, ``complete`` (false: there are more), or an
        ``error`` that says why they are not counted
    """
    # not at the top, see above
    from odoo.addons.session_redis import admin
    from odoo.addons.session_redis.exceptions import (
        SessionRedisConfigurationError,
        SessionStoreUnavailable,
    )

    try:
        numbers, complete = admin.count_for(admin.open_store(), COUNT_SECONDS)
    except (
        admin.AdminError,
        SessionRedisConfigurationError,
        SessionStoreUnavailable,
    ) as error:
        return {"error": str(error)}
    logged_in, anonymous = numbers.values()
    return {"logged_in": logged_in, "anonymous": anonymous, "complete": complete}


def _first_variable(sentence):
    found = re.search(r"ODOO_SESSION_REDIS\w*", sentence)
    return found[0] if found else "ODOO_SESSION_REDIS"
