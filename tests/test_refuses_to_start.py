"""A server with a wrong configuration ends, in every mode; real processes."""

import http.client
import json
import os
import socket
import subprocess
import time

import boto3
import psutil
import pytest
import redis
from toolbox import odoo_command, odoo_server, processes, project

DATABASE = "refusal"
#: as the README says: the platform first, it brings the others
LOAD = "base,web,cloud_platform_exoscale,session_redis,logging_json"
WRONG_PREFIX = {"ODOO_SESSION_REDIS_PREFIX": "demo-odoo-test"}
SECONDS = 10  # from the check to the end of the process


@pytest.fixture(scope="module")
def database(make_database, services):
    """A database of prod, configured as its song would do."""
    name = make_database(DATABASE)
    for key, value in (
        ("cloud.platform.kind", "exoscale"),
        ("ir_attachment.location", "s3://"),
    ):
        set_parameter(services, name, key, value)
    return name


def set_parameter(services, database, key, value):
    odoo_server.query(
        services,
        database,
        "INSERT INTO ir_config_parameter (key, value) VALUES (%s, %s) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        key,
        value,
    )


class Server:
    """An Odoo process whose end is expected."""

    def __init__(self, services, folder, arguments, load=LOAD, **variables):
        self.port, self.gevent_port = processes.free_port(), processes.free_port()
        self.log = folder / "odoo.log"
        configuration = odoo_command.write_configuration(
            folder,
            http_port=str(self.port),
            gevent_port=str(self.gevent_port),
            server_wide_modules=load,
        )
        # a prefork server starts its evented process with the same script
        script = folder / "odoo_main.py"
        script.write_text("import odoo.cli\n\nodoo.cli.main()\n")
        env = services.process_env(ODOO_RC=str(configuration), **variables)
        self.process = processes.start(
            [project.PYTHON, script, *arguments], self.log, env=env
        )
        self.children = set()

    @property
    def output(self):
        return self.log.read_text(errors="replace")

    def request(self, path="/web/login", port=None):
        """Return the status of a request, ``None`` when it gets no answer."""
        self.children |= set(psutil.Process(self.process.pid).children(recursive=True))
        connection = http.client.HTTPConnection(
            "127.0.0.1", port or self.port, timeout=60
        )
        try:
            connection.request("GET", path)
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def wait_for_port(self, port=None):
        processes.wait_until(
            lambda: processes.accepts_connections(port or self.port),
            "Odoo",
            process=self.process,
            log=self.log,
        )

    def exit_status(self):
        status = self.process.wait(60)
        gone, alive = psutil.wait_procs(self.children, timeout=SECONDS)
        assert not alive, f"left behind: {alive}"
        for port in (self.port, self.gevent_port):
            with pytest.raises(OSError):
                processes.accepts_connections(port)
        return status

    def last_message(self):
        """Return what follows the last record's level in a plain log."""
        return self.output.rpartition(" CRITICAL ")[2]


@pytest.fixture
def start(services, tmp_path):
    servers = []

    def start(*arguments, **options):
        server = Server(services, tmp_path, arguments, **options)
        servers.append(server)
        return server

    yield start
    for server in servers:
        processes.stop(server.process)


def assert_tells_the_prefix(message):
    assert "ODOO_SESSION_REDIS_PREFIX: is 'demo-odoo-test'" in message
    assert "<client>-odoo-prod" in message
    assert message.rstrip().endswith("This server does not start.")
    assert " INFO " not in message


# the database is given


@pytest.mark.parametrize("load", [LOAD, "base,web"])
@pytest.mark.parametrize(
    "arguments",
    [
        ("--stop-after-init",),
        ("--stop-after-init", "--workers", "2"),
        (),
        ("--workers", "2"),
    ],
    ids=" ".join,
)
def test_server_of_a_database(start, database, arguments, load):
    server = start("server", "-d", database, *arguments, load=load, **WRONG_PREFIX)
    assert server.exit_status() == 78
    assert_tells_the_prefix(server.last_message())


# the database is loaded by a request


