"""What the environment and the system parameters say together."""

import hashlib
import re
from dataclasses import dataclass, replace
from functools import lru_cache

from pydantic import SecretStr

from odoo.tools import str2bool

from .cache import ContentCache
from .exceptions import S3ConfigurationError
from .serving import REDIRECT, Serving
from .settings import S3Settings, environment, load
from .store import MIB, Connection, S3Store

#: what ``ir.attachment``'s ``_storage`` answers
STORAGE = "s3"
SCHEME = "s3://"
LOCATION = "ir_attachment.location"
HOST = "ir_attachment.s3.host"
READONLY = "ir_attachment.s3.readonly"

EXPECTED_LOCATION = "s3, s3:// or s3://<access-key>:<secret-key>@<bucket>"

_BUCKET = re.compile(r"(?:[A-Za-z0-9._-]|\{db\})+")
_FULL_LOCATION = re.compile(
    rf"s3://(?P<access>[^\s:@/]+):(?P<secret>\S+)@(?P<bucket>{_BUCKET.pattern})"
)


@dataclass(frozen=True)
class Location:
    """Value of ``ir_attachment.location`` for S3."""

    access_key: str | None = None
    secret_key: SecretStr | None = None
    bucket: str | None = None


def parse_location(value: str | None) -> Location | None:
    """Parse a value of ``ir_attachment.location``.

    :return: ``None`` when attachments are not in S3
    :raises S3ConfigurationError: for a malformed one; the error holds no secret
    """
    value = (value or "").strip()
    if not re.match(r"s3(\W|$)", value, re.IGNORECASE):
        return None
    if value in (STORAGE, SCHEME):
        return Location()
    match = _FULL_LOCATION.fullmatch(value)
    if not match:
        raise S3ConfigurationError(
            f"{LOCATION} is malformed (it is not shown, since it may hold a secret): "
            f"expected {EXPECTED_LOCATION}"
        )
    return Location(match["access"], SecretStr(match["secret"]), match["bucket"])


def parse_readonly(value: str | None) -> bool:
    """Parse a value of ``ir_attachment.s3.readonly``.

    :raises S3ConfigurationError: when it is no boolean
    """
    try:
        return bool(value) and str2bool(value)
    except ValueError:
        raise S3ConfigurationError(
            f"{READONLY} is {value!r}: expected true or false"
        ) from None


def parse_host(value: str | None) -> str | None:
    """Parse a value of ``ir_attachment.s3.host``.

    :raises S3ConfigurationError: when it is neither a host nor its URL
    """
    if value and not re.fullmatch(r"(https?://)?[^\s/@]+/?", value):
        raise S3ConfigurationError(
            f"{HOST} is {value!r}: expected a host, with https:// or http:// before it "
            "or without"
        )
    return value or None


