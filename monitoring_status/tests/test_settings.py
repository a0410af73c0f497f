import os
from unittest.mock import patch

from pydantic import ValidationError

from odoo.tests import BaseCase, tagged

from ..settings import MonitoringStatusSettings


@tagged("post_install", "-at_install")
class TestSettings(BaseCase):
    def test_bad_value_is_named(self):
        for name, value, expected in (
            ("ODOO_MONITORING_TIMEOUT", "soon", "number"),
            ("ODOO_MONITORING_TIMEOUT", "0", "greater than 0"),
            ("ODOO_MONITORING_CACHE", "-1", "greater than or equal to 0"),
        ):
            with (
                self.subTest(name, value=value),
                patch.dict(os.environ, {name: value, "ODOO_MONITORING_TOKEN": "s3"}),
                self.assertRaises(ValidationError) as raised,
            ):
                MonitoringStatusSettings()
            for part in (name, value, expected):
                self.assertIn(part, str(raised.exception))
            self.assertNotIn("s3", str(raised.exception))

    def test_token_is_not_shown(self):
        with patch.dict(os.environ, ODOO_MONITORING_TOKEN="s3cret"):
            self.assertNotIn("s3cret", repr(MonitoringStatusSettings()))
