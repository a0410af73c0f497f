"""The commands of the image, of compose.yaml and of the pods, without containers.

The entry point runs with this checkout's Odoo and the image's odoo.conf. A read-only
root file system is that of Landlock: the kernel refuses each write outside of the one
folder that a container has for its files. Of the variables, only those that say where a
service is are replaced.
"""

import ctypes
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import boto3
import pytest
import requests
from test_deploy import (
    DEPLOY,
    ENVIRONMENTS,
    MODULES,
    compose,
    config_map,
    pods,
    secret_names,
)
from test_deploy_s3 import POLICIES
from toolbox import odoo_server, processes, programs, project
from toolbox.demo import PARTNER, StatsdListener
from toolbox.proxy import Proxy
from toolbox.services import REGION, own_environment
from toolbox.web_client import WebClient

ENTRYPOINT = DEPLOY / "entrypoint.sh"
BUCKET = "acme-odoo-prod"


# A file system that can be written to in one folder only

#: https://docs.kernel.org/userspace-api/landlock.html; the same on all architectures
LANDLOCK_CREATE_RULESET, LANDLOCK_ADD_RULE, LANDLOCK_RESTRICT_SELF = 444, 445, 446
LANDLOCK_VERSION = 1
PATH_BENEATH = 1
PR_SET_NO_NEW_PRIVS = 38
WRITE_FILE, TRUNCATE = 1 << 1, 1 << 14
#: remove and make files of each kind, rename between folders
CHANGES = sum(1 << bit for bit in range(4, 14))
WRITES = WRITE_FILE | CHANGES | TRUNCATE
libc = ctypes.CDLL(None, use_errno=True)
#: truncation belongs to it since version 3 (Linux 6.2)
HAS_LANDLOCK = libc.syscall(LANDLOCK_CREATE_RULESET, None, 0, LANDLOCK_VERSION) >= 3


class PathBeneath(ctypes.Structure):
    _pack_ = 1
    _fields_ = [("allowed", ctypes.c_uint64), ("descriptor", ctypes.c_int32)]


def read_only_but(*folders):
    """Return a function that a child calls before it runs a program."""

    def restrict():
        if not HAS_LANDLOCK:
            return
        ruleset = checked(
            libc.syscall(
                LANDLOCK_CREATE_RULESET, ctypes.byref(ctypes.c_uint64(WRITES)), 8, 0
            )
        )
        # a container has these of its own
        rights = {"/dev": WRITE_FILE | TRUNCATE, "/dev/shm": WRITES}
        rights |= {str(folder): WRITES for folder in folders}
        for path, allowed in rights.items():
            descriptor = os.open(path, os.O_PATH)
            rule = PathBeneath(allowed, descriptor)
            checked(
                libc.syscall(
                    LANDLOCK_ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0
                )
            )
        checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
        checked(libc.syscall(LANDLOCK_RESTRICT_SELF, ruleset, 0))

    return restrict


def checked(result):
    if result < 0:
        raise OSError(ctypes.get_errno(), "Landlock")
    return result


@pytest.mark.skipif(not HAS_LANDLOCK, reason="this kernel has no Landlock")
def test_landlock_refuses_to_write_elsewhere(tmp_path):
    code = "import sys; open(sys.argv[1], 'w').close()"
    (tmp_path / "mine").mkdir()

    def write(path):
        return subprocess.run(
            [sys.executable, "-c", code, path],
            preexec_fn=read_only_but(tmp_path / "mine"),
            capture_output=True,
        ).returncode

    assert write(tmp_path / "mine" / "file") == 0
    assert write(tmp_path / "file") != 0


# A container