@pytest.mark.parametrize("workers", ["0", "2"])
def test_database_loaded_by_a_request(start, database, workers):
    server = start(
        *("server", "--db-filter", f"^{database}$", "--workers", workers),
        *("--max-cron-threads", "0"),
        **WRONG_PREFIX,
    )
    server.wait_for_port()
    assert server.request() is None
    asked = time.monotonic()
    assert server.exit_status() == 78
    assert time.monotonic() - asked < SECONDS
    assert_tells_the_prefix(server.last_message())


def test_evented_process_alone(start, database):
    server = start(
        *("gevent", "--db-filter", f"^{database}$", "--workers", "2"),
        **WRONG_PREFIX,
    )
    server.wait_for_port(server.gevent_port)
    assert server.request(port=server.gevent_port) is None
    assert server.exit_status() == 3
    assert_tells_the_prefix(server.last_message())


def test_evented_process_stops_its_server(start, database):
    server = start(
        *("server", "--db-filter", f"^{database}$", "--workers", "2"),
        *("--max-cron-threads", "0"),
        **WRONG_PREFIX,
    )
    server.wait_for_port(server.gevent_port)
    assert server.request(port=server.gevent_port) is None
    assert server.exit_status() == 78
    assert_tells_the_prefix(server.last_message())


def test_worker_of_a_master_that_does_not_know_the_addon(start, database):
    server = start(
        *("server", "--db-filter", f"^{database}$", "--workers", "2"),
        *("--max-cron-threads", "0"),
        load="base,web",
        **WRONG_PREFIX,
    )
    server.wait_for_port()
    server.wait_for_port(server.gevent_port)
    assert server.request() is None
    assert len(server.children) == 3  # all of them end
    assert server.exit_status() == 1
    assert "ODOO_SESSION_REDIS_PREFIX: is 'demo-odoo-test'" in server.output


# the environment alone


@pytest.mark.parametrize(
    "arguments", [("server",), ("server", "--workers", "2"), ("gevent",)], ids=" ".join
)
def test_wrong_variables_stop_before_any_database(start, database, arguments):
    server = start(
        *(*arguments, "-d", database),
        RUNNING_ENV="production",
        ODOO_SESSION_REDIS_PORT="abc",
        AWS_ATTACHMENT_READONLY="maybe",
    )
    # status 3 is what makes the master of an evented process stop
    assert server.exit_status() == (3 if arguments == ("gevent",) else 78)
    message = server.last_message()
    for text in (
        "RUNNING_ENV: names the environment 'production'",
        "ODOO_SESSION_REDIS_PORT: is 'abc'",
        "AWS_ATTACHMENT_READONLY: is 'maybe'",
        "3 faults",
    ):
        assert text in message
    assert "odoo.modules.loading" not in server.output
    assert "running on" not in server.output  # nobody listened


def test_wrong_variables_of_statsd_are_told_with_the_others(start, database):
    server = start(
        *("server", "-d", database),
        RUNNING_ENV="production",
        ODOO_SESSION_REDIS="maybe",
        STATSD_PORT="0",
    )
    assert server.exit_status() == 78
    message = server.last_message()
    assert "RUNNING_ENV: names the environment 'production'" in message
    assert "ODOO_SESSION_REDIS: is 'maybe'" in message
    assert "STATSD_PORT: is '0'" in message


def test_message_is_the_last_json_record(start, database, services):
    server = start("server", "-d", database, ODOO_LOGGING_JSON="1", **WRONG_PREFIX)
    assert server.exit_status() == 78
    record = json.loads(server.output.splitlines()[-1])
    assert "ODOO_SESSION_REDIS_PREFIX: is 'demo-odoo-test'" in record["message"]


def test_no_secret_in_the_log(start, database, services):
    server = start("server", "-d", database, "--stop-after-init", **WRONG_PREFIX)
    server.exit_status()
    for name in ("ODOO_SESSION_REDIS_PASSWORD", "AWS_SECRET_ACCESS_KEY"):
        assert services.env[name] not in server.output


# what goes on


