"""Whose an object is, and what may be removed with a database."""

import logging
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import psycopg2

from odoo.sql_db import connection_info_for, db_connect
from odoo.tools import SQL, config, str2bool
from odoo.tools.sql import table_exists

from .configuration import HOST, LOCATION, READONLY, SCHEME, configuration
from .exceptions import S3Error
from .settings import load
from .store import DELETE_KEYS, S3Store

_logger = logging.getLogger(__name__)

UUID = "database.uuid"
IS_NEUTRALIZED = "database.is_neutralized"


def identity(
    dbname: str, uuid: str | None, is_neutralized: str | None
) -> tuple[str, str, str, bool]:
    """Return what tells a database from a copy of it.

    The running environment is looked up as OCA's ``server_environment`` does it: the
    configuration file first.

    :param uuid: system parameter ``database.uuid``
    :param is_neutralized: system parameter ``database.is_neutralized``
    :raises S3ConfigurationError: for an invalid variable
    """
    settings = load()
    names = (config.get("running_env"), settings.running_env, settings.stage)
    return (
        dbname,
        uuid or "",
        next(filter(None, names), ""),
        str2bool(is_neutralized or "", False),
    )


@dataclass(frozen=True)
class Folder:
    """The objects that a database stored as the one that it is now."""

    store: S3Store
    prefix: str

    @property
    def address(self) -> str:
        return f"{SCHEME}{self.store.bucket}/{self.prefix}/"


def folder_to_remove(dbname: str) -> Folder | None:
    """Return the folder that may be removed when a database is dropped.

    Reads the database without its registry: it may be one of another version.

    :return: ``None`` when nothing may be removed
    :raises S3ConfigurationError: for an invalid variable or parameter
    :raises psycopg2.Error: when the database cannot be read
    """
    if not load().delete_on_drop:
        return None
    with closing(db_connect(dbname).cursor()) as cr:
        if not table_exists(cr, "attachment_s3_prefix"):
            return None
        keys = [LOCATION, HOST, READONLY, UUID, IS_NEUTRALIZED]
        cr.execute(
            SQL("SELECT key, value FROM ir_config_parameter WHERE key = ANY(%s)", keys)
        )
        parameter = dict(cr.fetchall()).get
        settings = (parameter(key) or None for key in (LOCATION, HOST, READONLY))
        place = configuration(dbname, *settings)
        if not place.writable:
            return None
        cr.execute(
            SQL(
                """SELECT prefix FROM attachment_s3_prefix
                    WHERE (dbname, uuid, running_env, neutralized) = %s""",
                identity(dbname, parameter(UUID), parameter(IS_NEUTRALIZED)),
            )
        )
        row = cr.fetchone()
        return Folder(place.store(), row[0]) if row else None


def remove(folder: Folder) -> None:
    """Delete a folder of a database that was dropped; what is left is logged.

    It is kept when another database refers to an object in it. A page of the listing
    is in memory.
    """
    deleted, left = 0, 0
    try:
        if user := next(users_of(folder.address), None):
            _logger.warning("%s is kept: database %s uses it", folder.address, user)
            return
        objects = folder.store.list(f"{folder.prefix}/")
        while keys := [item["Key"] for item in islice(objects, DELETE_KEYS)]:
            results = folder.store.delete(keys)
            failed = [key for key, reason in results.items() if reason]
            for key in failed[:10]:
                _logger.warning("Could not delete %s: %s", key, results[key])
            left += len(failed)
            deleted += len(keys) - len(failed)
    except (S3Error, psycopg2.Error) as error:
        # the database is gone: all that can be done is to tell
        _logger.error(
            "%s is not removed completely (%s objects deleted): %s",
            folder.address,
            deleted,
            error,
        )
        return
    level = logging.ERROR if left else logging.INFO
    _logger.log(level, "%s: %s objects deleted, %s left", folder.address, deleted, left)


def users_of(address: str, besides: str | None = None) -> Iterator[str]:
    """Yield the databases of this PostgreSQL user that refer to objects of a folder.

    :param besides: a database that is not looked at
    :raises psycopg2.Error: when one cannot be read
    """
    with closing(db_connect("postgres").cursor()) as cr:
        # as Odoo's list of databases, which depends on the command line
        cr.execute(
            """SELECT datname FROM pg_database
                WHERE datdba = (SELECT usesysid FROM pg_user
                                 WHERE usename = current_user)
                  AND datallowconn AND datname NOT IN ('postgres', 'template1')"""
        )
        names = [name for (name,) in cr.fetchall() if name != besides]
    for name in names:
        refers = (
            "SELECT 1 FROM ir_attachment WHERE starts_with(store_fname, %s) LIMIT 1"
        )
        if _query(name, refers, [address]):
            yield name


def referenced_in(dbname: str, uris: list[str]) -> set[str]:
    """Return those of some objects to which a database refers.

    :raises psycopg2.Error: when it cannot be read
    """
    rows = _query(
        dbname,
        "SELECT DISTINCT store_fname FROM ir_attachment WHERE store_fname = ANY(%s)",
        [uris],
    )
    return {uri for (uri,) in rows}


def _query(dbname, query, arguments):
    """Ask another database for attachments; there may be no such table."""
    # not Odoo's pool: an idle connection would be in the way of a duplication
    _name, connection_info = connection_info_for(dbname)
    with (
        closing(psycopg2.connect(**connection_info)) as connection,
        connection.cursor() as cr,
    ):
        # a module may be upgraded there, while writers here wait for this answer
        cr.execute("SET lock_timeout TO '2s'")
        cr.execute("SELECT to_regclass('ir_attachment')")
        if not cr.fetchone()[0]:
            return []
        cr.execute(query, arguments)
        return cr.fetchall()
