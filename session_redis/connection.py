"""A client of redis-py for the settings."""

import re
import threading

import redis
from redis.backoff import ExponentialWithJitterBackoff
from redis.cluster import ClusterNode, RedisCluster
from redis.exceptions import MasterDownError, ReadOnlyError
from redis.retry import Retry
from redis.sentinel import Sentinel, SentinelConnectionPool

from . import observer
from .settings import Settings, addresses

#: seconds between two tries: the first is repeated at once or nearly so
BACKOFF_BASE_SECONDS = 0.02
BACKOFF_CAP_SECONDS = 0.2

#: in TLS 1.3 a server checks the client's certificate after the client's handshake
_ENDED_BY_SERVER = re.compile("alert|EOF occurred|closed|reset|broken pipe", re.I)


class CountingBackoff(ExponentialWithJitterBackoff):
    """Asked how long to wait before each further try, it tells :mod:`.observer`."""

    def compute(self, failures):
        observer.count_retry()
        return super().compute(failures)


class _Looking(threading.local):
    first = True


class CountingCluster(RedisCluster):
    """Tells :mod:`.observer` of each further try.

    A cluster's client only takes the number of tries from its ``Retry``; what it does
    for each of them is to look for the nodes of the command. A version of redis-py
    that calls it otherwise counts nothing, and works.
    """

    def execute_command(self, *args, **kwargs):
        self._looking.first = True
        return super().execute_command(*args, **kwargs)

    def _determine_nodes(self, *args, **kwargs):
        if not self._looking.first:
            observer.count_retry()
        self._looking.first = False
        return super()._determine_nodes(*args, **kwargs)

    _looking = _Looking()


class BlockingSentinelConnectionPool(
    SentinelConnectionPool, redis.BlockingConnectionPool
):
    """Connections to the present master, of which there are at most so many."""


def connect(settings: Settings) -> redis.Redis | RedisCluster:
    """Return a client; it connects when it is first used, and survives a fork.

    Everything that can wait has a bound, since redis-py's own defaults let one call
    hang for about a minute.

    :param settings: from :func:`settings.load`, which has refused a bad URL
    """
    options = _connection_options(settings)
    if settings.cluster:
        return _cluster(settings, options)
    pool_options = {
        "max_connections": settings.pool_size,
        "timeout": settings.pool_timeout,
    }
    if settings.sentinel_host:
        sentinel = Sentinel(
            addresses(settings.sentinel_host, settings.sentinel_port),
            sentinel_kwargs=_sentinel_options(settings),
        )
        return sentinel.master_for(
            settings.sentinel_master_name,
            connection_pool_class=BlockingSentinelConnectionPool,
            db=settings.db,
            **_credentials(settings),
            **_tls(settings, settings.tls),
            **options,
            **pool_options,
        )
    if settings.url:
        url = settings.url.get_secret_value()
        pool = redis.BlockingConnectionPool.from_url(
            url,
            **_tls(settings, url.startswith("rediss://"), keyword=False),
            **options,
            **pool_options,
        )
        return redis.Redis(connection_pool=pool)
    tls = _tls(settings, settings.tls, keyword=False)
    pool = redis.BlockingConnectionPool(
        connection_class=redis.SSLConnection if settings.tls else redis.Connection,
        host=settings.host or "localhost",
        port=settings.port,
        db=settings.db,
        **_credentials(settings),
        **tls,
        **options,
        **pool_options,
    )
    return redis.Redis(connection_pool=pool)


def describe(settings: Settings) -> str:
    """Say where the sessions are, without any secret."""
    if settings.url:
        parts = redis.connection.parse_url(settings.url.get_secret_value())
        if path := parts.get("path"):
            place = f"unix socket {path}"
        else:
            place = f"{parts.get('host', 'localhost')}:{parts.get('port', 6379)}"
        place += f", database {parts.get('db', 0)}"
    elif settings.sentinel_host:
        place = (
            f"master {settings.sentinel_master_name} of {settings.sentinel_host}, "
            f"database {settings.db}"
        )
    else:
        place = f"{settings.host or 'localhost'}:{settings.port}"
        place += ", cluster" if settings.cluster else f", database {settings.db}"
    return f"{place}, prefix {settings.prefix or '(none)'}"


def explain(settings: Settings, error: Exception) -> str:
    """Return an error's class and text, and what they do not say."""
    text = f"{type(error).__name__}: {error}"
    url = settings.url.get_secret_value() if settings.url else ""
    with_tls = settings.tls or url.startswith("rediss://")
    if (
        with_tls
        and isinstance(error, redis.ConnectionError)
        and _ENDED_BY_SERVER.search(text)
    ):
        text += (
            "; with TLS, this is also how a server refuses a client's certificate that "
            "is missing or unknown to it: see ODOO_SESSION_REDIS_TLS_CERT"
        )
    return text


def _connection_options(settings):
    return {
        "socket_connect_timeout": settings.connect_timeout,
        "socket_timeout": settings.timeout,
        "retry": Retry(
            CountingBackoff(base=BACKOFF_BASE_SECONDS, cap=BACKOFF_CAP_SECONDS),
            settings.retries,
        ),
        # A name may lead to the new master while a connection to the old one lives.
        "retry_on_error": [ReadOnlyError, MasterDownError],
        "client_name": settings.client_name,
        # RESP3 adds a handshake and notifications that nobody here reads
        "protocol": 2,
    }


def _credentials(settings):
    return {"username": settings.username, "password": settings.secret_password()}


def _sentinel_options(settings):
    options = _connection_options(settings)
    # the next sentinel is the better retry
    options["retry"] = Retry(ExponentialWithJitterBackoff(), 0)
    password = settings.sentinel_password
    return {
        **options,
        "username": settings.sentinel_username,
        "password": password.get_secret_value() if password else None,
        **_tls(settings, settings.tls),
    }


def _tls(settings, enabled, keyword=True):
    """Return options for TLS.

    :param keyword: whether the callee takes ``ssl`` rather than a connection class
    """
    if not enabled:
        return {}
    return {
        **({"ssl": True} if keyword else {}),
        "ssl_ca_certs": settings.tls_ca and str(settings.tls_ca),
        "ssl_certfile": settings.tls_cert and str(settings.tls_cert),
        "ssl_keyfile": settings.tls_key and str(settings.tls_key),
    }


def _cluster(settings, options):
    del options["retry_on_error"]  # a cluster's nodes say where to go instead
    url = settings.url and settings.url.get_secret_value()
    others = []
    if not url:
        nodes = addresses(settings.host or "localhost", settings.port)
        scheme = "rediss" if settings.tls else "redis"
        (host, port), *others = nodes
        # only a cluster with a URL can have a blocking pool per node
        url = (
            f"{scheme}://[{host}]:{port}"
            if ":" in host
            else (f"{scheme}://{host}:{port}")
        )
        options.update(_credentials(settings))
    return CountingCluster.from_url(
        url,
        startup_nodes=[ClusterNode(host, port) for host, port in others],
        connection_pool_class=redis.BlockingConnectionPool,
        max_connections=settings.pool_size,
        timeout=settings.pool_timeout,
        **_tls(settings, url.startswith("rediss://"), keyword=False),
        **options,
    )
