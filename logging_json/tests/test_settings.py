import os
from unittest.mock import patch

from odoo.tests import BaseCase, tagged

from .. import patches
from ..settings import LoggingJsonSettings


@tagged("post_install", "-at_install")
class TestSettings(BaseCase):
    def test_off_by_default(self):
        with patch.dict(os.environ):
            os.environ.pop("ODOO_LOGGING_JSON", None)
            self.assertFalse(LoggingJsonSettings().enabled)

    def test_empty_is_unset(self):
        with patch.dict(os.environ, ODOO_LOGGING_JSON=""):
            self.assertFalse(LoggingJsonSettings().enabled)

    def test_bad_value_is_named_and_the_plain_log_stays(self):
        for name, value, expected in (
            ("ODOO_LOGGING_JSON", "maybe", "boolean"),
            ("ODOO_LOGGING_JSON_FORMAT", "xml", "'flat' or 'ecs'"),
            ("ODOO_LOGGING_JSON_MAX_CHARS", "-3", "256"),
        ):
            with (
                self.subTest(name),
                patch.dict(os.environ, {"ODOO_LOGGING_JSON": "1", name: value}),
                patch.object(patches, "use_json_formatter") as used,
                self.assertLogs(patches.__name__, "ERROR") as logs,
            ):
                patches.post_load()
                used.assert_not_called()
                [line] = logs.output
                for part in (name, value, expected):
                    self.assertIn(part, line)
