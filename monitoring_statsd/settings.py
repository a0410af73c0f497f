"""The environment variables of the addon."""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class StatsdSettingsError(ValueError):
    """A variable is missing that others make necessary, or cannot be used."""


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
        description=(
            "Name of the customer, a part of each metric's name. Required with "
            "`ODOO_STATSD` or `ODOO_METRICS_TOKEN`."
        ),
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

    metrics_token: SecretStr | None = Field(
        default=None,
        validation_alias="ODOO_METRICS_TOKEN",
        description=(
            "Metrics for Prometheus at `/metrics`, with or without statsd, for those "
            "who send `Authorization: Bearer <token>`. Without a token there is no "
            "such page."
        ),
    )
    metrics_folder: Path | None = Field(
        default=None,
        validation_alias="PROMETHEUS_MULTIPROC_DIR",
        description=(
            "Folder in which the processes of one server put together what `/metrics` "
            "tells; on a local disk, and not that of another server. By default a "
            "temporary one."
        ),
    )

    def serves_prometheus(self):
        """Return whether there is a ``/metrics``."""
        return bool(self.metrics_token and self.metrics_token.get_secret_value())

    def measures(self):
        """Return whether somebody wants metrics."""
        return self.enabled or self.serves_prometheus()

    def check(self):
        """Check what depends on more than one variable.

        :raises StatsdSettingsError: what is missing
        """
        if self.measures() and not self.customer:
            raise StatsdSettingsError(
                "STATSD_CUSTOMER is not set: with ODOO_STATSD=1 or ODOO_METRICS_TOKEN "
                "it must contain the name of the customer."
            )
