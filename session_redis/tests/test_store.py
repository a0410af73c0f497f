import time

from odoo.tests import tagged

from .common import USER_ID, StoreCase
from .suites import (
    ContractSuite,
    DamageSuite,
    GhostSuite,
    RotationSuite,
    SecrecySuite,
)


@tagged("post_install", "-at_install")
class TestStore(
    ContractSuite, SecrecySuite, GhostSuite, DamageSuite, RotationSuite, StoreCase
):
    """On the Redis of the environment."""

    allow_inherited_tests_method = True


@tagged("post_install", "-at_install")
class TestLifetime(StoreCase):
    def setUp(self):
        super().setUp()
        self.store._max_inactivity.clear()

    def lifetime(self, session):
        return self.client.pttl(self.keys_of(session)[0]) / 1000

    def assertLifetime(self, session, seconds):
        self.assertAlmostEqual(self.lifetime(session), seconds, delta=3)

    def test_each_kind_has_its_own(self):
        self.assertLifetime(self.new_session(), 300)
        self.assertLifetime(self.new_session(USER_ID), 600)
        self.assertLifetime(self.new_session(USER_ID, _trace_disable=True), 100)

    def test_system_parameter_shortens_and_lengthens(self):
        with self.cursor_env() as env:
            parameter = env["ir.config_parameter"].sudo()
            session = self.new_session(USER_ID)
            for seconds, expiration_is_set, expected in [
                (60, True, 60),
                (6000, True, 600),
                (6000, False, 6000),
            ]:
                fields = {"expiration"} if expiration_is_set else set()
                self.store._settings.model_fields_set.discard("expiration")
                self.store._settings.model_fields_set.update(fields)
                parameter.set_param("sessions.max_inactivity_seconds", seconds)
                self.store.rotate(session, env, soft=True)
                self.assertLifetime(session, expected)
            env.cr.rollback()

    def test_lifetime_of_the_database_is_remembered_without_environment(self):
        with self.cursor_env() as env:
            env["ir.config_parameter"].sudo().set_param(
                "sessions.max_inactivity_seconds", 77
            )
            session = self.new_session(USER_ID)
            self.store.rotate(session, env, soft=True)
            env.cr.rollback()
        session["key"] = 1
        self.store.save(session)
        self.assertLifetime(session, 77)

    def test_use_renews_without_a_write_per_request(self):
        session = self.new_session(USER_ID)
        self.assertFalse(self.read_again(session).is_dirty)
        old = session.stored._replace(written_at=int(time.time()) - 100)
        self.client.set(self.keys_of(session)[0], old.encode(), ex=5)
        found = self.read_again(session)
        found.is_dirty = False  # as odoo.http does after reading
        self.assertTrue(found.is_dirty)
        self.store.save(found)
        self.assertTrue(found.is_dirty)  # the cookie is sent after the save
        self.assertLifetime(session, 600)
        self.assertFalse(self.read_again(session).is_dirty)


@tagged("post_install", "-at_install")
class TestRoundTrips(StoreCase):
    def test_one_question_each(self):
        # from its first use on, Redis has the text of each script
        with self.cursor_env() as env:
            session = self.new_session(USER_ID)
            self.store.rotate(session, env)
            self.store.delete(session)
        session = self.new_session(USER_ID)
        calls = []
        client = self.store.client
        execute, pipeline = client.execute_command, client.pipeline

        def count(*arguments, **options):
            calls.append(arguments[0])
            return execute(*arguments, **options)

        def count_pipeline(*arguments, **options):
            calls.append("pipeline")
            return pipeline(*arguments, **options)

        self.patch(client, "execute_command", count)
        self.patch(client, "pipeline", count_pipeline)
        with self.cursor_env() as env:
            for function, arguments in [
                (self.store.get, (session.sid,)),
                (self.store.save, (session,)),
                (self.store.rotate, (session, env, True)),
                (self.store.rotate, (session, env)),
                (self.store.delete, (session,)),
            ]:
                calls.clear()
                function(*arguments)
                self.assertEqual(len(calls), 1, (function.__name__, calls))
