"""Questions to the services that a platform uses, each within a bounded time."""

import ipaddress
import secrets
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass, field

from odoo.release import MIN_PG_VERSION
from odoo.tools import config

from .faults import Fault

#: a probe that takes longer is a fault
PROBE_SECONDS = 10
#: life of the key that the Redis probe writes, in case its deletion fails
KEY_SECONDS = 60
#: a day, after which nobody needs a session on a test instance
TEST_EXPIRATION_SECONDS = 86400


@dataclass
class Result:
    """The outcome of a check or a probe.

    :param detail: what was found
    :param faults: what is wrong
    :param advice: what would be better; no fault
    """

    detail: str = ""
    faults: list[Fault] = field(default_factory=list)
    advice: list[str] = field(default_factory=list)

    @property
    def status(self) -> str:
        return "fault" if self.faults else "ok"

    def as_dict(self) -> dict:
        return {
            "status": self.status,
            "detail": self.detail,
            "faults": [fault.as_dict() for fault in self.faults],
            "advice": self.advice,
        }


def run(title: str, probe: Callable[[], Result]) -> Result:
    """Run a probe, which must not use a cursor, for ``PROBE_SECONDS`` at most."""
    results = []

    def target():
        try:
            results.append(probe())
        except Exception as error:  # of any client library: it is the result
            fault = Fault(title, _text(error), "Check this service and its variables")
            results.append(Result(faults=[fault]))

    # a daemon: a name resolution that hangs does not keep the process
    thread = threading.Thread(target=target, name=f"probe {title}", daemon=True)
    thread.start()
    thread.join(PROBE_SECONDS)
    if results:
        return results[0]
    problem = f"gave no answer within {PROBE_SECONDS} seconds"
    return Result(faults=[Fault(title, problem, "Check this service and the network")])


def _text(error):
    text = str(error).strip().rstrip(".") or "failed"
    return f"{type(error).__name__}: {text}"


def redis() -> Result:
    """Ask Redis as ``session_redis`` does, write a key under its prefix, delete it."""
    from odoo.addons.session_redis import connection, settings

    values = settings.load()
    if values is None:
        return Result("not used: ODOO_SESSION_REDIS is off")
    result = Result(connection.describe(values))
    client = connection.connect(values)
    try:
        # no PING: the user of deploy/redis/users.acl may not, and a write tells more
        key = f"session:{values.prefix or ''}:cloudcheck:{secrets.token_hex(8)}"
        client.set(key, "1", ex=KEY_SECONDS)
        if client.get(key) is None:
            result.faults.append(
                Fault(
                    "ODOO_SESSION_REDIS_HOST",
                    "does not keep the key that it was given",
                    "Check the memory and the eviction policy of Redis",
                )
            )
        client.delete(key)
        _advise_on_redis(client, values, result)
    finally:
        client.close()
    return result


def _advise_on_redis(client, values, result):
    from redis.exceptions import NoPermissionError

    if values.cluster:
        return  # each node has its own answers
    try:
        info = client.info("everything")
    except NoPermissionError:
        result.advice.append("this Redis user may not run INFO: nothing more is known")
        return
    result.detail += f", Redis {info.get('redis_version')}, {info.get('role')}"
    policy = info.get("maxmemory_policy")
    if info.get("maxmemory") and policy != "noeviction":
        result.advice.append(
            f"maxmemory-policy is {policy}: Redis will log users out when its memory "
            "is full; set it to noeviction"
        )
    if not info.get("aof_enabled") and not info.get("rdb_last_save_time"):
        result.advice.append(
            "Redis keeps nothing on disk: a restart logs all users out"
        )
    if config["running_env"] == "test" and values.expiration > TEST_EXPIRATION_SECONDS:
        result.advice.append(
            f"sessions of the environment test live {values.expiration} seconds: set "
            f"ODOO_SESSION_REDIS_EXPIRATION={TEST_EXPIRATION_SECONDS}"
        )
    if not _is_encrypted(values) and not _is_local(values):
        result.advice.append(
            "the connection to Redis is not encrypted: set ODOO_SESSION_REDIS_TLS=1"
        )


def _is_encrypted(values):
    url = values.url.get_secret_value() if values.url else ""
    return values.tls or url.startswith(("rediss://", "unix://"))


def _is_local(values):
    try:
        return ipaddress.ip_address(values.host or "127.0.0.1").is_loopback
    except ValueError:
        return values.host == "localhost"


def resolve(variable: str, host: str, port: int) -> Result:
    """Resolve the name of a service that gives no answer (UDP).

    :param variable: the one that holds the name
    """
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)
    except OSError as error:
        problem = f"is {host!r}, which cannot be resolved: {error.strerror}"
        return Result(faults=[Fault(variable, problem, "Correct it, or the resolver")])
    return Result(f"{host}:{port} is {addresses[0][4][0]}")


def postgresql(server_version: int) -> Result:
    """Check the version of PostgreSQL.

    :param server_version: as libpq gives it: 150004 is 15.4
    """
    major, minor = divmod(server_version, 10000)
    result = Result(f"PostgreSQL {major}.{minor}")
    if major < MIN_PG_VERSION:
        problem = f"is version {major}"
        remedy = f"Upgrade it to {MIN_PG_VERSION} or later"
        result.faults.append(Fault("PostgreSQL", problem, remedy))
    return result


def server_wide_modules(platform_addon: str) -> Result:
    """Check the modules that are loaded before any database.

    :param platform_addon: addon of the platform's provider
    """
    loaded = config["server_wide_modules"]
    result = Result(", ".join(loaded))
    if not {"session_redis", platform_addon, "cloud_platform"} & set(loaded):
        result.faults.append(
            Fault(
                "server_wide_modules",
                "does not contain session_redis, so requests before a database is "
                "loaded use sessions in files",
                f"Add {platform_addon},session_redis to --load",
            )
        )
    for addon in (platform_addon, "logging_json"):
        if addon not in loaded:
            result.advice.append(f"add {addon} to server_wide_modules (--load)")
    return result
