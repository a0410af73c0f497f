import re
import secrets

from odoo import api, fields, models, tools
from odoo.sql_db import db_connect
from odoo.tools import SQL

from ..ownership import IS_NEUTRALIZED, UUID, identity
from ..settings import load


class AttachmentS3Prefix(models.Model):
    """Folders of the bucket that this database may delete from, with whose they are.

    A database writes and deletes only under the prefix of its own identity. A copy has
    another one, so that it reads what the original stored and leaves it alone.
    """

    _name = "attachment.s3.prefix"
    _description = "Own Folder of a Database in the Bucket"
    _log_access = False
    _rec_name = "prefix"

    prefix = fields.Char(required=True, readonly=True)
    dbname = fields.Char("Database", required=True, readonly=True)
    uuid = fields.Char("Database UUID", required=True, readonly=True)
    running_env = fields.Char("Environment", required=True, readonly=True)
    neutralized = fields.Boolean(required=True, readonly=True)

    _identity_unique = models.Constraint(
        "UNIQUE(dbname, uuid, running_env, neutralized)",
        "A database has one prefix.",
    )

    @api.model
    def _own_prefix(self) -> str:
        """Return the prefix of this database, made when it has none yet.

        :raises S3ConfigurationError: for an invalid variable
        """
        return self._prefix_of(*self._identity())

    @api.model
    def _identity(self) -> tuple[str, str, str, bool]:
        """Return what tells this database from a copy of it."""
        parameter = self.env["ir.config_parameter"].sudo().get_param
        return identity(self.env.cr.dbname, parameter(UUID), parameter(IS_NEUTRALIZED))

    @api.model
    def _prefix_to_delete_from(self) -> str | None:
        """Return the prefix of this database as it is now; ``None``: it has none yet.

        Past all caches: a restore neutralizes a database by SQL when its registry is
        loaded already, and what the original stored is not the copy's to delete.

        :raises S3ConfigurationError: for an invalid variable
        """
        with db_connect(self.env.cr.dbname).cursor() as cr:
            cr.execute(
                SQL(
                    "SELECT key, value FROM ir_config_parameter WHERE key = ANY(%s)",
                    [UUID, IS_NEUTRALIZED],
                )
            )
            parameter = dict(cr.fetchall()).get
            cr.execute(
                SQL(
                    """SELECT prefix FROM attachment_s3_prefix
                        WHERE (dbname, uuid, running_env, neutralized) = %s""",
                    identity(cr.dbname, parameter(UUID), parameter(IS_NEUTRALIZED)),
                )
            )
            row = cr.fetchone()
            return row[0] if row else None

    @tools.ormcache("dbname", "uuid", "running_env", "neutralized")
    def _prefix_of(self, dbname, uuid, running_env, neutralized):
        # Its own transaction: the prefix has to be there for all others before the
        # first object is, and to stay when this transaction is rolled back.
        identity = (dbname, uuid, running_env, neutralized)
        with db_connect(self.env.cr.dbname).cursor() as cr:
            # who waits for another's first prefix has to see it afterwards
            cr.execute("SET TRANSACTION ISOLATION LEVEL READ COMMITTED")
            cr.execute("SET LOCAL lock_timeout TO '10s'")
            cr.execute(
                SQL(
                    """INSERT INTO attachment_s3_prefix
                           (prefix, dbname, uuid, running_env, neutralized)
                       VALUES %s ON CONFLICT DO NOTHING""",
                    (self._new_prefix(dbname), *identity),
                )
            )
            cr.execute(
                SQL(
                    """SELECT prefix FROM attachment_s3_prefix
                        WHERE (dbname, uuid, running_env, neutralized) = %s""",
                    identity,
                )
            )
            return cr.fetchone()[0]

    @api.model
    def _new_prefix(self, dbname):
        folder = (load().prefix or "").rstrip("/")
        name = re.sub(r"[^a-z0-9-]+", "-", dbname.lower()).strip("-")[:63]
        prefix = f"{name or 'odoo'}-{secrets.token_hex(6)}"
        return f"{folder}/{prefix}" if folder else prefix
