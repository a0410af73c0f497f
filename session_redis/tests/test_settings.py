import os
import tempfile
from unittest.mock import patch

from odoo.tests import BaseCase

from .. import connection, settings
from ..exceptions import SessionRedisConfigurationError

SECRET = "s3cr3t-of-redis"


class TestSettings(BaseCase):
    def load(self, **variables):
        own = {
            name: value
            for name, value in os.environ.items()
            if not name.startswith("ODOO_SESSION_REDIS")
        }
        variables = {f"ODOO_SESSION_REDIS{k}": v for k, v in variables.items()}
        with patch.dict(os.environ, {**own, **variables}, clear=True):
            return settings.load()

    def faults(self, **variables):
        with self.assertRaises(SessionRedisConfigurationError) as caught:
            self.load(**{"": "1", **variables})
        text = str(caught.exception)
        self.assertNotIn(SECRET, text)
        return text

    def test_off_by_default(self):
        self.assertIsNone(self.load())

    def test_nothing_matters_while_it_is_off(self):
        self.assertIsNone(self.load(**{"": "0", "_PORT": "abc"}))

    def test_defaults_of_the_original(self):
        values = self.load(**{"": "true"})
        self.assertTrue(values.enabled)
        self.assertEqual(values.port, 6379)
        self.assertEqual(values.expiration, 7 * 24 * 60 * 60)
        self.assertEqual(values.expiration_anonymous, 3 * 60 * 60)
        self.assertEqual((values.connect_timeout, values.timeout), (0.5, 0.5))
        self.assertEqual(values.retries, 2)

    def test_empty_is_unset(self):
        self.assertEqual(self.load(**{"": "1", "_PORT": ""}).port, 6379)

    def test_fault_names_variable_value_and_expectation(self):
        for name, value in [
            ("_PORT", "abc"),
            ("_PORT", "70000"),
            ("", "maybe"),
            ("_EXPIRATION", "7 days"),
            ("_EXPIRATION_ANONYMOUS", "0"),
            ("_TIMEOUT", "-1"),
            ("_PREFIX", "a b"),
            ("_PREFIX", "{tag}"),
            ("_TLS_CA", "/does/not/exist.pem"),
        ]:
            with self.subTest(name=name, value=value):
                text = self.faults(**{name: value})
                self.assertIn(f"ODOO_SESSION_REDIS{name}=", text)
                self.assertIn(value, text)
                self.assertIn("hould", text) if "TLS" not in name else None

    def test_all_faults_at_once(self):
        text = self.faults(_PORT="abc", _RETRIES="many", _PASSWORD=SECRET)
        self.assertIn("ODOO_SESSION_REDIS_PORT", text)
        self.assertIn("ODOO_SESSION_REDIS_RETRIES", text)

    def test_contradictions_are_named(self):
        url = f"redis://:{SECRET}@localhost/0"
        for variables, names in [
            ({"_URL": url, "_HOST": "other"}, ["_URL", "_HOST"]),
            ({"_URL": url, "_PASSWORD": SECRET}, ["_URL", "_PASSWORD"]),
            ({"_URL": f"http://{SECRET}@host"}, ["_URL", "redis://"]),
            ({"_URL": f"redis://:{SECRET}@host:x/0"}, ["_URL", "redis://"]),
            (
                {"_URL": f"rediss://:{SECRET}@host/0?ssl_cert_reqs=none"},
                ["_URL", "_TLS_CA"],
            ),
            ({"_SENTINEL_HOST": "a"}, ["_SENTINEL_MASTER_NAME", "_SENTINEL_HOST"]),
            ({"_SENTINEL_MASTER_NAME": "a"}, ["_SENTINEL_HOST"]),
            (
                {"_SENTINEL_HOST": "a:x", "_SENTINEL_MASTER_NAME": "m"},
                ["_SENTINEL_HOST='a:x'", "host[:port]"],
            ),
            ({"_TLS_KEY": __file__}, ["_TLS_CERT", "_TLS_KEY"]),
            ({"_CLUSTER": "1", "_DB": "3"}, ["_DB=3"]),
        ]:
            with self.subTest(variables=variables):
                text = self.faults(**variables)
                for name in names:
                    self.assertIn(name, text)

    def test_password_from_file(self):
        with tempfile.NamedTemporaryFile("w") as file:
            file.write(SECRET + "\n")
            file.flush()
            values = self.load(**{"": "1", "_PASSWORD_FILE": file.name})
            self.assertEqual(values.secret_password(), SECRET)
            text = self.faults(_PASSWORD_FILE=file.name, _PASSWORD=SECRET)
        self.assertIn("ODOO_SESSION_REDIS_PASSWORD_FILE", text)

    def test_description_and_repr_have_no_secret(self):
        for variables in (
            {"_URL": f"rediss://user:{SECRET}@host:6380/3"},
            {"_HOST": "host", "_PASSWORD": SECRET},
        ):
            values = self.load(**{"": "1", **variables})
            text = connection.describe(values) + repr(values) + str(values)
            self.assertNotIn(SECRET, text)
            self.assertIn("host", connection.describe(values))

    def test_addresses(self):
        for text, expected in [
            ("a", [("a", 1)]),
            ("a:2, b", [("a", 2), ("b", 1)]),
            ("[::1]:7,::2", [("::1", 7), ("::2", 1)]),
        ]:
            self.assertEqual(settings.addresses(text, 1), expected)
