"""Environment variables of the session store."""

from pathlib import Path
from typing import Annotated

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, SettingsConfigDict
from redis.connection import parse_url

from .exceptions import SessionRedisConfigurationError

DAY = 24 * 60 * 60


def _readable_file(path: Path) -> Path:
    try:
        path.open("rb").close()
    except OSError as error:
        raise ValueError(f"expected a readable file: {error.strerror}") from error
    return path


#: what pydantic's message leaves open
_BOOLEANS = ": 1, 0, true, false, yes, no, on or off"

Port = Annotated[int, Field(ge=1, le=65535)]
ReadableFile = Annotated[Path, AfterValidator(_readable_file)]


class Switch(BaseSettings):
    """Whether the other variables matter."""

    model_config = SettingsConfigDict(env_ignore_empty=True, extra="ignore")

    enabled: bool = Field(
        False,
        validation_alias="ODOO_SESSION_REDIS",
        description="Keep HTTP sessions in Redis (1) or in Odoo's files (0)",
    )


class Settings(Switch):
    """What the environment says about the session store.

    Use :func:`load`, which also checks the rules between variables.
    """

    # where
    host: str | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_HOST",
        description="Host name or address of Redis; localhost unless another variable "
        "says where Redis is. With ODOO_SESSION_REDIS_CLUSTER: host[:port] of some "
        "nodes, separated by commas",
    )
    port: Port = Field(
        6379,
        validation_alias="ODOO_SESSION_REDIS_PORT",
        description="TCP port of Redis",
    )
    db: NonNegativeInt = Field(
        0,
        validation_alias="ODOO_SESSION_REDIS_DB",
        description="Number of the Redis database (a cluster has database 0 only)",
    )
    url: SecretStr | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_URL",
        description="All in one, instead of host, port, database, user and password: "
        "redis://[user:password@]host[:port][/db], rediss://… with TLS, or "
        "unix:///path/to/socket[?db=0]",
    )
    sentinel_host: str | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_SENTINEL_HOST",
        description="host[:port] of each sentinel, separated by commas, instead of "
        "host and port",
    )
    sentinel_port: Port = Field(
        26379,
        validation_alias="ODOO_SESSION_REDIS_SENTINEL_PORT",
        description="TCP port of the sentinels that name none",
    )
    sentinel_master_name: str | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_SENTINEL_MASTER_NAME",
        description="Name that the sentinels give the master; required with sentinels",
    )
    cluster: bool = Field(
        False,
        validation_alias="ODOO_SESSION_REDIS_CLUSTER",
        description="Redis is a Redis Cluster",
    )
    # who
    username: str | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_USERNAME",
        description="User of Redis's access control list",
    )
    password: SecretStr | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_PASSWORD",
        description="Password of Redis",
    )
    password_file: ReadableFile | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_PASSWORD_FILE",
        description="File that holds the password, instead of the variable",
    )
    sentinel_username: str | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_SENTINEL_USERNAME",
        description="User of the sentinels",
    )
    sentinel_password: SecretStr | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_SENTINEL_PASSWORD",
        description="Password of the sentinels",
    )
    client_name: str = Field(
        "odoo",
        pattern=r"^[!-~]+$",
        validation_alias="ODOO_SESSION_REDIS_CLIENT_NAME",
        description="Name of the connections in Redis's CLIENT LIST",
    )
    # TLS
    tls: bool = Field(
        False,
        validation_alias="ODOO_SESSION_REDIS_TLS",
        description="Connect with TLS; certificate and host name are verified",
    )
    tls_ca: ReadableFile | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_TLS_CA",
        description="File of the certificate authorities to trust, in PEM format, "
        "instead of the system's",
    )
    tls_cert: ReadableFile | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_TLS_CERT",
        description="File of the client's certificate, in PEM format",
    )
    tls_key: ReadableFile | None = Field(
        None,
        validation_alias="ODOO_SESSION_REDIS_TLS_KEY",
        description="File of the client certificate's key, in PEM format",
    )
    # keys and their lives
    prefix: str | None = Field(
        None,
        pattern=r"^[^{}\s*?\[\]\\]+$",  # a hash tag's braces, patterns of an ACL
        validation_alias="ODOO_SESSION_REDIS_PREFIX",
        description="Second part of each key (session:<prefix>:…), for several "
        "instances on one Redis",
    )
    expiration: PositiveInt = Field(
        7 * DAY,
        le=3650 * DAY,
        validation_alias="ODOO_SESSION_REDIS_EXPIRATION",
        description="Seconds after which an unused session of a logged-in user ends. "
        "The system parameter sessions.max_inactivity_seconds may shorten it, and may "
        "lengthen it when this variable is not set",
    )
    expiration_anonymous: PositiveInt = Field(
        3 * 60 * 60,
        le=3650 * DAY,
        validation_alias="ODOO_SESSION_REDIS_EXPIRATION_ANONYMOUS",
        description="Seconds after which an unused session without a user ends",
    )
    expiration_temporary: PositiveInt = Field(
        300,
        le=3650 * DAY,
        validation_alias="ODOO_SESSION_REDIS_EXPIRATION_TEMPORARY",
        description="Seconds after which an unused technical session ends, such as the "
        "one with which wkhtmltopdf loads a report's images",
    )
    import_sessions: bool = Field(
        True,
        validation_alias="ODOO_SESSION_REDIS_IMPORT",
        description="Move sessions of Odoo's files, and of the 2016 addon's keys, "
        "when their cookie is first seen",
    )
    # failure
    connect_timeout: PositiveFloat = Field(
        0.5,
        validation_alias="ODOO_SESSION_REDIS_CONNECT_TIMEOUT",
        description="Seconds to wait for a connection",
    )
    timeout: PositiveFloat = Field(
        0.5,
        validation_alias="ODOO_SESSION_REDIS_TIMEOUT",
        description="Seconds to wait for an answer",
    )
    retries: NonNegativeInt = Field(
        2,
        le=10,
        validation_alias="ODOO_SESSION_REDIS_RETRIES",
        description="How often a failed command is tried again, with exponential "
        "backoff and jitter",
    )
    pool_size: PositiveInt = Field(
        64,
        validation_alias="ODOO_SESSION_REDIS_POOL_SIZE",
        description="Most connections of one process",
    )
    pool_timeout: PositiveFloat = Field(
        1.0,
        validation_alias="ODOO_SESSION_REDIS_POOL_TIMEOUT",
        description="Seconds to wait for a connection when all are in use",
    )

    def faults(self) -> list[str]:
        """Return what is wrong between variables, one sentence each."""
        places = [
            name
            for name, value in (
                ("ODOO_SESSION_REDIS_URL", self.url),
                ("ODOO_SESSION_REDIS_HOST", self.host),
                ("ODOO_SESSION_REDIS_SENTINEL_HOST", self.sentinel_host),
            )
            if value
        ]
        faults = []
        if len(places) > 1:
            faults.append(f"only one of {' and '.join(places)} may be set")
        in_url = {
            "ODOO_SESSION_REDIS_PORT": "port",
            "ODOO_SESSION_REDIS_DB": "db",
            "ODOO_SESSION_REDIS_USERNAME": "username",
            "ODOO_SESSION_REDIS_PASSWORD": "password",
            "ODOO_SESSION_REDIS_PASSWORD_FILE": "password_file",
            "ODOO_SESSION_REDIS_TLS": "tls",
        }
        if self.url:
            faults += [
                f"{name} may not be set with ODOO_SESSION_REDIS_URL, which says it"
                for name, field in in_url.items()
                if field in self.model_fields_set
            ]
            try:
                options = parse_url(self.url.get_secret_value())
                if any(option.startswith("ssl_") for option in options):
                    # such as ssl_cert_reqs=none
                    faults.append(
                        "ODOO_SESSION_REDIS_URL may have no options of TLS: "
                        "certificates are verified, with the authority of "
                        "ODOO_SESSION_REDIS_TLS_CA"
                    )
            except ValueError:  # its text may quote the URL, with the password
                faults.append(
                    "ODOO_SESSION_REDIS_URL cannot be parsed: expected "
                    "redis://[user:password@]host[:port][/db], rediss://… or "
                    "unix:///path"
                )
        if self.sentinel_host and not self.sentinel_master_name:
            faults.append(
                "ODOO_SESSION_REDIS_SENTINEL_MASTER_NAME is required with "
                "ODOO_SESSION_REDIS_SENTINEL_HOST"
            )
        if self.sentinel_master_name and not self.sentinel_host:
            faults.append(
                "ODOO_SESSION_REDIS_SENTINEL_HOST is required with "
                "ODOO_SESSION_REDIS_SENTINEL_MASTER_NAME"
            )
        if self.password and self.password_file:
            faults.append(
                "only one of ODOO_SESSION_REDIS_PASSWORD and "
                "ODOO_SESSION_REDIS_PASSWORD_FILE may be set"
            )
        if self.tls_key and not self.tls_cert:
            faults.append(
                "ODOO_SESSION_REDIS_TLS_CERT is required with "
                "ODOO_SESSION_REDIS_TLS_KEY"
            )
        if self.cluster and self.sentinel_host:
            faults.append(
                "only one of ODOO_SESSION_REDIS_CLUSTER and "
                "ODOO_SESSION_REDIS_SENTINEL_HOST may be set"
            )
        if self.cluster and self.db:
            faults.append(
                f"ODOO_SESSION_REDIS_DB={self.db}: a Redis Cluster has database 0 only"
            )
        faults += self._address_faults()
        return faults

    def _address_faults(self):
        lists = []
        if self.sentinel_host:
            name = "ODOO_SESSION_REDIS_SENTINEL_HOST"
            lists.append((name, self.sentinel_host, self.sentinel_port))
        if self.cluster and self.host:
            lists.append(("ODOO_SESSION_REDIS_HOST", self.host, self.port))
        faults = []
        for name, value, port in lists:
            try:
                addresses(value, port)
            except ValueError:
                faults.append(
                    f"{name}={value!r}: expected host[:port], separated by commas"
                )
        return faults

    def secret_password(self) -> str | None:
        """Return the password, read now from its file when there is one."""
        if self.password_file:
            return self.password_file.read_text().strip()
        return self.password.get_secret_value() if self.password else None