class Container(odoo_server.OdooServer):
    """What the image would run, in one folder of its own: its /tmp.

    :param variables: all variables that it has
    """

    def __init__(self, services, folder, variables):
        super().__init__(services, folder, variables.get("PGDATABASE", ""))
        shutil.rmtree(folder, ignore_errors=True)
        self.tmp = folder / "tmp"
        self.tmp.mkdir(parents=True)
        self.options = {"workers": "2"}  # as in odoo.conf
        path = [project.VENV / "bin", programs.path_variable()]
        own = {
            "ODOO_RC": DEPLOY / "odoo.conf",
            "ODOO_DATA_DIR": self.data_dir,
            # the wheel is not installed
            "ODOO_ADDONS_PATH": project.ROOT,
            "ODOO_HTTP_INTERFACE": "127.0.0.1",
            "ODOO_HTTP_PORT": self.port,
            "ODOO_GEVENT_PORT": self.websocket_port,
            "HOME": self.tmp,
            "TMPDIR": self.tmp,
            "PATH": os.pathsep.join(map(str, path)),
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        base = {
            name: value
            for name, value in own_environment().items()
            if not name.startswith(("ODOO_", "STATSD_"))
        }
        self.variables = {**base, **variables, **{n: str(v) for n, v in own.items()}}

    @property
    def data_dir(self):
        return self.tmp / "odoo"

    def launch(self, *arguments):
        die = processes.die_with_parent()
        restrict = read_only_but(self.tmp)

        def prepare():
            die()
            restrict()

        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [str(ENTRYPOINT), *(arguments or ("serve",))],
                cwd=self.tmp,
                env=self.variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                preexec_fn=prepare,
                start_new_session=True,
            )

    def run(self, *arguments):
        """Run to the end; return exit status and output."""
        self.launch(*arguments)
        status = self.process.wait(300)
        return status, self.log.read_text(errors="replace")


@pytest.fixture
def container(services, run_folder):
    """Return a function that makes a container, which ends with the test."""
    made = []

    def make(name, variables):
        made.append(Container(services, run_folder / "containers" / name, variables))
        return made[-1]

    yield make
    for one in made:
        one.stop()


def of_the_services(services, database):
    """The variables that say where the tests' PostgreSQL is."""
    names = ("PGHOST", "PGPORT", "PGUSER", "PGPASSWORD")
    return {n: services.env[n] for n in names} | {
        "PGDATABASE": database,
        "PGSSLMODE": "disable",
    }


@pytest.mark.parametrize("steps", [["migrate"], ["migrate", MODULES]])
def test_migrate_without_its_arguments_is_wrong_usage(container, steps):
    assert container("usage", {}).run(*steps)[0] == 2


def test_another_command_is_run_as_it_is(container):
    status, output = container("other", {}).run("odoo", "--version")
    assert status == 0
    assert "19.0" in output


# compose.yaml


@pytest.fixture(scope="module")
def composed(services, run_folder, request):
    """Redis and S3 as compose.yaml starts them, and an instance that it migrated."""
    if request.config.getoption("--s3") != "ministack":
        pytest.skip("the S3 server here is the one of compose.yaml")
    folder = run_folder / "compose"
    shutil.rmtree(folder, ignore_errors=True)
    started = []

    def start(name, change, **variables):
        """Run a service's command with the paths and ports of the tests."""
        service = compose()["services"][name]
        (folder / name).mkdir(parents=True)
        port = processes.free_port()
        # Docker Compose itself writes $ for the shell as $$
        [command] = [c.replace("$$", "$") for c in service["command"]]
        environment = {**service["environment"], **variables}
        path = os.pathsep.join([str(project.VENV / "bin"), programs.path_variable()])
        process = processes.start(
            [*service["entrypoint"], change(command, port)],
            folder / f"{name}.log",
            cwd=folder / name,
            env={"PATH": path, **environment},
        )
        started.append(process)
        processes.wait_until(
            lambda: processes.accepts_connections(port), name, process=process
        )
        return str(port)

    statsd = StatsdListener()
    statsd.start()
    try:
        acl = compose()["services"]["redis"]["volumes"][0]
        redis = start(
            "redis",
            lambda command, port: f"{command} --port {port}".replace(
                acl["target"], acl["source"]
            ),
        )
        s3 = start(
            "s3",
            lambda command, port: command.replace(":8080", f"127.0.0.1:{port}").replace(
                "/data", str(folder / "s3")
            ),
        )
        database = "test_deploy_compose"
        odoo_server.drop_database(services, database)
        variables = {
            **compose()["services"]["odoo-1"]["environment"],
            **of_the_services(services, database),
            "ODOO_SESSION_REDIS_HOST": "127.0.0.1",
            "ODOO_SESSION_REDIS_PORT": redis,
            "AWS_HOST": f"http://127.0.0.1:{s3}",
            "STATSD_HOST": "127.0.0.1",
            "STATSD_PORT": str(statsd.port),
        }
        migrate = Container(services, folder / "migrate", variables)
        command = compose()["services"]["migrate"]["command"]
        status, output = migrate.run(*command)
        assert status == 0, output
        yield variables, output, statsd.metrics
    finally:
        for process in started:
            processes.stop(process)


