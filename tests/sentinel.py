"""A Redis that fails over: a master, a replica and three sentinels."""

import shutil
from pathlib import Path

import redis
from toolbox import processes, programs

NAME = "sessions"


class Server:
    """One ``redis-server`` process."""

    def __init__(self, folder: Path, *options: str, arguments=()):
        folder.mkdir(parents=True)
        self.port = processes.free_port()
        self.log = folder / "redis.log"
        configuration = folder / "redis.conf"
        lines = ["bind 127.0.0.1", f"port {self.port}", f"dir {folder}", *options]
        configuration.write_text("\n".join([*lines, ""]))
        self.command = [programs.require("redis-server"), configuration, *arguments]
        self.process = None

    def start(self) -> "Server":
        self.process = processes.start(self.command, self.log)
        processes.wait_until(
            lambda: processes.accepts_connections(self.port),
            "Redis",
            process=self.process,
            log=self.log,
        )
        return self

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def ask(self, *arguments):
        """Run a command and return its plain answer; OSError while there is none."""
        with redis.Redis(
            port=self.port, socket_timeout=5, retry=None, protocol=2
        ) as client:
            client.response_callbacks.clear()
            try:
                return client.execute_command(*arguments)
            except redis.RedisError as error:
                raise OSError(str(error)) from error

    @property
    def role(self) -> str:
        return self.ask("ROLE")[0].decode()


class Sentinels:
    """Sentinels that watch a master and its replica.

    :param folder: of the servers' data; emptied
    :param down_after: milliseconds without an answer after which a server is down
    """

    def __init__(self, folder: Path, down_after: int = 2500):
        shutil.rmtree(folder, ignore_errors=True)
        first = Server(folder / "first", "save ''")
        second = Server(
            folder / "second",
            f"replicaof 127.0.0.1 {first.port}",
            "repl-diskless-sync-delay 0",
            "save ''",
        )
        self.servers = [first, second]
        self.sentinels = [
            Server(
                folder / f"sentinel-{number}",
                f"sentinel monitor {NAME} 127.0.0.1 {first.port} 2",
                f"sentinel down-after-milliseconds {NAME} {down_after}",
                f"sentinel failover-timeout {NAME} 5000",
                arguments=["--sentinel"],
            )
            for number in (1, 2, 3)
        ]

    @property
    def env(self) -> dict[str, str]:
        """Variables of an Odoo that asks them."""
        hosts = ",".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return {
            "ODOO_SESSION_REDIS_SENTINEL_HOST": hosts,
            "ODOO_SESSION_REDIS_SENTINEL_MASTER_NAME": NAME,
            # those of the services' own Redis
            "ODOO_SESSION_REDIS_HOST": "",
            "ODOO_SESSION_REDIS_PORT": "",
            "ODOO_SESSION_REDIS_PASSWORD": "",
        }

    @property
    def master(self) -> Server:
        """The server that the sentinels name."""
        address = self.sentinels[0].ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME)
        [master] = [one for one in self.servers if one.port == int(address[1])]
        return master

    def start(self) -> "Sentinels":
        for one in [*self.servers, *self.sentinels]:
            one.start()
        self.wait()
        return self

    def wait(self, seconds: float = 60) -> None:
        """Wait until the master may die: it has a replica and each sentinel knows."""
        processes.wait_until(self._can_fail_over, "the sentinels", seconds)

    def stop(self) -> None:
        for one in [*self.sentinels, *self.servers]:
            if one.process:
                processes.stop(one.process)

    def fail_over(self) -> Server:
        """Kill the master, wait for the next one, and return the killed one."""
        killed = self.master
        killed.kill()
        processes.wait_until(
            lambda: self.master is not killed and self.master.role == "master",
            "a new master",
        )
        return killed

    def _can_fail_over(self):
        for sentinel in self.sentinels:
            if not sentinel.ask("SENTINEL", "CKQUORUM", NAME).startswith(b"OK 3"):
                return False
            [replica] = sentinel.ask("SENTINEL", "REPLICAS", NAME) or [None]
            if not replica:
                return False
            facts = dict(zip(replica[::2], replica[1::2], strict=True))
            up = facts[b"flags"] == b"slave" and facts[b"master-link-status"] == b"ok"
            if not up:
                return False
        [replica] = [one for one in self.servers if one is not self.master]
        return replica.ask("ROLE")[3] == b"connected"
