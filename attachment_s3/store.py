"""Objects of one bucket: what the addon asks of S3, and its errors by name."""

import hashlib
import io
import logging
import os
import re
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import boto3
import boto3.session
import urllib3.exceptions
from boto3.exceptions import Boto3Error, S3UploadFailedError
from boto3.s3.transfer import TransferConfig
from botocore.config import Config
from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    CredentialRetrievalError,
    NoCredentialsError,
    ParamValidationError,
    PartialCredentialsError,
    SSLError,
)
from pydantic import SecretStr

from .cache import ContentCache
from .exceptions import (
    S3AccessDenied,
    S3BucketMissing,
    S3ConfigurationError,
    S3ContentError,
    S3Error,
    S3ObjectMissing,
    S3Unavailable,
)
from .observers import Measure, measured

_logger = logging.getLogger(__name__)

# At DEBUG it logs signatures, those of presigned URLs too, with which anybody can read.
# Who sets its own level gets them all the same.
_botocore_logger = logging.getLogger("botocore")
if _botocore_logger.level == logging.NOTSET:
    _botocore_logger.setLevel(logging.INFO)

MIB = 1024 * 1024
#: read from the network at a time
CHUNK_BYTES = MIB
#: larger contents go up in parts, several at a time; S3 takes up to 5 GB in one
MULTIPART = TransferConfig(
    multipart_threshold=64 * MIB, multipart_chunksize=16 * MIB, max_concurrency=4
)
#: A content up to this size goes with the head of its request. For a larger one the
#: store is asked first whether it takes it (RFC 9110, 10.1.1), another round trip; the
#: limit is that of the SDKs for Go and Kotlin (continueHeaderThresholdBytes).
ASK_FIRST_BYTES = 2 * MIB
#: botocore would make a longer one anew for each request
USER_AGENT = f"attachment_s3 boto3/{boto3.__version__}"
#: S3's own limit of keys in one bulk delete
DELETE_KEYS = 1000

#: errors of a body that breaks off; botocore does not try these again
_BODY_ERRORS = (BotoCoreError, urllib3.exceptions.HTTPError, OSError)
_MISSING_KEY = {"NoSuchKey", "NoSuchVersion"}
#: name of an object of this addon; that of 2016 had SHA-1
_SHA256 = re.compile(r"[0-9a-f]{64}")
_WRONG_CREDENTIALS = {
    "ExpiredToken",
    "InvalidAccessKeyId",
    "InvalidToken",
    "SignatureDoesNotMatch",
    "TokenRefreshRequired",
}
_WRONG_REGION = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "TemporaryRedirect",
}
#: a store that has no bulk delete, or wants a header that botocore does not send
_NO_BULK_DELETE = {
    "BadDigest",
    "InvalidDigest",
    "InvalidRequest",
    "MalformedXML",
    "MethodNotAllowed",
    "MissingContentMD5",
    "NotImplemented",
}


@dataclass(frozen=True)
class Connection:
    """How the object store is reached; timeouts in seconds."""

    host: str | None
    region: str
    access_key: str | None
    secret_key: SecretStr | None
    session_token: SecretStr | None
    addressing_style: str
    ca_bundle: str | None
    connect_timeout: float
    read_timeout: float
    max_attempts: int
    pool_size: int

    def __str__(self):
        return self.host or f"Amazon S3 in {self.region}"


_clients = {}
_clients_lock = threading.Lock()


def client(connection: Connection):
    """Return this process's boto3 client of a connection.

    A client may be shared by threads but not by processes: after a fork the child
    makes its own.
    """
    if (found := _clients.get(connection)) is not None:
        return found
    with _clients_lock:  # boto3 sessions are not thread-safe
        if connection not in _clients:
            _clients[connection] = _make_client(connection)
        return _clients[connection]


def _forget_clients():
    global _clients_lock
    _clients_lock = threading.Lock()  # another thread of the parent may hold it
    _clients.clear()


os.register_at_fork(after_in_child=_forget_clients)


