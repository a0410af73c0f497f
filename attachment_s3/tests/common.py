"""What the tests of the addon share: the real store that the environment names."""

import contextlib
import os
import threading
from unittest.mock import patch

import odoo
from odoo import SUPERUSER_ID, api
from odoo.orm.registry import DummyRLock, Registry
from odoo.tests import BaseCase, TransactionCase, get_db_name

from ..configuration import LOCATION, split_uri
from ..exceptions import S3ObjectMissing
from ..observers import observers

#: large enough not to stay in the database
PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d494844520000000100000001080600000"
    "01f15c4890000000d49444154789c6360606060000000050001a5f645400000000049454e44ae426082"
)


#: of contents that tests draw at random: some look like a picture, which is kept in the
#: database
MIMETYPE = "application/x-test"


def variables(**values):
    """Set environment variables; an empty value is as good as none."""
    return patch.dict(os.environ, values)


class Operations:
    """Context manager that records the operations on the store."""

    def __init__(self):
        self.all = []
        self._told = threading.Condition()

    def __enter__(self):
        observers.append(self._tell)
        return self

    def __exit__(self, *_exception):
        observers.remove(self._tell)

    def _tell(self, operation):
        with self._told:
            self.all.append(operation)
            self._told.notify_all()

    @property
    def names(self):
        return [operation.name for operation in self.all]

    def wait_for(self, count, seconds=10):
        """Return the names as soon as there are some.

        A download ends in the server after its last byte has reached the client.
        """
        with self._told:
            self._told.wait_for(lambda: len(self.all) >= count, seconds)
            return self.names


class Objects:
    """The store, seen past the addon's models."""

    def __init__(self, env):
        self.config = env["ir.attachment"]._s3_configuration()

    def get(self, uri):
        bucket, key = split_uri(uri)
        return self.config.store(bucket).get(key)

    def exists(self, uri):
        with contextlib.suppress(S3ObjectMissing):
            bucket, key = split_uri(uri)
            self.config.store(bucket).size(key)
            return True
        return False

    def delete(self, *uris):
        for uri in uris:
            bucket, key = split_uri(uri)
            self.config.store(bucket).delete([key])

    def put(self, uri, content):
        bucket, key = split_uri(uri)
        self.config.store(bucket).put(key, content)


class S3Case(TransactionCase):
    """Attachments are in S3 while its tests run."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        cls.env["ir.config_parameter"].set_param(LOCATION, "s3://")
        cls.attachment = cls.env["ir.attachment"]
        cls.objects = Objects(cls.env)

    def make(self, raw=None, **vals):
        raw = os.urandom(1000) if raw is None else raw
        vals = {"name": "test.bin", "raw": raw, "mimetype": MIMETYPE, **vals}
        return self.attachment.create(vals)


class CommittedCase(BaseCase):
    """Tests with transactions that really commit, and clean up after themselves."""

    @classmethod
    def setUpClass(cls):
        super().setUpClass()
        # the test runner holds the lock, which threads of the tests would wait for
        lock = patch.object(Registry, "_lock", DummyRLock())
        lock.start()
        cls.addClassCleanup(lock.stop)
        cls.registry = Registry(get_db_name())
        with cls.registry.cursor() as cr:
            env = api.Environment(cr, SUPERUSER_ID, {})
            cls.location = env["ir.config_parameter"].get_param(LOCATION)
        cls.set_parameter(LOCATION, "s3://")
        cls.addClassCleanup(cls.set_parameter, LOCATION, cls.location)
        with cls.registry.cursor() as cr:
            cls.objects = Objects(api.Environment(cr, SUPERUSER_ID, {}))

    @classmethod
    def set_parameter(cls, key, value):
        with cls.registry.cursor() as cr:
            api.Environment(cr, SUPERUSER_ID, {})["ir.config_parameter"].set_param(
                key, value
            )
        cls.registry.clear_all_caches()

    def setUp(self):
        super().setUp()
        self.addCleanup(self.remove_leftovers)
        self.enterContext(variables(AWS_ATTACHMENT_RETENTION_DAYS="0"))

    @contextlib.contextmanager
    def environment(self, commit=True):
        """A transaction of its own, with its environment."""
        cr = odoo.sql_db.db_connect(self.registry.db_name).cursor()
        try:
            yield api.Environment(cr, SUPERUSER_ID, {})
            if commit:
                cr.commit()  # pylint: disable=invalid-commit
        finally:
            cr.close()

    def make(self, env, raw, **vals):
        vals = {
            "name": "attachment_s3 test",
            "raw": raw,
            "mimetype": MIMETYPE,
            **vals,
        }
        return env["ir.attachment"].create(vals)

    def create_committed(self, raw, **vals):
        """Return the id and the address of a new attachment."""
        with self.environment() as env:
            attachment = self.make(env, raw, **vals)
            return attachment.id, attachment.store_fname

    def unlink_committed(self, *ids):
        with self.environment() as env:
            env["ir.attachment"].browse(ids).unlink()

    def collect(self):
        with self.environment() as env:
            env["attachment.s3.garbage"]._collect()

    def garbage(self, uri):
        with self.environment() as env:
            return env["attachment.s3.garbage"].search_count([("uri", "=", uri)])

    def remove_leftovers(self):
        with self.environment() as env:
            env["ir.attachment"].search([("name", "=", "attachment_s3 test")]).unlink()
        self.collect()

    def in_thread(self, function):
        """Run a function in a thread.

        :return: the thread, whose ``join`` raises what the function raised
        """
        return _Thread(function)


class _Thread(threading.Thread):
    def __init__(self, function):
        super().__init__(daemon=True)
        self.function, self.error, self.result = function, None, None
        self.start()

    def run(self):
        try:
            self.result = self.function()
        except Exception as error:
            self.error = error

    def finish(self, seconds=30):
        """Wait for the end and return the function's result."""
        self.join(seconds)
        if self.is_alive():
            raise TimeoutError("the thread still runs")
        if self.error:
            raise self.error
        return self.result
