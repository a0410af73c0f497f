"""The environment variables of the addon."""

from pydantic import Field
from pydantic_settings import BaseSettings, SettingsConfigDict


class StatsdSettingsError(ValueError):
    """A variable is missing that the others make necessary."""


class StatsdSettings(BaseSettings):
    """Variables of monitoring_statsd, read when an instance is made.

    :raises pydantic.ValidationError: a variable has a value that cannot be used; the
        text names the variable, the value and what is expected
    """

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore")

    enabled: bool = Field(
        default=False,
        validation_alias="ODOO_STATSD",
        description="Send metrics to statsd.",
    )
    host: str = Field(
        default="localhost",
        validation_alias="STATSD_HOST",
        description="Name or address of the statsd server.",
    )
    port: int = Field(
        default=8125,
        ge=1,
        le=65535,
        validation_alias="STATSD_PORT",
        description="UDP port of the statsd server.",
    )
    prefix: str = Field(
        default="odoo",
        validation_alias="STATSD_PREFIX",
        description="First part of each metric's name.",
    )
    customer: str | None = Field(
        default=None,
        validation_alias="STATSD_CUSTOMER",
        description="Name of the customer, a part of each metric's name. Required.",
    )
    environment: str | None = Field(
        default=None,
        validation_alias="STATSD_ENVIRONMENT",
        description=(
            "Name of the environment, a part of each metric's name. By default the "
            "running environment of server_environment."
        ),
    )
    dogstatsd: bool = Field(
        default=False,
        validation_alias="STATSD_DOGSTATSD",
        description=(
            "Send customer, environment, model and so on as DogStatsD tags, not as "
            "parts of the name."
        ),
    )
    max_packet_bytes: int = Field(
        default=512,
        ge=128,
        le=65507,
        validation_alias="STATSD_MAXUDPSIZE",
        description=(
            "Largest packet, in bytes. 1432 suits a local network with a usual MTU."
        ),
    )

    def check(self):
        """Check what depends on more than one variable.

        :raises StatsdSettingsError: what is missing
        """
        if self.enabled and not self.customer:
            raise StatsdSettingsError(
                "STATSD_CUSTOMER is not set: with ODOO_STATSD=1 it must contain the "
                "name of the customer."
            )