def _make_client(connection):
    secret, token = connection.secret_key, connection.session_token
    with _named_errors("connect", connection):
        made = boto3.session.Session(
            aws_access_key_id=connection.access_key,
            aws_secret_access_key=secret.get_secret_value() if secret else None,
            aws_session_token=token.get_secret_value() if token else None,
            region_name=connection.region,
        ).client(
            "s3",
            endpoint_url=connection.host,
            verify=connection.ca_bundle,
            config=Config(
                signature_version="s3v4",  # presigned URLs are SigV2 otherwise
                s3={"addressing_style": connection.addressing_style},
                # S3-compatible stores refuse boto3's default checksums
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
                connect_timeout=connection.connect_timeout,
                read_timeout=connection.read_timeout,
                max_pool_connections=connection.pool_size,
                retries={
                    "mode": "standard",
                    "total_max_attempts": connection.max_attempts,
                },
                user_agent=USER_AGENT,
            ),
        )
        # after botocore's own handlers of the event, which add the header
        made.meta.events.register_last("before-call.s3", _send_at_once)
        return made


def _send_at_once(model, params, **_kwargs):
    """Let a small content go without asking first, and in one piece.

    A handler of botocore's event ``before-call``.
    """
    body = params.get("body")
    if model.name != "PutObject" or not isinstance(body, io.BytesIO):
        return
    if body.getbuffer().nbytes <= ASK_FIRST_BYTES:
        params["body"] = body.getvalue()
        params["headers"].pop("Expect", None)


@contextmanager
def _named_errors(operation, connection, bucket="", key=""):
    """Raise botocore's errors as the addon's own."""
    what = f"S3 {operation} of {bucket}/{key}" if key else f"S3 {operation} {bucket}"
    what = f"{what.strip()} at {connection}"
    try:
        yield
    except S3Error:
        raise
    except S3UploadFailedError as error:
        # its cause is the error of one part
        cause = error.__cause__ or error.__context__
        if isinstance(cause, ClientError):
            raise _client_error(what, cause, bucket) from error
        raise S3Unavailable(f"{what} failed: {error}") from error
    except ClientError as error:
        raise _client_error(what, error, bucket) from error
    except (NoCredentialsError, PartialCredentialsError) as error:
        raise S3ConfigurationError(
            f"{what} failed: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or "
            f"provide credentials in another way that boto3 knows ({error})"
        ) from error
    except RecursionError as error:
        # botocore asks who redirects it for the region, and is redirected again
        raise S3ConfigurationError(
            f"{what} failed: the store redirects every request; check AWS_REGION and "
            "AWS_HOST (its scheme too)"
        ) from error
    except CredentialRetrievalError as error:
        raise S3Unavailable(f"{what} failed: {error}") from error
    except (ParamValidationError, ValueError) as error:
        raise S3ConfigurationError(f"{what} failed: {error}") from error
    except SSLError as error:
        raise S3Unavailable(
            f"{what} failed: {error}; check AWS_HOST, its certificate and AWS_CA_BUNDLE"
        ) from error
    except (BotoCoreError, Boto3Error, urllib3.exceptions.HTTPError) as error:
        raise S3Unavailable(f"{what} failed: {error}") from error
    except OSError as error:
        raise S3Unavailable(f"{what} failed: {error}") from error


