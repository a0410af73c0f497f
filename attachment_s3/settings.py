"""Environment variables of the attachment store."""

import os
from functools import lru_cache
from pathlib import Path
from typing import Annotated, Literal

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeFloat,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    ValidationError,
)
from pydantic_settings import BaseSettings, SettingsConfigDict

from .exceptions import S3ConfigurationError


def _readable(path: Path) -> Path:
    if not os.access(path, os.R_OK):
        raise ValueError("expected a readable file or folder")
    return path


def _absolute(path: Path) -> Path:
    if not path.is_absolute():
        raise ValueError("expected an absolute path")
    return path


class S3Settings(BaseSettings):
    """What the environment says about the attachment store.

    Use :func:`load`, whose errors are the addon's own.
    """

    model_config = SettingsConfigDict(
        case_sensitive=True, env_ignore_empty=True, extra="ignore", frozen=True
    )

    # where
    host: str | None = Field(
        None,
        pattern=r"^(https?://)?[^\s/@]+/?$",
        validation_alias="AWS_HOST",
        description="Endpoint of the object store, with `https://` when it has no "
        "scheme. Before the system parameter `ir_attachment.s3.host`; without both: "
        "Amazon S3",
    )
    region: str = Field(
        "us-east-1",
        pattern=r"^[A-Za-z0-9-]+$",
        validation_alias="AWS_REGION",
        description="Region of the bucket",
    )
    bucket: str | None = Field(
        None,
        pattern=r"^([A-Za-z0-9._-]|\{db\})+$",
        validation_alias="AWS_BUCKETNAME",
        description="Bucket; `{db}` is replaced by the name of the database. Required "
        "when `ir_attachment.location` is `s3` or `s3://`",
    )
    prefix: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9!_.'()-]+(/[A-Za-z0-9!_.'()-]+)*/?$",
        validation_alias="AWS_ATTACHMENT_PREFIX",
        description="Folder in the bucket under which each database has its own "
        "(default: none)",
    )
    addressing_style: Literal["path", "virtual", "auto"] = Field(
        "path",
        validation_alias="AWS_ADDRESSING_STYLE",
        description="How the bucket is named in requests: `path` "
        "(`https://host/bucket`), `virtual` (`https://bucket.host`) or `auto`",
    )
    ca_bundle: Annotated[Path, AfterValidator(_readable)] | None = Field(
        None,
        validation_alias="AWS_CA_BUNDLE",
        description="File of the certificate authorities to trust, in PEM format, "
        "instead of the system's",
    )
    # who
    access_key: str | None = Field(
        None,
        validation_alias="AWS_ACCESS_KEY_ID",
        description="Access key; without it boto3's own chain is used (shared "
        "credentials file, web identity, instance role)",
    )
    secret_key: SecretStr | None = Field(
        None,
        validation_alias="AWS_SECRET_ACCESS_KEY",
        description="Secret of the access key",
    )
    session_token: SecretStr | None = Field(
        None,
        validation_alias="AWS_SESSION_TOKEN",
        description="Session token of temporary credentials",
    )
    # what is done
    disabled: bool = Field(
        False,
        validation_alias="DISABLE_ATTACHMENT_STORAGE",
        description="The object store is not used at all: new contents go to the "
        "database, those that are in the bucket read as missing and stay there",
    )
    readonly: bool = Field(
        False,
        validation_alias="AWS_ATTACHMENT_READONLY",
        description="Read from the bucket, write to the database, delete nothing. The "
        "system parameter `ir_attachment.s3.readonly` does the same",
    )
    retention_days: NonNegativeFloat = Field(
        7,
        le=36500,
        validation_alias="AWS_ATTACHMENT_RETENTION_DAYS",
        description="Days for which an unused object stays in the bucket, so that a "
        "dump of that age can be restored",
    )
    delete_on_drop: bool = Field(
        False,
        validation_alias="AWS_ATTACHMENT_DELETE_ON_DROP",
        description="When Odoo drops a database, delete what it stored in the bucket, "
        "at once: no dump of it can be restored any more. What another database of "
        "the same PostgreSQL user refers to is kept",
    )
    server_side_encryption: str | None = Field(
        None,
        pattern=r"^[A-Za-z0-9:]+$",
        validation_alias="AWS_SERVER_SIDE_ENCRYPTION",
        description="Server-side encryption of new objects, for example `AES256` or "
        "`aws:kms`",
    )
    kms_key: str | None = Field(
        None,
        validation_alias="AWS_SSE_KMS_KEY_ID",
        description="Key of the encryption `aws:kms`",
    )
    storage_class: str | None = Field(
        None,
        pattern=r"^[A-Z0-9_]+$",
        validation_alias="AWS_STORAGE_CLASS",
        description="Storage class of new objects, for example `STANDARD_IA`",
    )
    # who sends downloads
    serving: Literal["proxy", "redirect", "x-accel"] = Field(
        "proxy",
        validation_alias="AWS_ATTACHMENT_SERVING",
        description="Who sends the content of a download: `proxy`: Odoo passes it on; "
        "`redirect`: browsers fetch the files that they save, and PDF files and "
        "pictures opened in a tab, from the store; `x-accel`: nginx fetches it from "
        "the store (`deploy/nginx`)",
    )
    url_seconds: int = Field(
        60,
        ge=5,
        le=3600,
        validation_alias="AWS_ATTACHMENT_URL_SECONDS",
        description="Seconds for which an address that `redirect` or `x-accel` hands "
        "out is valid: who has it needs no other right to read the one content",
    )
    public_host: str | None = Field(
        None,
        pattern=r"^(https?://)?[^\s/@]+/?$",
        validation_alias="AWS_PUBLIC_HOST",
        description="Endpoint of the object store for browsers (`redirect`), when they "
        "reach it by another name than Odoo does (default: AWS_HOST)",
    )
    # how
    connect_timeout: PositiveFloat = Field(
        2,
        le=300,
        validation_alias="AWS_CONNECT_TIMEOUT",
        description="Seconds to wait for a connection",
    )
    read_timeout: PositiveFloat = Field(
        10,
        le=3600,
        validation_alias="AWS_READ_TIMEOUT",
        description="Seconds to wait for an answer, and between two parts of one",
    )
    max_attempts: PositiveInt = Field(
        3,
        le=20,
        validation_alias="AWS_MAX_ATTEMPTS",
        description="How often a request is tried, with botocore's backoff",
    )
    pool_size: PositiveInt = Field(
        32,
        le=1000,
        validation_alias="AWS_POOL_SIZE",
        description="Most connections that one process keeps",
    )
    threads: PositiveInt = Field(
        8,
        le=64,
        validation_alias="AWS_ATTACHMENT_THREADS",
        description="Transfers at a time of one migration, and of one read of many "
        "contents",
    )
    cache_dir: Annotated[Path, AfterValidator(_absolute)] | None = Field(
        None,
        validation_alias="AWS_ATTACHMENT_CACHE_DIR",
        description="Folder on the local disk in which contents up to 16 MB are kept "
        "that were read, to be shared by the processes of a host (default: none)",
    )
    cache_mb: PositiveInt = Field(
        1024,
        le=10_000_000,
        validation_alias="AWS_ATTACHMENT_CACHE_MB",
        description="Most megabytes in AWS_ATTACHMENT_CACHE_DIR; what was not used "
        "for the longest time goes first",
    )
    # whose
    running_env: str | None = Field(
        None,
        validation_alias="RUNNING_ENV",
        description="Name of the environment, when the configuration file has no "
        "`running_env`. It tells a copy of the database from its original: only in "
        "the environment that stored them are objects deleted",
    )
    stage: str | None = Field(
        None,
        validation_alias="ODOO_STAGE",
        description="Name of the environment when RUNNING_ENV is not set",
    )


def load() -> S3Settings:
    """Return the settings of the current environment.

    :raises S3ConfigurationError: with the variable, its value and what is expected
    """
    return _load(environment())


def environment() -> tuple[str | None, ...]:
    """Return the values of all variables, to notice when one changes."""
    return tuple(map(os.environ.get, _VARIABLES))


_VARIABLES = tuple(
    str(field.validation_alias) for field in S3Settings.model_fields.values()
)


@lru_cache(maxsize=8)
def _load(_environment):
    try:
        return S3Settings()
    except ValidationError as error:
        raise S3ConfigurationError(
            "attachment_s3: "
            + "; ".join(
                f"{fault['loc'][0]}={fault['input']!r}: {fault['msg']}"
                for fault in error.errors()
            )
        ) from None  # pydantic's text repeats the same in five lines
