import secrets
import unittest

from odoo import api, http
from odoo.modules.registry import DummyRLock, Registry
from odoo.tests import BaseCase, get_db_name

from .. import connection, settings
from ..store import RedisSessionStore

USER_ID = 2  # the administrator of every database


def redis_settings(**values):
    """Return the settings of the environment with a prefix of their own.

    Lives are short, so that what a test leaves behind vanishes by itself.
    """
    own = settings.load()
    if own is None:
        raise unittest.SkipTest("ODOO_SESSION_REDIS is not set")
    return own.model_copy(
        update={
            "prefix": f"{own.prefix or 'odoo'}-test-{secrets.token_hex(6)}",
            "expiration": 600,
            "expiration_anonymous": 300,
            "expiration_temporary": 100,
            **values,
        }
    )


class StoreCase(BaseCase):
    """A store on the real Redis, with keys of its own."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.settings = cls.make_settings()
        cls.client = connection.connect(cls.settings)
        cls.addClassCleanup(cls.client.close)
        cls.store = RedisSessionStore(cls.settings, lambda: cls.client)
        cls.database = get_db_name()
        # the server holds it while it runs tests; our threads only look up registries
        cls.classPatch(Registry, "_lock", DummyRLock())

    @classmethod
    def make_settings(cls):
        """Return the settings of the Redis to test on."""
        return redis_settings()

    def cursor_env(self):
        """Return a context manager with a cursor's environment."""
        return CursorEnv(self.database)

    def new_session(self, uid=None, **values):
        """Store a session; with a user id, as after a login."""
        session = self.store.new()
        session.update(http.get_default_session(), db=self.database, **values)
        session.context["lang"] = "en_US"
        if uid:
            with self.cursor_env() as env:
                token = env["res.users"].browse(uid)._compute_session_token(session.sid)
            session.update({"uid": uid, "login": "admin", "session_token": token})
        self.store.save(session)
        return session

    def read_again(self, session):
        """Read a session as another request does."""
        return self.store.get(session if isinstance(session, str) else session.sid)

    def keys_of(self, session):
        return self.store._keys(session.sid)

    def assertStored(self, session):
        self.assertFalse(self.read_again(session).is_new)

    def assertMissing(self, session):
        found = self.read_again(session)
        self.assertTrue(found.is_new)
        self.assertFalse(dict(found))


class CursorEnv:
    def __init__(self, database):
        self.database = database

    def __enter__(self):
        self.cr = Registry(self.database).cursor()
        return api.Environment(self.cr, USER_ID, {})

    def __exit__(self, *_error):
        self.cr.close()