def _client_error(what, error, bucket):
    """Return the named error of an answer of the object store."""
    code = str(error.response.get("Error", {}).get("Code", ""))
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    failed = f"{what} failed ({code or status})"
    if code in _MISSING_KEY:
        return S3ObjectMissing(f"{failed}: there is no such object")
    if code == "NoSuchBucket":
        return S3BucketMissing(
            f"{failed}: bucket {bucket} does not exist; check AWS_BUCKETNAME"
        )
    if error.operation_name == "HeadObject" and status == 404:
        # an answer to HEAD has no body that could say more
        return S3ObjectMissing(f"{failed}: there is no such object")
    if code in _WRONG_CREDENTIALS:
        return S3AccessDenied(
            f"{failed}: check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
        )
    if code == "RequestTimeTooSkewed":
        return S3AccessDenied(f"{failed}: the clock of this machine is wrong")
    if code in _WRONG_REGION or status in (301, 307):
        return S3ConfigurationError(f"{failed}: check AWS_REGION and AWS_HOST")
    if status == 403:
        return S3AccessDenied(
            f"{failed}: check AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY and their "
            f"rights on bucket {bucket}"
        )
    if status == 404:
        # of a proxy that knows no backend, or of another server: nothing is known
        return S3Unavailable(f"{failed}: this is no answer of S3; check AWS_HOST")
    if status == 416:
        return S3ContentError(f"{failed}: the object is shorter than expected")
    return S3Unavailable(f"{failed}: {error}")


@dataclass(frozen=True)
class S3Store:
    """The objects of one bucket.

    Every method raises an :class:`~.exceptions.S3Error` when the store cannot be used.

    :param put_options: parameters of S3's ``PutObject`` for new objects
    :param cache: where contents are looked for first, and kept
    """

    connection: Connection
    bucket: str
    put_options: tuple[tuple[str, str], ...] = ()
    cache: ContentCache | None = None

    @property
    def client(self):
        return client(self.connection)

    def _named_errors(self, operation, key=""):
        return _named_errors(operation, self.connection, self.bucket, key)

    def put(self, key: str, content: bytes) -> str:
        """Store a content: one request, or several in parallel for a large one.

        :return: the store's entity tag, without quotes; empty when sent in parts
        """
        with self._named_errors("upload", key), measured("put") as measure:
            options = dict(self.put_options)
            measure.bytes = len(content)
            if len(content) < MULTIPART.multipart_threshold:
                answer = self.client.put_object(
                    Bucket=self.bucket, Key=key, Body=content, **options
                )
                return answer.get("ETag", "").strip('"')
            self.client.upload_fileobj(
                io.BytesIO(content),
                self.bucket,
                key,
                ExtraArgs=options,
                Config=MULTIPART,
            )
            return ""

    def put_verified(self, key: str, content: bytes):
        """Store a content and make sure that the store has all of it.

        The entity tag of a plain upload is the content's MD5 (S3's API reference,
        "Object"). When it is not (encrypted, sent in parts), the size is asked for.

        :raises S3ContentError: when it has not
        """
        tag = self.put(key, content)
        if tag != hashlib.md5(content, usedforsecurity=False).hexdigest():
            self._check_size(key, len(content))

    def put_file_verified(self, key: str, path: str, size: int):
        """Store the content of a local file, in parts that are not all in memory.

        :param size: of the file, in bytes
        :raises S3ContentError: when the store has not all of it
        """
        with self._named_errors("upload", key), measured("put") as measure:
            measure.bytes = size
            self.client.upload_file(
                path,
                self.bucket,
                key,
                ExtraArgs=dict(self.put_options),
                Config=MULTIPART,
            )
        self._check_size(key, size)

    def _check_size(self, key, expected):
        size = self.size(key)
        if size != expected:
            raise S3ContentError(
                f"S3 upload of {self.bucket}/{key} at {self.connection}: the store has "
                f"{size} bytes instead of {expected}"
            )

    def size(self, key: str) -> int:
        """Return the size of an object in bytes.

        :raises S3ObjectMissing: when there is none
        """
        with self._named_errors("head", key), measured("head"):
            answer = self.client.head_object(Bucket=self.bucket, Key=key)
            return answer["ContentLength"]

    def get(self, key: str, size: int | None = None) -> bytes:
        """Return a content, or its first ``size`` bytes: one request.

        A whole content is checked against the digest in its key.

        :raises S3ObjectMissing: when there is none
        :raises S3ContentError: when it is not what was stored
        """
        if size == 0:
            return b""
        with Download(self, key, stop=size) as download:
            return b"".join(download)

    def presigned_url(self, key: str, seconds: int, **headers: str) -> str:
        """Return an address with which anybody can GET an object: a secret.

        No request is sent.

        :param seconds: for which it is valid
        :param headers: parameters of S3's ``GetObject`` that replace headers of the
            answer (``ResponseContentType``); part of what is signed
        """
        with self._named_errors("sign", key):
            return self.client.generate_presigned_url(
                "get_object",
                Params={"Bucket": self.bucket, "Key": key, **headers},
                ExpiresIn=seconds,
            )

    def delete(self, keys: Iterable[str]) -> dict[str, str | None]:
        """Delete objects.

        :return: each key with the reason why it is still there, or ``None``
        """
        keys, result = list(keys), {}
        for start in range(0, len(keys), DELETE_KEYS):
            result.update(self._delete_bulk(keys[start : start + DELETE_KEYS]))
        return result

    def _delete_bulk(self, keys):
        if len(keys) == 1:
            return self._delete_each(keys)
        try:
            with measured("delete"):
                answer = self.client.delete_objects(
                    Bucket=self.bucket,
                    Delete={"Objects": [{"Key": key} for key in keys]},
                )
        except ClientError as error:
            if error.response["Error"].get("Code") in _NO_BULK_DELETE:
                return self._delete_each(keys)
            with self._named_errors("delete"):
                raise
        except Exception:
            with self._named_errors("delete"):
                raise
        # what the store does not confirm counts as not deleted
        result = dict.fromkeys(keys, "the store did not confirm it")
        for deleted in answer.get("Deleted", []):
            result[deleted["Key"]] = None
        for error in answer.get("Errors", []):
            missing = error.get("Code") in _MISSING_KEY
            result[error["Key"]] = None if missing else error.get("Code", "Error")
        return result

    def _delete_each(self, keys):
        result = {}
        for key in keys:
            try:
                with self._named_errors("delete", key), measured("delete"):
                    self.client.delete_object(Bucket=self.bucket, Key=key)
            except S3ObjectMissing:
                result[key] = None
            except S3AccessDenied as error:
                result[key] = str(error)
            else:
                result[key] = None
        return result

    def list(
        self, prefix: str, start_after: str = "", delimiter: str = ""
    ) -> Iterator[dict]:
        """Yield ``Key``, ``Size`` and ``LastModified`` of the objects of a prefix.

        One page of the store (1000 objects) is in memory.

        :param start_after: key after which to begin, for stores that know this
        :param delimiter: leave out the keys that have it after the prefix
        """
        options = {"StartAfter": start_after, "Delimiter": delimiter}
        options = {name: value for name, value in options.items() if value}
        while True:
            with self._named_errors("list", prefix), measured("list"):
                page = self.client.list_objects_v2(
                    Bucket=self.bucket, Prefix=prefix, **options
                )
            yield from page.get("Contents", [])
            if not page.get("IsTruncated"):
                return
            options["ContinuationToken"] = page["NextContinuationToken"]


