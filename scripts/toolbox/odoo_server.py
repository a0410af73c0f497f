"""Odoo databases and front ends of the demo and the system tests."""

import json
import os
import re
import shutil
import signal
import subprocess
import urllib.error
import urllib.request
import uuid
from pathlib import Path

from . import odoo_command, processes
from .project import ODOO, PYTHON, ProjectError
from .services import Services

#: at the end of a run of Odoo's tests
TESTS_RESULT = re.compile(r"(\d+) failed, (\d+) error\(s\) of (\d+) tests when loading")


def connect(services: Services, database: str = "postgres"):
    """Return a psycopg2 connection in autocommit mode."""
    import psycopg2

    env = services.env
    connection = psycopg2.connect(
        host=env["PGHOST"],
        port=env["PGPORT"],
        user=env["PGUSER"],
        password=env["PGPASSWORD"],
        dbname=database,
    )
    connection.autocommit = True
    return connection


def query(services: Services, database: str, sql: str, *parameters) -> list[tuple]:
    """Run one SQL statement and return its rows."""
    connection = connect(services, database)
    try:
        with connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            return cursor.fetchall() if cursor.description else []
    finally:
        connection.close()


def database_exists(services: Services, name: str) -> bool:
    found = query(
        services, "postgres", "SELECT 1 FROM pg_database WHERE datname = %s", name
    )
    return bool(found)


def drop_database(services: Services, name: str) -> None:
    query(services, "postgres", f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def copy_database(services: Services, source: str, name: str, data_dir: Path) -> None:
    """Duplicate a database as Odoo does: its filestore and a new uuid with it."""
    drop_database(services, name)
    query(services, "postgres", f'CREATE DATABASE "{name}" TEMPLATE "{source}"')
    for key in ("database.uuid", "database.secret"):
        sql = "UPDATE ir_config_parameter SET value = %s WHERE key = %s"
        query(services, name, sql, str(uuid.uuid4()), key)
    filestore = data_dir / "filestore"
    shutil.rmtree(filestore / name, ignore_errors=True)
    if (filestore / source).exists():
        shutil.copytree(filestore / source, filestore / name)


def run_odoo(
    services: Services,
    folder: Path,
    *arguments: str,
    stdin: str = "",
    python: tuple[str, ...] = (),
    **variables: str,
) -> subprocess.CompletedProcess:
    """Run Odoo's command line to its end.

    :param folder: gets ``odoo.conf`` and the data directory
    :param arguments: of ``odoo``
    :param stdin: what it reads (``odoo shell`` runs it)
    :param python: arguments of Python, before the program
    :param variables: environment variables; an empty one is as good as unset
    :return: with output and errors in ``stdout``
    """
    configuration = odoo_command.write_configuration(folder)
    command = [*python, str(ODOO), *arguments]
    return _run(services, configuration, command, stdin, variables)


def run_anthem(
    services: Services, folder: Path, *arguments: str, **variables: str
) -> subprocess.CompletedProcess:
    """Run anthem to its end; as :func:`run_odoo`."""
    configuration = odoo_command.write_configuration(folder)
    command = odoo_command.anthem_command([*arguments, "-c", str(configuration)])
    return _run(services, configuration, command[1:], "", variables)


def _run(services, configuration, arguments, stdin, variables):
    return subprocess.run(
        [str(PYTHON), *arguments],
        env=services.process_env(ODOO_RC=str(configuration), **variables),
        input=stdin,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        preexec_fn=processes.die_with_parent(),
    )


class OdooServer:
    """One front end in a process group of its own, with its own data directory.

    :param folder: gets ``odoo.conf``, ``data`` and ``odoo.log``
    :param database: the one that it serves
    :param options: options of Odoo's configuration file (``workers``)
    :param variables: environment variables beside those of the services
    """

    #: as the server, with JSON from the first log line when that is on
    command = "cloudserver"

    def __init__(
        self,
        services: Services,
        folder: Path,
        database: str,
        options: dict | None = None,
        **variables: str,
    ):
        self.services = services
        self.folder = folder
        self.database = database
        self.options = {"proxy_mode": "True", **(options or {})}
        self.variables = variables
        self.log = folder / "odoo.log"
        self.process: subprocess.Popen | None = None
        self.port = processes.free_port()
        self.websocket_port = processes.free_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def live_port(self) -> int:
        """Port for websockets; without workers no process has them for itself."""
        return self.websocket_port if self.options.get("workers") else self.port

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    def launch(self) -> None:
        """Start the process and do not wait."""
        configuration = odoo_command.write_configuration(
            self.folder,
            http_port=str(self.port),
            gevent_port=str(self.websocket_port),
            **self.options,
        )
        command = [PYTHON, ODOO, self.command, "-d", self.database]
        variables = {"ODOO_RC": str(configuration), **self.variables}
        self.process = processes.start(
            command, self.log, env=self.services.process_env(**variables)
        )

    def start(self, seconds: float = 120) -> "OdooServer":
        """Start and wait until the login page of the database is served."""
        self.launch()
        self.wait(seconds)
        return self

    def wait(self, seconds: float = 120) -> None:
        """Wait until the login page of the database is served."""
        processes.wait_until(
            lambda: http_status(f"{self.url}/web/login") == 200,
            f"Odoo on port {self.port}",
            seconds,
            process=self.process,
            log=self.log,
        )

    def stop(self) -> int | None:
        """Stop it as a service manager does, and return its exit status."""
        return processes.stop(self.process) if self.process else None

    def kill(self) -> None:
        """End it and all its workers as a power failure does."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()

    def __enter__(self):
        return self.start()

    def __exit__(self, *_exception):
        self.stop()

    def local_files(self, *folders: str) -> list[Path]:
        """Return the files that it left in its data directory."""
        roots = [self.data_dir / name for name in folders or ("filestore", "sessions")]
        return [path for root in roots for path in root.rglob("*") if path.is_file()]


def http_status(url: str) -> int:
    """Return the status of a GET request; OSError when nobody answers."""
    try:
        with urllib.request.urlopen(url, timeout=60) as response:
            return response.status
    except urllib.error.HTTPError as error:
        return error.code


def json_lines(log: Path) -> tuple[list[dict], list[str]]:
    """Split a log in its JSON records and its other lines."""
    return split_json(log.read_text(errors="replace"))


def split_json(text: str) -> tuple[list[dict], list[str]]:
    """Split what a server wrote in its JSON records and its other lines."""
    records, others = [], []
    for line in text.splitlines():
        try:
            record = json.loads(line, parse_constant=_no_json)
        except ValueError:
            record = None
        (records if isinstance(record, dict) else others).append(record or line)
    return records, others


def _no_json(name):
    """Python reads NaN and infinities, which RFC 8259 has not."""
    raise ValueError(name)


def tests_result(output: str) -> int:
    """Return how many tests an Odoo run executed, all of them successful.

    :raises ProjectError: on a failure, an error, or when none was executed
    """
    results = TESTS_RESULT.findall(output)
    failed = sum(int(failures) + int(errors) for failures, errors, _total in results)
    total = sum(int(total) for _failures, _errors, total in results)
    if failed or not total:
        raise ProjectError(f"{failed} failed or in error of {total} Odoo tests")
    return total
