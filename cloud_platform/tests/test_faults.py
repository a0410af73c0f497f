import os
from unittest.mock import patch

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict

from odoo.addons.cloud_platform.faults import (
    ConfigurationError,
    Fault,
    settings_faults,
    variable_value,
)
from odoo.tests import BaseCase


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_ignore_empty=True)

    port: int = Field(1, validation_alias="FAULTS_PORT")
    secret: SecretStr | None = Field(
        None, min_length=8, validation_alias="FAULTS_SECRET"
    )


class TestFaults(BaseCase):
    def test_invalid_value_names_variable_value_and_expectation(self):
        with patch.dict(os.environ, FAULTS_PORT="abc"):
            [fault] = settings_faults(Settings)
        self.assertEqual(fault.subject, "FAULTS_PORT")
        self.assertIn("'abc'", str(fault))
        self.assertIn("valid integer", str(fault))

    def test_invalid_secret_is_not_shown(self):
        with patch.dict(os.environ, FAULTS_SECRET="swordf"):
            [fault] = settings_faults(Settings)
        self.assertEqual(fault.subject, "FAULTS_SECRET")
        self.assertNotIn("swordf", str(fault))

    def test_all_faults_are_told_at_once(self):
        with patch.dict(os.environ, FAULTS_SECRET="swordf", FAULTS_PORT="abc"):
            self.assertEqual(len(settings_faults(Settings)), 2)

    def test_empty_variable_counts_as_not_set(self):
        with patch.dict(os.environ, FAULTS_PORT="", FAULTS_SECRET=""):
            self.assertFalse(settings_faults(Settings))
            self.assertIsNone(variable_value(Settings(), "FAULTS_PORT"))

    def test_value_of_a_variable_is_found_by_its_name(self):
        with patch.dict(os.environ, FAULTS_PORT="3", FAULTS_SECRET="swordfish"):
            self.assertEqual(variable_value(Settings(), "FAULTS_PORT"), 3)
            self.assertEqual(variable_value(Settings(), "FAULTS_SECRET"), "swordfish")

    def test_error_has_a_line_for_each_fault(self):
        error = ConfigurationError(
            [Fault("A", "is 1", "Set it to 2"), Fault("B", "is not set", "Set it")]
        )
        self.assertIn("2 faults", str(error))
        self.assertIn("\n- A: is 1. Set it to 2.\n- B: is not set. Set it.", str(error))
