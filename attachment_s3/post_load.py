"""Changes to Odoo where it offers no place for an override.

During an installation or upgrade Odoo loads base, and whatever comes before this addon,
with base's own ``ir.attachment`` alone. It would read each content in the bucket as an
empty one, which a stored computed field (a resized image, the logo of a company) makes
permanent, and write new contents to the disk of this machine. No override is there yet,
so these two methods of the base class itself have to know better.

The drop of a database is a function that knows local files only.
"""

import logging
from functools import wraps

import psycopg2

from odoo.orm.registry import Registry
from odoo.service import db
from odoo.tools import SQL

from . import ownership
from .configuration import STORAGE, configuration_of, is_uri, split_uri
from .exceptions import S3Error, S3ObjectMissing

_logger = logging.getLogger(__name__)

#: databases whose base was loaded before all of this
unprotected: set[str] = set()


def post_load() -> None:
    """Make the changes, once in a process."""
    _protect_base()
    _watch_drops()


def _protect_base():
    from odoo.addons.base.models.ir_attachment import IrAttachment

    if hasattr(IrAttachment._storage, "knows_attachment_s3"):
        return
    storage, file_read = IrAttachment._storage, IrAttachment._file_read

    @wraps(storage)
    def _storage(self):
        location = storage(self)
        # from there any machine can move it
        return "db" if location.startswith(STORAGE) and _comes(self.env) else location

    @wraps(file_read)
    def _file_read(self, fname, size=None):
        if is_uri(fname) and _comes(self.env):
            return _read(self.env, fname, size)
        return file_read(self, fname, size)

    _storage.knows_attachment_s3 = True
    IrAttachment._storage, IrAttachment._file_read = _storage, _file_read
    unprotected.update(Registry.registries)


def _comes(env):
    """Tell whether this addon is installed in a database, and not loaded yet."""
    if "attachment_s3" in env.registry._init_modules:
        return False
    env.cr.execute(
        SQL(
            """SELECT 1 FROM ir_module_module
                WHERE name = 'attachment_s3' AND state IN ('installed', 'to upgrade')"""
        )
    )
    return bool(env.cr.rowcount)


def _read(env, uri, size):
    config = configuration_of(env)
    if config.settings.disabled:
        return b""
    bucket, key = split_uri(uri)
    try:
        return config.store(bucket).get(key, size)
    except S3ObjectMissing:
        return b""  # as when all is loaded


def _watch_drops():
    """Let a drop remove the objects of the database, when the environment wants it."""
    if hasattr(db.exp_drop, "removes_objects"):
        return
    original = db.exp_drop

    @wraps(original)
    def exp_drop(db_name):
        folder = _folder_to_remove(db_name)
        dropped = original(db_name)
        if dropped and folder:
            ownership.remove(folder)
        return dropped

    exp_drop.removes_objects = True
    db.exp_drop = exp_drop


def _folder_to_remove(db_name):
    try:
        return ownership.folder_to_remove(db_name)
    except (S3Error, psycopg2.Error) as error:
        # who drops a database wants just that
        _logger.error("The objects of %s will not be removed: %s", db_name, error)
        return None