class Download:
    """Content of an object, or a part of it, in chunks and constant memory.

    The request is sent at once, so that its errors come before anything is passed on.
    A body that breaks off is continued with another request. A whole content is
    checked against the digest in its key before its last chunk is passed on, a part
    by its length.

    :param start: first byte
    :param stop: byte after the last one; ``None``: to the end
    :param size: bytes that the whole object must have; ``None``: not known
    :raises S3Error: by the constructor and while the content is read
    """

    def __init__(
        self,
        store: S3Store,
        key: str,
        start: int = 0,
        stop: int | None = None,
        size: int | None = None,
    ):
        self.store = store
        self.key = key
        self.position = start
        self.stop = stop
        self.size = size
        self._digest, self._expected_digest = self._make_digest(start, stop, size)
        self._attempts_left = store.connection.max_attempts
        self._body = None
        self._measure = Measure("get")
        try:
            if not self._open_cached():
                self._open()
        except S3Error as error:
            self._measure.done(error)
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_exception):
        self.close()

    def __iter__(self):
        try:
            yield from self._checked_chunks()
        except S3Error as error:
            self._measure.done(error)
            raise
        finally:
            self.close()
        self._measure.done()

    def close(self):
        """Give up the connection."""
        if self._body is not None:
            self._body.close()
            self._body = None

    def _make_digest(self, start, stop, size):
        """Return a digest to fill for a whole content, and its value."""
        name = self.key.rpartition("/")[2]
        whole = start == 0 and (stop is None or stop == size)
        # 40: contents that the addon of 2016 stored
        algorithm = {64: "sha256", 40: "sha1"}.get(len(name))
        if not whole or not algorithm:
            return None, None
        return hashlib.new(algorithm, usedforsecurity=False), name

    def _open_cached(self):
        """Read from the cache.

        :return: whether the content is there
        """
        name = self.key.rpartition("/")[2]
        if not self.store.cache or not _SHA256.fullmatch(name):
            return False
        content = self.store.cache.get(name)
        if content is None:
            return False
        self._measure.name = "cached"
        self._digest = None  # the cache has checked it
        self._check_total(len(content))
        self._body = io.BytesIO(content)
        self._skip = self.position
        return True

    def _open(self):
        """Send the request for what is still to be read."""
        self._attempts_left -= 1
        options, first = {}, self.position
        if first or self.stop is not None and not (first == 0 and self._digest):
            last = "" if self.stop is None else self.stop - 1
            options["Range"] = f"bytes={first}-{last}"
        with self.store._named_errors("download", self.key):
            answer = self.store.client.get_object(
                Bucket=self.store.bucket, Key=self.key, **options
            )
        self._body = answer["Body"]
        if content_range := answer.get("ContentRange"):
            received, total = content_range.removeprefix("bytes ").split("/")
            self._skip = first - int(received.partition("-")[0])
            total = int(total) if total.isdigit() else None
        else:  # also of a store that does not know Range, and sends all
            self._skip = first
            total = answer.get("ContentLength")
        if self._skip < 0:
            self._fail("another part than the one asked for arrived")
        if total is not None:
            self._check_total(total)

    def _check_total(self, total):
        """Compare the size of the whole object with the expected one."""
        if self.size is not None and total != self.size:
            self._fail(f"{total} bytes are stored instead of {self.size}")
        self.size = total
        self.stop = total if self.stop is None else min(self.stop, total)

    def _chunks(self):
        while self.stop is None or self.position < self.stop:
            try:
                chunk = self._body.read(CHUNK_BYTES)
            except _BODY_ERRORS as error:
                self.close()
                if self._attempts_left < 1:
                    with self.store._named_errors("download", self.key):
                        raise
                _logger.info("Download of %s continues after: %s", self.key, error)
                self._open()
                continue
            if not chunk:
                if self.stop is not None:
                    self._fail("it ended too early")
                return
            if self._skip:
                skipped = min(self._skip, len(chunk))
                self._skip -= skipped
                chunk = chunk[skipped:]
            if self.stop is not None:
                chunk = chunk[: self.stop - self.position]
            if chunk:
                self.position += len(chunk)
                self._measure.bytes += len(chunk)
                yield chunk

    def _checked_chunks(self):
        if self._digest is None:
            yield from self._chunks()
            return
        cache, held = self.store.cache, None
        if cache and not (self._digest.name == "sha256" and cache.accepts(self.size)):
            cache = None
        kept = []
        for chunk in self._chunks():
            self._digest.update(chunk)
            if cache:
                kept.append(chunk)
            if held is not None:
                yield held
            held = chunk
        if self._digest.hexdigest() != self._expected_digest:
            self._fail("its content is not the one of its key")
        if held is not None:
            yield held
        if cache:
            cache.put(self._expected_digest, b"".join(kept))

    def _fail(self, reason):
        self.close()
        raise S3ContentError(
            f"S3 download of {self.store.bucket}/{self.key} at "
            f"{self.store.connection}: {reason}"
        )