@dataclass(frozen=True)
class Configuration:
    """Where the attachments of a database are.

    :param location: ``None`` when new ones are not in S3
    :param host: value of ``ir_attachment.s3.host``
    :param readonly: the environment or the database says so
    """

    settings: S3Settings
    location: Location | None
    host: str | None
    readonly: bool
    dbname: str

    @property
    def writable(self) -> bool:
        """New contents are written to the bucket."""
        return bool(self.location) and not self.readonly and not self.settings.disabled

    @property
    def connection(self) -> Connection:
        """How the object store is reached.

        :raises S3ConfigurationError: when a variable is missing
        """
        settings = self.settings
        access_key, secret_key = settings.access_key, settings.secret_key
        session_token = settings.session_token
        if self.location and self.location.access_key:
            access_key, secret_key = self.location.access_key, self.location.secret_key
            session_token = None
        if bool(access_key) != bool(secret_key):
            missing = "AWS_SECRET_ACCESS_KEY" if access_key else "AWS_ACCESS_KEY_ID"
            raise S3ConfigurationError(
                f"{missing} is not set: expected both AWS_ACCESS_KEY_ID and "
                "AWS_SECRET_ACCESS_KEY, or none of them"
            )
        return Connection(
            host=_endpoint(settings.host or self.host),
            region=settings.region,
            access_key=access_key,
            secret_key=secret_key,
            session_token=session_token,
            addressing_style=settings.addressing_style,
            ca_bundle=str(settings.ca_bundle) if settings.ca_bundle else None,
            connect_timeout=settings.connect_timeout,
            read_timeout=settings.read_timeout,
            max_attempts=settings.max_attempts,
            pool_size=settings.pool_size,
        )

    @property
    def bucket(self) -> str:
        """Bucket of new contents.

        :raises S3ConfigurationError: when none is named
        """
        bucket = (self.location and self.location.bucket) or self.settings.bucket
        if not bucket:
            raise S3ConfigurationError(
                "AWS_BUCKETNAME is not set: expected the name of the bucket of the "
                f"attachments, because {LOCATION} is {SCHEME}"
            )
        return bucket.replace("{db}", self.dbname)

    def store(self, bucket: str | None = None) -> S3Store:
        """Return the store of a bucket, the configured one by default."""
        settings = self.settings
        put_options = {
            "ServerSideEncryption": settings.server_side_encryption,
            "SSEKMSKeyId": settings.kms_key,
            "StorageClass": settings.storage_class,
        }
        return S3Store(
            self.connection,
            bucket or self.bucket,
            tuple((name, value) for name, value in put_options.items() if value),
            self.cache,
        )

    @property
    def cache(self) -> ContentCache | None:
        """Where contents are kept on the local disk, if anywhere."""
        settings = self.settings
        if not settings.cache_dir:
            return None
        return ContentCache(settings.cache_dir, settings.cache_mb * MIB)

    def serving(self, bucket: str) -> Serving:
        """Return how contents of a bucket are sent to clients."""
        connection = self.connection
        if self.settings.public_host and self.settings.serving == REDIRECT:
            host = _endpoint(self.settings.public_host)
            connection = replace(connection, host=host)
        return Serving(
            self.settings.serving,
            S3Store(connection, bucket, cache=self.cache),
            self.settings.url_seconds,
        )


def _endpoint(host):
    if host and "://" not in host:
        host = f"https://{host}"
    return host.rstrip("/") if host else None


def configuration(
    dbname: str, location: str | None, host: str | None, readonly: str | None
) -> Configuration:
    """Return the configuration of a database.

    :param dbname: name of the database
    :param location: system parameter ``ir_attachment.location``
    :param host: system parameter ``ir_attachment.s3.host``
    :param readonly: system parameter ``ir_attachment.s3.readonly``
    :raises S3ConfigurationError: for an invalid variable or parameter
    """
    return _configuration(environment(), dbname, location, host, readonly)


@lru_cache(maxsize=64)
def _configuration(_environment, dbname, location, host, readonly):
    settings = load()
    return Configuration(
        settings=settings,
        location=parse_location(location),
        host=parse_host(host),
        readonly=settings.readonly or parse_readonly(readonly),
        dbname=dbname,
    )


def configuration_of(env) -> Configuration:
    """Return the configuration of an environment's database.

    :raises S3ConfigurationError: for an invalid variable or parameter
    """
    parameter = env["ir.config_parameter"].sudo().get_param
    return configuration(
        env.cr.dbname,
        parameter(LOCATION) or None,
        parameter(HOST) or None,
        parameter(READONLY) or None,
    )


def is_uri(fname: str | None) -> bool:
    """Tell whether a ``store_fname`` is one of an object store."""
    return bool(fname) and fname.startswith(SCHEME)


def split_uri(uri: str) -> tuple[str, str]:
    """Return the bucket and the key of ``s3://<bucket>/<key>``."""
    bucket, _slash, key = uri.removeprefix(SCHEME).partition("/")
    return bucket, key


def content_uri(bucket: str, prefix: str, content: bytes) -> str:
    """Return the address of a content: ``s3://<bucket>/<prefix>/<aa>/<sha256>``."""
    return digest_uri(bucket, prefix, hashlib.sha256(content))


def digest_uri(bucket: str, prefix: str, digest) -> str:
    """Return the address of the content that a SHA-256 object of hashlib has seen."""
    name = digest.hexdigest()
    return f"{SCHEME}{bucket}/{prefix}/{name[:2]}/{name}"