def test_unsafe_server_goes_on(start, database):
    server = start(
        *("server", "-d", database, "--stop-after-init"),
        ODOO_CLOUD_PLATFORM_UNSAFE="1",
        **WRONG_PREFIX,
    )
    assert server.exit_status() == 0
    assert "WARNING" in server.output
    assert "ODOO_SESSION_REDIS_PREFIX: is 'demo-odoo-test'" in server.output


def test_shell_goes_on(services, tmp_path, database):
    result = odoo_server.run_odoo(
        services,
        tmp_path,
        *("shell", "-d", database, "--no-http"),
        stdin="print('repaired by', env.user.login)",
        **WRONG_PREFIX,
    )
    assert result.returncode == 0, result.stdout
    assert "repaired by __system__" in result.stdout
    assert "ODOO_SESSION_REDIS_PREFIX: is 'demo-odoo-test'" in result.stdout


@pytest.fixture
def cloudcheck(services, tmp_path):
    def run(*arguments, **variables):
        configuration = odoo_command.write_configuration(
            tmp_path, server_wide_modules=LOAD
        )
        result = subprocess.run(
            [project.PYTHON, "-m", "odoo", "cloudcheck", *arguments],
            env=services.process_env(ODOO_RC=str(configuration), **variables),
            capture_output=True,
            text=True,
            timeout=60,
        )
        for secret in ("ODOO_SESSION_REDIS_PASSWORD", "AWS_SECRET_ACCESS_KEY"):
            assert services.env[secret] not in result.stdout + result.stderr
        return result

    return run


def test_cloudcheck_of_a_good_configuration(cloudcheck, database):
    result = cloudcheck("-d", database)
    assert result.returncode == 0, result.stdout
    assert "[fault]" not in result.stdout
    for service in ("PostgreSQL", "Redis", "S3"):
        assert f"[ ok  ] {service} (" in result.stdout


def test_cloudcheck_prints_json(cloudcheck, database):
    result = cloudcheck("-d", database, "--json")
    report = json.loads(result.stdout)
    assert report["ok"] is True
    assert report["environment"] == "prod"
    assert report["probes"]["Redis"]["status"] == "ok"
    result = cloudcheck("-d", database, "--json", "--no-probe", **WRONG_PREFIX)
    assert result.returncode == 1
    report = json.loads(result.stdout)
    assert report["ok"] is False
    assert report["probes"] == {}
    faults = [fault for check in report["checks"].values() for fault in check["faults"]]
    assert [fault["subject"] for fault in faults] == ["ODOO_SESSION_REDIS_PREFIX"]


def test_cloudcheck_tells_faults_and_goes_on(cloudcheck, database):
    result = cloudcheck("-d", database, "--no-probe", **WRONG_PREFIX)
    assert result.returncode == 1
    assert "ODOO_SESSION_REDIS_PREFIX: is 'demo-odoo-test'" in result.stdout


def test_cloudcheck_asks_the_services(cloudcheck, database):
    with socket.create_server(("127.0.0.1", 0)) as silent:  # accepts, never answers
        port = str(silent.getsockname()[1])
        began = time.monotonic()
        result = cloudcheck(
            *("-d", database),
            ODOO_SESSION_REDIS_PORT=port,
            AWS_SECRET_ACCESS_KEY="wrong",
            ODOO_STATSD="1",
            STATSD_CUSTOMER="demo",
            STATSD_HOST="nowhere.invalid",
        )
    assert time.monotonic() - began < 45
    assert result.returncode == 1
    for service in ("Redis", "S3", "statsd"):
        assert f"[fault] {service}" in result.stdout
    assert "STATSD_HOST: is 'nowhere.invalid'" in result.stdout


