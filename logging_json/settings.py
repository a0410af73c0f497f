"""The environment variables of the addon."""

from typing import Literal

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class LoggingJsonSettings(BaseSettings):
    """Variables of logging_json, read when an instance is made.

    :raises pydantic.ValidationError: a variable has a value that cannot be used; the
        text names the variable, the value and what is expected
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore")

    enabled: bool = Field(
        default=False,
        validation_alias="ODOO_LOGGING_JSON",
        description="Write the log as one JSON object per line.",
    )
    log_format: Literal["flat", "ecs"] = Field(
        default="flat",
        validation_alias="ODOO_LOGGING_JSON_FORMAT",
        description=(
            "Names of the fields: `flat` (short names) or `ecs` (Elastic Common "
            "Schema)."
        ),
    )
    max_text_chars: int = Field(
        default=16384,
        ge=256,
        validation_alias="ODOO_LOGGING_JSON_MAX_CHARS",
        description=(
            "Longest text of one field, in characters; the rest is cut and the cut "
            "is told."
        ),
    )