def addresses(text: str, port: int) -> list[tuple[str, int]]:
    """Parse ``host[:port],…``; an IPv6 address with a port stands in brackets.

    :param text: the list
    :param port: for those without one
    :raises ValueError: when a part is no address
    """
    result = []
    for part in text.split(","):
        host, separator, own_port = part.strip().rpartition(":")
        if not separator or (host.count(":") and not host.startswith("[")):
            host, own_port = part.strip(), port
        if not host or not 0 < int(own_port) < 65536:
            raise ValueError(part)
        result.append((host.strip("[]"), int(own_port)))
    return result


def load() -> Settings | None:
    """Read the environment.

    :return: ``None`` when ``ODOO_SESSION_REDIS`` is not true
    :raises SessionRedisConfigurationError: with all faults at once
    """
    if not _read(Switch).enabled:
        return None
    settings = _read(Settings)
    if faults := settings.faults():
        raise SessionRedisConfigurationError(faults)
    return settings


def _read(settings_class):
    try:
        return settings_class()
    except ValidationError as error:
        faults = [
            f"{fault['loc'][0]}={fault['input']!r}: {fault['msg']}"
            + (_BOOLEANS if fault["type"] == "bool_parsing" else "")
            for fault in error.errors()
        ]
        # without pydantic's text, which says the same in five lines
        raise SessionRedisConfigurationError(faults) from None
