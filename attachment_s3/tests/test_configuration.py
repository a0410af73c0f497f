from odoo.exceptions import ValidationError
from odoo.tests import BaseCase, tagged

from ..configuration import LOCATION, configuration, parse_location
from ..exceptions import S3ConfigurationError
from ..placement import PLACEMENT, is_kept, parse_rules
from ..settings import load
from .common import S3Case, variables


class TestLocation(BaseCase):
    def test_short_locations_hold_nothing(self):
        for value in ("s3", "s3://"):
            location = parse_location(value)
            self.assertIsNone(location.access_key)
            self.assertIsNone(location.bucket)

    def test_full_location_holds_keys_and_bucket(self):
        location = parse_location("s3://key:se/cr:e@t@some-bucket")
        self.assertEqual(location.access_key, "key")
        self.assertEqual(location.secret_key.get_secret_value(), "se/cr:e@t")
        self.assertEqual(location.bucket, "some-bucket")
        self.assertNotIn("cr:e", repr(location))

    def test_other_locations_are_not_s3(self):
        for value in (None, "", "file", "db", "s3fs", "azure://"):
            self.assertIsNone(parse_location(value))

    def test_malformed_location_is_refused_without_its_secret(self):
        for value in (
            "s3:/",
            "S3://",
            "s3:",
            "s3//x",
            "s3://bucket",
            "s3://:SECRET@bucket",
            "s3://key:SECRET@",
            "s3://key:SECRET@bad/bucket",
            "s3://key:SEC RET@bucket",
        ):
            with self.assertRaises(S3ConfigurationError, msg=value) as caught:
                parse_location(value)
            self.assertIn(LOCATION, str(caught.exception))
            self.assertNotIn("SECRET", repr(caught.exception))


class TestSettings(BaseCase):
    def config(self, location="s3://", host=None, readonly=None):
        return configuration("some_db", location, host, readonly)

    def test_wrong_variable_is_named_with_its_value(self):
        for name, value in (
            ("AWS_ATTACHMENT_READONLY", "perhaps"),
            ("AWS_CONNECT_TIMEOUT", "soon"),
            ("AWS_HOST", "https://a b"),
            ("AWS_BUCKETNAME", "a/b"),
            ("AWS_ADDRESSING_STYLE", "any"),
            ("AWS_ATTACHMENT_SERVING", "nginx"),
            ("AWS_ATTACHMENT_URL_SECONDS", "3601"),
            ("AWS_PUBLIC_HOST", "https://a b"),
            ("AWS_CA_BUNDLE", "/nowhere"),
            ("AWS_ATTACHMENT_RETENTION_DAYS", "-1"),
        ):
            with variables(**{name: value}):
                with self.assertRaises(S3ConfigurationError) as caught:
                    load()
                self.assertIn(name, str(caught.exception))
                self.assertIn(value, str(caught.exception))

    def test_secrets_are_never_shown(self):
        with variables(
            AWS_SECRET_ACCESS_KEY="SECRET",
            AWS_SESSION_TOKEN="SECRET",
            AWS_READ_TIMEOUT="never",
        ):
            with self.assertRaises(S3ConfigurationError) as caught:
                load()
            self.assertNotIn("SECRET", str(caught.exception))
        with variables(AWS_SECRET_ACCESS_KEY="SECRET", AWS_SESSION_TOKEN="SECRET"):
            config = self.config()
            self.assertNotIn("SECRET", repr(config) + repr(config.store("b")))

    def test_missing_bucket_is_named(self):
        with variables(AWS_BUCKETNAME=""):
            with self.assertRaisesRegex(S3ConfigurationError, "AWS_BUCKETNAME"):
                self.config().store()
            self.assertEqual(self.config("s3://k:s@own-bucket").bucket, "own-bucket")

    def test_key_without_secret_is_named(self):
        with (
            variables(AWS_SECRET_ACCESS_KEY="", AWS_ACCESS_KEY_ID="key"),
            self.assertRaisesRegex(S3ConfigurationError, "AWS_SECRET_ACCESS_KEY"),
        ):
            self.config().store("b")

    def test_database_name_in_the_bucket(self):
        with variables(AWS_BUCKETNAME="acme-{db}-prod"):
            self.assertEqual(self.config().bucket, "acme-some_db-prod")

    def test_environment_wins_over_the_host_of_the_database(self):
        with variables(AWS_HOST="http://from-env"):
            self.assertEqual(self.config(host="db").connection.host, "http://from-env")
        with variables(AWS_HOST=""):
            self.assertEqual(self.config(host="db").connection.host, "https://db")
            self.assertIsNone(self.config().connection.host)

    def test_readonly_by_variable_or_by_parameter(self):
        with variables(AWS_ATTACHMENT_READONLY=""):
            self.assertTrue(self.config().writable)
            self.assertFalse(self.config(readonly="True").writable)
        with variables(AWS_ATTACHMENT_READONLY="1"):
            self.assertFalse(self.config(readonly="False").writable)

    def test_disabled_storage_is_not_written(self):
        with variables(DISABLE_ATTACHMENT_STORAGE="1"):
            self.assertFalse(self.config().writable)


class TestPlacementRules(BaseCase):
    def test_longest_beginning_decides(self):
        rules = parse_rules('{"image/": 10, "image/png": 100, "text/css": 0}')
        self.assertTrue(is_kept(rules, "image/png", 100))
        self.assertFalse(is_kept(rules, "image/png", 101))
        self.assertFalse(is_kept(rules, "image/jpeg", 11))
        self.assertTrue(is_kept(rules, "text/css", 10**9))
        self.assertFalse(is_kept(rules, "text/plain", 1))
        self.assertFalse(is_kept(rules, None, 1))

    def test_bad_rules_tell_why(self):
        for value, reason in (
            ("{", "no JSON"),
            ("[]", "no JSON object"),
            ('{"image/": "1"}', "not a number of bytes"),
            ('{"image/": -1}', "not a number of bytes"),
            ('{"image/": true}', "not a number of bytes"),
        ):
            with self.assertRaisesRegex(S3ConfigurationError, reason):
                parse_rules(value)


@tagged("post_install", "-at_install")
class TestParameters(S3Case):
    def test_bad_parameters_are_refused_when_saved(self):
        for key, value in (
            (LOCATION, "s3://key:SECRET@"),
            (PLACEMENT, "50kB"),
            ("ir_attachment.s3.readonly", "perhaps"),
            ("ir_attachment.s3.host", "a b"),
        ):
            with self.assertRaisesRegex(ValidationError, key) as caught:
                self.env["ir.config_parameter"].set_param(key, value)
            self.assertNotIn("SECRET", str(caught.exception))

    def test_malformed_location_is_told_when_read(self):
        self.env.cr.execute(
            "UPDATE ir_config_parameter SET value = 's3://k:SECRET@' WHERE key = %s",
            [LOCATION],
        )
        self.env.registry.clear_all_caches()
        with self.assertRaisesRegex(S3ConfigurationError, LOCATION) as caught:
            self.make()
        self.assertNotIn("SECRET", str(caught.exception))
