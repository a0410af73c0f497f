"""The environment variables of the addon."""

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class MonitoringStatusSettings(BaseSettings):
    """Variables of monitoring_status, read when an instance is made.

    :raises pydantic.ValidationError: a variable has a value that cannot be used; the
        text names the variable, the value and what is expected
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore")

    timeout_seconds: float = Field(
        default=2.0,
        gt=0,
        le=60,
        validation_alias="ODOO_MONITORING_TIMEOUT",
        description=(
            "Longest time that the check of one part may take, in seconds. Keep it "
            "below the timeout of the probe."
        ),
    )
    cache_seconds: float = Field(
        default=1.0,
        ge=0,
        le=60,
        validation_alias="ODOO_MONITORING_CACHE",
        description=(
            "How long an answer is given again before the parts are checked anew, in "
            "seconds."
        ),
    )
    token: SecretStr | None = Field(
        default=None,
        validation_alias="ODOO_MONITORING_TOKEN",
        description=(
            "With `Authorization: Bearer <token>` the answer tells times and errors. "
            "Without a token nobody is told."
        ),
    )