def test_migration_of_compose_makes_a_platform(composed, services):
    variables, output, _metrics = composed
    assert "all is well" in output
    assert "kind: s3" in output
    sql = "SELECT name FROM ir_module_module WHERE state = 'installed'"
    database = variables["PGDATABASE"]
    installed = {name for (name,) in odoo_server.query(services, database, sql)}
    assert {*MODULES.split(","), "attachment_s3", "session_redis"} <= installed


def test_second_migration_changes_nothing(composed, services, container):
    variables, _output, _metrics = composed
    sql = """
        SELECT (SELECT array_agg((name, latest_version) ORDER BY name)
                  FROM ir_module_module WHERE state = 'installed')::text,
               (SELECT array_agg((id, store_fname) ORDER BY id)
                  FROM ir_attachment)::text
    """
    before = odoo_server.query(services, variables["PGDATABASE"], sql)
    status, output = container("again", variables).run(
        *compose()["services"]["migrate"]["command"]
    )
    assert status == 0, output
    assert odoo_server.query(services, variables["PGDATABASE"], sql) == before


def test_front_ends_of_compose_serve_and_leave_nothing_on_their_disk(
    composed, container, run_folder
):
    variables, _output, metrics = composed
    # one worker each: the machine of the tests is small
    variables = {**variables, "ODOO_WORKERS": "1"}
    names = ("odoo-1", "odoo-2")
    front_ends = [container(name, variables) for name in names]
    for name, front_end in zip(names, front_ends, strict=True):
        front_end.launch(*compose()["services"][name]["command"])
    for front_end in front_ends:
        front_end.wait()
        healthcheck = compose()["services"]["odoo-1"]["healthcheck"]["test"]
        url = healthcheck[-1].replace("127.0.0.1:8069", f"127.0.0.1:{front_end.port}")
        answer = requests.get(url, timeout=10)
        assert answer.status_code == 200, answer.text
        assert set(answer.json()["parts"]) >= {"postgresql", "registry"}
    # each probe of the pods, at the ports that they name
    for port in (front_ends[0].port, front_ends[0].websocket_port):
        for path in ("/monitoring/live", "/monitoring/ready"):
            url = f"http://127.0.0.1:{port}{path}"
            processes.wait_until(lambda u=url: odoo_server.http_status(u) == 200, url)

    with Proxy(run_folder / "containers" / "nginx", front_ends) as proxy:
        client = WebClient(proxy.url)
        client.login()
        answer = client.request("GET", "/metrics")
        assert (answer.status_code, answer.headers.get("X-Front-End")) == (404, None)
        content = os.urandom(300_000)
        uploaded = client.upload("deploy.bin", content, "res.partner", PARTNER)
        answered = set()
        for _request in range(4):
            assert client.get(f"/web/content/{uploaded['id']}").content == content
            for _front_end in front_ends:
                assert client.session_info()["username"] == "admin"
                answered.add(client.front_end)
        assert len(answered) == 2
        # Odoo leaves the content to nginx
        answer = requests.get(
            f"{front_ends[0].url}/web/content/{uploaded['id']}",
            headers={"X-Attachment-S3": "x-accel"},
            cookies=client.http.cookies.get_dict(),
            timeout=10,
        )
        assert answer.headers["X-Accel-Redirect"]
        assert answer.content == b""
        nginx = compose()["services"]["nginx"]["healthcheck"]["test"][-1]
        path = nginx.partition(":8080")[2]
        assert client.request("GET", path).status_code == 200
    processes.wait_until(
        lambda: any(line.startswith("odoo.http.request.demo.prod") for line in metrics),
        "metrics",
    )
    for front_end in front_ends:
        assert front_end.local_files() == []
        front_end.process.send_signal(signal.SIGTERM)
        assert front_end.process.wait(60) == 0
        records, others = odoo_server.json_lines(front_end.log)
        assert not others
        refused = [r for r in records if "Permission denied" in json.dumps(r)]
        assert not refused


