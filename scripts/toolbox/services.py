"""PostgreSQL, Redis and an S3 server on free loopback ports.

One supervisor process starts the three as its children and holds a lock on the
folder of their data. It stops them when it is told to, when the process that
``follow``s it ends, and the kernel does it for it should it be killed itself.
"""

import fcntl
import json
import os
import pwd
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from pathlib import Path

from . import processes, programs, setup
from .project import PYTHON, RUN, VENV, ProjectError, say

DEFAULT_DIR = RUN / "services"
S3_SERVERS = ("ministack", "rclone")
#: names as design.md's table of environments asks for: <client>-odoo-prod
BUCKET = PREFIX = "demo-odoo-prod"
REGION = "us-east-1"
#: variables of the caller's own stores, which must never reach our instance
FOREIGN = ("AWS_", "ODOO_SESSION_REDIS", "PG", "REDIS_", "BOTO")
POLICY = {
    "Version": "2012-10-17",
    "Statement": [
        {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*-odoo-*"},
        {"Effect": "Allow", "Action": "s3:*", "Resource": "arn:aws:s3:::*-odoo-*/*"},
    ],
}


class Services:
    """The services whose data lie in one folder.

    :param folder: data, logs and state; made when it does not exist
    """

    def __init__(self, folder: Path = DEFAULT_DIR):
        self.folder = Path(folder).resolve()
        self.state_file = self.folder / "state.json"

    # state

    @property
    def running(self) -> bool:
        """Whether a supervisor holds this folder and its services are ready."""
        return self._locked() and self.state_file.exists()

    @property
    def state(self) -> dict:
        """Ports, process identifiers and credentials.

        :raises ProjectError: when the services do not run
        """
        if not self.running:
            raise ProjectError(
                f"no services run in {self.folder}: scripts/services start"
            )
        return json.loads(self.state_file.read_text())

    @property
    def env(self) -> dict[str, str]:
        """Environment variables that make an Odoo use these services."""
        return self.state["env"]

    def process_env(self, **variables: str) -> dict[str, str]:
        """Return a whole environment for a process, with the programs on its path.

        Variables of the caller for other stores are left out, so that no test ever
        writes into somebody's real bucket.
        """
        path = os.pathsep.join([str(VENV / "bin"), programs.path_variable()])
        return {**own_environment(), **self.env, "PATH": path, **variables}

    # commands

    def start(self, s3: str = "ministack", follow: bool = False) -> None:
        """Start the services, unless they run.

        :param s3: one of :data:`S3_SERVERS`
        :param follow: stop them when this process ends, however it ends
        :raises ProjectError: when one does not start, or when other ones run here
        """
        if self.running:
            if self.state["s3"] != s3:
                raise ProjectError(
                    f"services with {self.state['s3']} run in {self.folder}: "
                    "stop them first, or use another --dir"
                )
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        self.state_file.unlink(missing_ok=True)
        command = [PYTHON, "-m", "toolbox.services", self.folder, s3]
        ready_read, ready_write = os.pipe()
        inherited = [ready_write]
        command.append(ready_write)
        if follow:
            # the write end stays open, unused, as long as this process lives
            owner_read, self._owner_write = os.pipe()
            inherited.append(owner_read)
            command.append(owner_read)
        log = self.folder / "supervisor.log"
        with log.open("wb") as output:
            supervisor = subprocess.Popen(
                [str(part) for part in command],
                cwd=Path(__file__).resolve().parents[1],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=own_environment(),
                pass_fds=inherited,
                start_new_session=True,
            )
        for descriptor in inherited:
            os.close(descriptor)
        with os.fdopen(ready_read) as pipe:
            ready = pipe.read()
        if not ready:
            supervisor.wait()
            raise ProjectError(
                f"the services did not start: {log.read_text(errors='replace')}"
            )

    def stop(self) -> bool:
        """Stop the services and wait for their end.

        :return: whether any were running
        """
        if not self._locked():
            return False
        processes.wait_until(
            lambda: self.state_file.exists() or not self._locked(), "services start"
        )
        supervisor = self.state["supervisor"]
        os.kill(supervisor, signal.SIGTERM)
        # the end of the process, which comes after that of its lock
        processes.wait_until(lambda: ended(supervisor), "services stop", 45)
        return True

    def remove(self) -> None:
        """Stop the services and delete their data."""
        self.stop()
        postgresql = self.folder / "postgresql"
        if postgresql.is_symlink():  # see start_postgresql
            shutil.rmtree(postgresql.resolve(), ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def export_lines(self) -> str:
        """Return ``export NAME=value`` lines for a shell."""
        return "\n".join(
            f"export {name}={shlex.quote(value)}"
            for name, value in sorted(self.env.items())
        )

    def _locked(self):
        try:
            with open(self.folder / "lock") as lock:
                fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except FileNotFoundError:
            return False
        except BlockingIOError:
            return True
        return False


class Supervisor:
    """Starts the services and stops them; one per folder."""

    def __init__(self, folder: Path, s3: str):
        self.folder = folder
        self.s3 = s3
        self.children: list[tuple[str, subprocess.Popen, int]] = []
        secrets_file = folder / "secrets.json"
        if not secrets_file.exists():
            names = ("pg", "redis", "s3_root_key", "s3_root", "s3_user_key", "s3_user")
            write_private(
                secrets_file, json.dumps({n: secrets.token_hex(20) for n in names})
            )
        self.secrets = json.loads(secrets_file.read_text())

    def run(self, ready_fd: int, owner_fd: int | None) -> None:
        lock = open(self.folder / "lock", "w")  # noqa: SIM115  (held until the end)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        stopping, wake = os.pipe()
        os.set_blocking(wake, False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: os.write(wake, b"x"))
        try:
            env = {
                **self.start_postgresql(),
                **self.start_redis(),
                **self.start_s3(),
                "RUNNING_ENV": "prod",
            }
            state = {
                "supervisor": os.getpid(),
                "s3": self.s3,
                "env": env,
                "s3_root": [self.secrets["s3_root_key"], self.secrets["s3_root"]],
                "pids": {name: child.pid for name, child, _signal in self.children},
            }
            write_private(self.folder / "state.json", json.dumps(state, indent=1))
            os.write(ready_fd, b"ready")
            os.close(ready_fd)
            wait_for_end(stopping, owner_fd)
        finally:
            (self.folder / "state.json").unlink(missing_ok=True)
            for _name, child, stop_signal in reversed(self.children):
                processes.stop(child, stop_signal)

    def start_postgresql(self) -> dict[str, str]:
        user = unprivileged_user()
        home = self.folder / "postgresql"
        if user and not reachable(self.folder, user):
            # root's own folder: PostgreSQL refuses root, and nobody else gets there
            link, home = home, None
            if link.is_symlink() and link.exists():
                home = link.resolve()
            else:
                link.unlink(missing_ok=True)
                home = Path(tempfile.mkdtemp(prefix="odoo-postgresql-"))
                link.symlink_to(home)
        home.mkdir(exist_ok=True)
        if user:
            os.chown(home, user.pw_uid, user.pw_gid)
        run_as = {"cwd": home}
        if user:
            run_as |= {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}
        data = home / "data"
        password = self.secrets["pg"]
        if not (data / "PG_VERSION").exists():
            password_file = home / "password"
            write_private(password_file, password + "\n")
            if user:
                os.chown(password_file, user.pw_uid, user.pw_gid)
            shutil.rmtree(data, ignore_errors=True)
            initdb = [programs.require("initdb"), "-D", data, "-U", "odoo"]
            initdb += ["-A", "scram-sha-256", f"--pwfile={password_file}"]
            initdb += ["-E", "UTF8", "--locale=C.UTF-8", "--no-sync"]
            subprocess.run([str(p) for p in initdb], check=True, **run_as)
            password_file.unlink()
        (data / "postmaster.pid").unlink(missing_ok=True)  # we hold the lock
        options = {
            "listen_addresses": "127.0.0.1",
            "unix_socket_directories": "",
            "fsync": "off",  # data for tests and the demo
            "max_connections": "200",
            "logging_collector": "off",
        }
        port = self._launch(
            lambda port: [
                programs.require("postgres"),
                *("-D", data, "-p", port),
                *(f"-c{name}={value}" for name, value in options.items()),
            ],
            "postgresql",
            signal.SIGINT,
            **run_as,
        )
        env = {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(port),
            "PGUSER": "odoo",
            "PGPASSWORD": password,
        }
        import psycopg2

        def connected():
            try:
                psycopg2.connect(
                    host=env["PGHOST"],
                    port=port,
                    user=env["PGUSER"],
                    password=password,
                    dbname="postgres",
                ).close()
            except psycopg2.OperationalError as error:
                raise OSError from error
            return True

        processes.wait_until(connected, "PostgreSQL", process=self.children[-1][1])
        return env

    def start_redis(self) -> dict[str, str]:
        home = self.folder / "redis"
        home.mkdir(exist_ok=True)
        configuration = home / "redis.conf"

        def command(port):
            write_private(
                configuration,
                f"bind 127.0.0.1\nport {port}\ndir {json.dumps(str(home))}\n"
                f"requirepass {self.secrets['redis']}\nappendonly yes\nsave ''\n"
                # with sessions, an eviction is a logout
                "maxmemory-policy noeviction\n",
            )
            return [programs.require("redis-server"), configuration]

        port = self._launch(command, "redis", signal.SIGTERM)
        return {
            "ODOO_SESSION_REDIS": "1",
            "ODOO_SESSION_REDIS_HOST": "127.0.0.1",
            "ODOO_SESSION_REDIS_PORT": str(port),
            "ODOO_SESSION_REDIS_PASSWORD": self.secrets["redis"],
            "ODOO_SESSION_REDIS_PREFIX": PREFIX,
        }

    def start_s3(self) -> dict[str, str]:
        start = self._start_ministack if self.s3 == "ministack" else self._start_rclone
        port, key, secret = start()
        return {
            "AWS_HOST": f"http://127.0.0.1:{port}",
            "AWS_REGION": REGION,
            "AWS_ACCESS_KEY_ID": key,
            "AWS_SECRET_ACCESS_KEY": secret,
            "AWS_BUCKETNAME": BUCKET,
        }

    def _start_ministack(self):
        home = self.folder / "ministack"
        root_key, root_secret = self.secrets["s3_root_key"], self.secrets["s3_root"]
        variables = {
            "PYTHONPATH": str(setup.S3_SERVER),
            "TMPDIR": str(self.folder),  # for its pid file
            "AUTH": "true",
            "BIND_HOST": "127.0.0.1",
            "SERVICES": "s3,iam,sts",
            "SFTP_ENABLED": "0",
            "IOT_MTLS_ENABLED": "0",
            "S3_PERSIST": "1",
            "S3_DATA_DIR": str(home / "objects"),
            "PERSIST_STATE": "1",
            "STATE_DIR": str(home / "state"),
            "AWS_ACCESS_KEY_ID": root_key,
            "AWS_SECRET_ACCESS_KEY": root_secret,
        }
        port = self._launch(
            lambda port: [PYTHON, "-m", "ministack"],
            "ministack",
            signal.SIGTERM,
            port_variable="GATEWAY_PORT",
            env={**os.environ, **variables},
        )
        root = client_arguments(port, root_key, root_secret)
        import boto3

        s3 = boto3.client("s3", **root)
        if BUCKET not in [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]:
            s3.create_bucket(Bucket=BUCKET)
        # the root key passes with any secret: Odoo gets a user of its own
        iam = boto3.client("iam", **root)
        user = "odoo"
        if user not in [u["UserName"] for u in iam.list_users()["Users"]]:
            iam.create_user(UserName=user)
        iam.put_user_policy(
            UserName=user, PolicyName="buckets", PolicyDocument=json.dumps(POLICY)
        )
        for old in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=user, AccessKeyId=old["AccessKeyId"])
        key = iam.create_access_key(UserName=user)["AccessKey"]
        return port, key["AccessKeyId"], key["SecretAccessKey"]

    def _start_rclone(self):
        home = self.folder / "rclone"
        (home / BUCKET).mkdir(parents=True, exist_ok=True)
        key, secret = self.secrets["s3_user_key"], self.secrets["s3_user"]
        rclone = VENV / "bin" / "rclone"
        port = self._launch(
            lambda port: [
                *(rclone, "serve", "s3", "--config", ""),
                *("--addr", f"127.0.0.1:{port}", "--auth-key", f"{key},{secret}"),
                home,
            ],
            "rclone",
            signal.SIGTERM,
        )
        return port, key, secret

    def _launch(self, command, name, stop_signal, port_variable=None, **arguments):
        """Start a service on a free port and wait until it accepts connections."""
        log = self.folder / f"{name}.log"
        arguments.setdefault("cwd", self.folder)
        for attempt in (1, 2, 3):
            port = processes.free_port()
            if port_variable:
                arguments["env"][port_variable] = str(port)
            child = processes.start(command(port), log, **arguments)
            try:
                processes.wait_until(
                    lambda child=child, port=port: (
                        child.poll() is None and processes.accepts_connections(port)
                    ),
                    name,
                    process=child,
                    log=log,
                )
            except ProjectError:
                processes.stop(child)
                if attempt == 3:  # not just somebody else who took the port
                    raise
                continue
            self.children.append((name, child, stop_signal))
            return port


def ended(pid: int) -> bool:
    """Tell whether a process is gone, or a child that only waits for its parent."""
    import psutil

    try:
        return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return True


def own_environment() -> dict[str, str]:
    """Return the environment without the variables of the caller's own stores."""
    return {k: v for k, v in os.environ.items() if not k.startswith(FOREIGN)}


def client_arguments(port: int, key: str, secret: str) -> dict:
    """Return the arguments of a boto3 client for the S3 server on a port."""
    return {
        "endpoint_url": f"http://127.0.0.1:{port}",
        "region_name": REGION,
        "aws_access_key_id": key,
        "aws_secret_access_key": secret,
    }


def wait_for_end(stopping: int, owner_fd: int | None) -> None:
    """Wait for a signal, or for the end of the process that follows us."""
    import select

    descriptors = [stopping] + ([owner_fd] if owner_fd is not None else [])
    select.select(descriptors, [], [])


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read, in one step."""
    temporary = path.with_name(path.name + ".new")
    temporary.unlink(missing_ok=True)
    with open(os.open(temporary, os.O_WRONLY | os.O_CREAT, 0o600), "w") as file:
        file.write(text)
    temporary.rename(path)


def unprivileged_user() -> pwd.struct_passwd | None:
    """Return the user that runs PostgreSQL when we are root, else ``None``."""
    if os.geteuid() != 0:
        return None
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise ProjectError("PostgreSQL refuses to run as root, and there is no user nobody")


def reachable(folder: Path, user: pwd.struct_passwd) -> bool:
    """Tell whether a user may enter a folder."""
    for part in [folder, *folder.parents]:
        facts = part.stat()
        owner = facts.st_uid == user.pw_uid and facts.st_mode & stat.S_IXUSR
        if not (owner or facts.st_mode & stat.S_IXOTH):
            return False
    return True


def main(folder, s3, ready_fd, owner_fd=None):
    Supervisor(Path(folder), s3).run(
        int(ready_fd), int(owner_fd) if owner_fd is not None else None
    )


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except ProjectError as error:
        say(str(error))
        sys.exit(1)