def test_cloudcheck_leaves_no_object_and_no_key(cloudcheck, database, services):
    cloudcheck("-d", database)
    env = services.env
    with redis.Redis(
        port=int(env["ODOO_SESSION_REDIS_PORT"]),
        password=env["ODOO_SESSION_REDIS_PASSWORD"],
    ) as client:
        assert not list(client.scan_iter("*cloudcheck*"))
    s3 = boto3.client(
        "s3",
        endpoint_url=env["AWS_HOST"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )
    listed = s3.list_objects_v2(Bucket=env["AWS_BUCKETNAME"]).get("Contents", [])
    assert not [found["Key"] for found in listed if "cloudcheck" in found["Key"]]


def test_cloudcheck_of_an_unknown_database(cloudcheck):
    result = cloudcheck("-d", "nowhere")
    assert result.returncode == 1
    assert "nowhere: cannot be loaded" in result.stdout


@pytest.mark.parametrize("arguments", [(), ("-d", "a,b"), ("--nonsense",)])
def test_cloudcheck_wrong_usage(cloudcheck, arguments):
    result = cloudcheck(*arguments)
    assert result.returncode == 2
    assert "Usage:" in result.stderr


def test_song_refuses_before_it_writes(services, tmp_path, make_database):
    name = make_database("refused_song")
    result = odoo_server.run_anthem(
        services,
        tmp_path,
        *("odoo.addons.cloud_platform.songs::install_exoscale", "-d", name),
        **WRONG_PREFIX,
    )
    assert result.returncode == 1
    assert "ODOO_SESSION_REDIS_PREFIX: is 'demo-odoo-test'" in result.stdout
    rows = odoo_server.query(
        services,
        name,
        "SELECT key FROM ir_config_parameter "
        "WHERE key IN ('cloud.platform.kind', 'ir_attachment.location')",
    )
    assert not rows


@pytest.mark.parametrize("workers", ["0", "2"])
def test_reload_of_a_registry_does_not_stop_a_server(
    start, services, tmp_path, make_database, workers
):
    name = make_database("reloaded")
    set_parameter(services, name, "cloud.platform.kind", "exoscale")
    set_parameter(services, name, "ir_attachment.location", "s3://")
    server = start("server", "-d", name, "--workers", workers)
    processes.wait_until(
        lambda: server.request() == 200, "Odoo", process=server.process, log=server.log
    )
    # another process breaks the configuration and adds a field
    result = odoo_server.run_odoo(
        services,
        tmp_path / "shell",
        *("shell", "-d", name, "--no-http"),
        stdin="""
env["ir.config_parameter"].set_param("ir_attachment.location", "db")
model = env["ir.model"]._get("res.partner")
env["ir.model.fields"].create({
    "name": "x_refusal", "model_id": model.id, "ttype": "char"})
env.cr.commit()
env.registry.signal_changes()
""",
    )
    assert result.returncode == 0, result.stdout
    for _request in range(5):
        assert server.request() == 200
    assert server.process.poll() is None
    assert "ERROR" in server.output
    assert "ir_attachment.location: is 'db'" in server.output
    assert "does not start" not in server.output


def test_new_worker_of_a_serving_server_goes_on(start, services, make_database):
    name = make_database("recycled")
    set_parameter(services, name, "cloud.platform.kind", "exoscale")
    set_parameter(services, name, "ir_attachment.location", "s3://")
    server = start(
        *("server", "--db-filter", f"^{name}$", "--workers", "2"),
        *("--max-cron-threads", "0"),
    )
    processes.wait_until(
        lambda: server.request() == 200, "Odoo", process=server.process, log=server.log
    )
    set_parameter(services, name, "ir_attachment.location", "db")
    master = psutil.Process(server.process.pid)
    workers = [p for p in master.children() if "gevent" not in p.cmdline()]
    assert len(workers) == 2
    for worker in workers:
        worker.kill()
    psutil.wait_procs(workers, timeout=SECONDS)
    for _request in range(5):
        assert server.request() == 200
    assert server.process.poll() is None
    assert "ir_attachment.location: is 'db'" in server.output


def test_good_configuration_is_served(start, database):
    server = start("server", "-d", database)
    processes.wait_until(
        lambda: server.request() == 200, "Odoo", process=server.process, log=server.log
    )
    os.kill(server.process.pid, 15)
    assert server.process.wait(30) == 0