def test_nginx_accepts_the_site_of_compose(tmp_path):
    site = (DEPLOY / "nginx" / "odoo.conf.template").read_text()
    for name, value in compose()["services"]["nginx"]["environment"].items():
        if name == "ODOO_STORE_CA":  # elsewhere on this machine
            value = certificate_authorities()
        # these names exist in the network of Compose only
        value = re.sub(r"odoo-\d:", "127.0.0.1:", value)
        site = site.replace(f"${{{name}}}", value)
    assert not re.search(r"\${\w", site)
    (tmp_path / "site.conf").write_text(site)
    paths = "".join(
        f"{name}_temp_path {tmp_path}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (tmp_path / "nginx.conf").write_text(
        f"pid {tmp_path}/pid; error_log {tmp_path}/log; events {{}}\n"
        f"http {{ {paths} access_log off; include {tmp_path}/site.conf; }}\n"
    )
    command = [programs.require("nginx"), "-t", "-e", tmp_path / "log"]
    result = subprocess.run(
        [*command, "-c", tmp_path / "nginx.conf"], capture_output=True, text=True
    )
    assert result.returncode == 0, result.stderr


def certificate_authorities():
    import certifi

    return certifi.where()


# The pre-flight check


def test_check_that_finds_a_fault_ends_before_the_server(composed, container):
    variables, _output, _metrics = composed
    wrong = {**variables, "ODOO_SESSION_REDIS_PREFIX": "demo-odoo-test"}
    refused = container("refused", wrong)
    status, output = refused.run("check", "serve")
    assert status == 1
    assert "ODOO_SESSION_REDIS_PREFIX: is 'demo-odoo-test'" in output
    # and the Redis user may not touch the keys of another prefix
    assert "[fault] Redis" in output
    assert "2 faults" in output
    assert "HTTP service" not in output
    assert variables["ODOO_SESSION_REDIS_PASSWORD"] not in output


def test_check_of_a_store_that_is_away_ends_before_the_server(composed, container):
    variables, _output, _metrics = composed
    away = {**variables, "AWS_HOST": f"http://127.0.0.1:{processes.free_port()}"}
    status, output = container("away", away).run("check", "serve")
    assert status == 1
    assert "[fault] S3" in output


def test_check_that_finds_nothing_lets_the_server_start(composed, container):
    variables, _output, _metrics = composed
    server = container("checked", {**variables, "ODOO_WORKERS": "0"})
    server.launch("check", "serve", "--max-cron-threads=0")
    server.wait()
    assert "all is well" in server.log.read_text()
    assert server.stop() == 0


# The overlays of Kubernetes


@pytest.fixture(scope="module")
def s3_user(request, services):
    """Return a function that gives the variables of a user with one of our policies."""
    if request.config.getoption("--s3") != "ministack":
        pytest.skip("this S3 server knows no policies")
    key, secret = services.state["s3_root"]
    root = {
        "endpoint_url": services.env["AWS_HOST"],
        "region_name": REGION,
        "aws_access_key_id": key,
        "aws_secret_access_key": secret,
    }
    boto3.client("s3", **root).create_bucket(Bucket=BUCKET)
    iam = boto3.client("iam", **root)

    def make(name):
        user = f"overlay-{name}"
        if user not in [u["UserName"] for u in iam.list_users()["Users"]]:
            iam.create_user(UserName=user)
        for old in iam.list_access_keys(UserName=user)["AccessKeyMetadata"]:
            iam.delete_access_key(UserName=user, AccessKeyId=old["AccessKeyId"])
        policy = json.dumps(POLICIES[name])
        iam.put_user_policy(UserName=user, PolicyName="deploy", PolicyDocument=policy)
        made = iam.create_access_key(UserName=user)["AccessKey"]
        return {
            "AWS_ACCESS_KEY_ID": made["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": made["SecretAccessKey"],
        }

    return make


def hosts(services, database, variables):
    """Where the services of the tests are, for those that an environment uses."""
    env = services.env
    found = {
        **of_the_services(services, database),
        "ODOO_SESSION_REDIS_HOST": env["ODOO_SESSION_REDIS_HOST"],
        "ODOO_SESSION_REDIS_PORT": env["ODOO_SESSION_REDIS_PORT"],
        "ODOO_SESSION_REDIS_TLS": "0",
        "STATSD_HOST": "127.0.0.1",
    }
    if "AWS_HOST" in variables:
        found["AWS_HOST"] = env["AWS_HOST"]
    return found


def secrets(services, environment, s3_user):
    """A Secret with the names of the example."""
    given = {
        "PGPASSWORD": services.env["PGPASSWORD"],
        "ODOO_SESSION_REDIS_PASSWORD": services.env["ODOO_SESSION_REDIS_PASSWORD"],
        "ODOO_MONITORING_TOKEN": "a-token",
        "AWS_ACCESS_KEY_ID": "",
        "AWS_SECRET_ACCESS_KEY": "",
    }
    if environment in POLICIES:
        given |= s3_user(environment)
    assert set(given) == secret_names()
    return given


def test_job_migrates_as_compose_does():
    """What the tests above do with these arguments holds for the Job."""
    command = compose()["services"]["migrate"]["command"]
    for environment in ENVIRONMENTS:
        [job] = pods(environment)["odoo-migrate"]["containers"]
        assert job["args"] == command


@pytest.mark.parametrize("environment", ENVIRONMENTS)
def test_song_and_check_of_an_overlay_accept_it(
    environment, services, make_database, container, s3_user
):
    """The Job plays the song, the init container of the pods checks and probes."""
    database = make_database(f"test_deploy_{environment}", MODULES)
    variables = config_map(environment)
    variables = {
        **variables,
        **secrets(services, environment, s3_user),
        **hosts(services, database, variables),
    }
    [job] = pods(environment)["odoo-migrate"]["containers"]
    [song] = [argument for argument in job["args"] if "::" in argument]
    status, output = container(f"song-{environment}", variables).run("anthem", song)
    assert status == 0, output
    assert f"environment: {environment}" in output

    [check] = pods(environment)["odoo"]["initContainers"]
    status, output = container(f"check-{environment}", variables).run(*check["args"])
    assert status == 0, output
    assert "all is well" in output
    stores_objects = environment in POLICIES
    assert ("S3 (" in output) == stores_objects
    assert ("location: s3://" in output) == stores_objects
    assert ("read-only" in output) == (environment == "integration")

    # none of the variables is there for nothing
    wrong = {"ODOO_SESSION_REDIS_PREFIX": "acme-odoo-other"}
    if environment == "dev":
        wrong = {"ODOO_SESSION_REDIS_PREFIX": "acme-odoo-prod"}
    if environment == "integration":
        wrong["AWS_ATTACHMENT_READONLY"] = "0"
    wrong = {**variables, **wrong}
    status, output = container(f"wrong-{environment}", wrong).run("check")
    assert status == 1
    assert "ODOO_SESSION_REDIS_PREFIX: is" in output
    assert ("AWS_ATTACHMENT_READONLY" in output) == (environment == "integration")
