"""The commands of the guides do what the guides say, on a real database."""

import json
import re
import shutil
import subprocess

import boto3
import pytest
import requests
from conftest import OwnRedis
from toolbox import odoo_command, odoo_server, processes, programs, project
from toolbox.services import POLICY, REGION
from toolbox.web_client import WebClient

GUIDES = project.ROOT / "docs" / "guides"
#: the guides' commands are those of an installation
PRELUDE = f"""
redis-cli() {{ '{programs.require("redis-cli")}' -p "$ODOO_SESSION_REDIS_PORT" "$@"; }}
odoo() {{ '{project.PYTHON}' '{project.ODOO}' "$@"; }}
anthem() {{ '{project.PYTHON}' '{project.VENV}/bin/anthem' "$@"; }}
"""
DATABASES = ("mydb", "mydb_integration", "mydb_check")


class Guide:
    """Runs the commands of a guide, one by one, in a folder with ``odoo.conf``."""

    def __init__(self, services, folder, name):
        self.services = services
        self.folder = folder
        self.variables = {}
        #: what stands for a word of the guide's examples
        self.words = {}
        text = (GUIDES / f"{name}.md").read_text()
        blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.M | re.S)
        lines = [
            line.partition(" #")[0].strip() for b in blocks for line in b.splitlines()
        ]
        #: commands that are still to be run
        self.left = [line for line in lines if " " in line and "…" not in line]

    def run(self, command: str, status: int = 0) -> str:
        """Run the guide's next command, which has to be this one.

        :return: its output and errors
        """
        assert self.left.pop(0) == command
        return self.repeat(command, status)

    def repeat(self, command: str, status: int = 0) -> str:
        """Run a command of the guide."""
        for word, value in self.words.items():
            command = command.replace(word, value)
        # the hosts of the guide's databases are those of the services
        command = re.sub(r" -h [a-z-]+", "", command)
        result = subprocess.run(
            ["bash", "-euc", PRELUDE + command],
            cwd=self.folder,
            env=self.services.process_env(
                ODOO_RC=str(self.folder / "odoo.conf"), **self.variables
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            preexec_fn=processes.die_with_parent(),
        )
        assert result.returncode == status, f"{command}\n{result.stdout}"
        return result.stdout

    def shell(self, code: str) -> None:
        result = odoo_server.run_odoo(
            self.services,
            self.folder,
            *("shell", "-d", "mydb", "--no-http"),
            stdin=f"{code}\nenv.cr.commit()\nprint('it is done')\n",
        )
        assert "it is done" in result.stdout, result.stdout


@pytest.fixture
def guide(services, odoo_folder, make_database):
    """Return a function that opens a guide: ``guide(name, modules)``.

    ``modules`` are those of a new database ``mydb``; without any, the guide goes on
    with the one that another guide left.
    """
    odoo_command.write_configuration(odoo_folder)

    def open_guide(name, modules=None):
        if modules:
            make_database("mydb", modules)
        return Guide(services, odoo_folder, name)

    for database in DATABASES:
        odoo_server.drop_database(services, database)
    yield open_guide
    for database in DATABASES:
        odoo_server.drop_database(services, database)
        shutil.rmtree(odoo_folder / "data" / "filestore" / database, ignore_errors=True)


PLATFORM = "odoo server -d mydb -i cloud_platform_generic --stop-after-init --no-http"
SONG = "anthem odoo.addons.cloud_platform.songs::install_generic -c odoo.conf -d mydb"
DUMP = "pg_dump -Fc -d mydb -f mydb.dump"
STORE = """
env["ir.attachment"].create({"name": "a", "raw": b"a" * 100_000})
"""


def test_move_copy_and_restore(guide):
    move = guide("move-to-s3", "base")
    move.shell(STORE)
    move.run(DUMP)
    move.run(PLATFORM)
    assert "from files:" in move.run("odoo s3migrate -d mydb --to s3 --dry-run")
    song = move.run(SONG)
    assert re.search(r"done, (\d+) of \1 moved, 0 failed", song)
    assert "0 moved" in move.run("odoo s3migrate -d mydb")
    assert "nothing: all are there" in move.run("odoo s3migrate -d mydb --dry-run")
    assert " 0 references without their object" in move.run("odoo s3inventory -d mydb")
    assert "all is well" in move.run("odoo cloudcheck -d mydb")

    copy = guide("copy-for-integration")
    copy.run("pg_dump -Fc -h prod-db -d mydb -f mydb.dump")
    copy.run("createdb -h integration-db mydb_integration")
    restore = "pg_restore --no-owner -h integration-db -d mydb_integration mydb.dump"
    copy.run(restore)
    copy.variables = {
        name: value.replace("acme", "demo")
        for name, value in variables_of("copy-for-integration").items()
        if not name.endswith(("_HOST", "_ID", "_KEY", "_PASSWORD"))
    }
    assert copy.variables["AWS_ATTACHMENT_READONLY"] == "1"
    copy.run("odoo neutralize -d mydb_integration")
    assert "read-only)" in copy.run("odoo cloudcheck -d mydb_integration")
    copy.run(f"{SONG}_integration")
    said = copy.run("odoo s3migrate -d mydb_integration --to db")
    assert re.search(r"done, [1-9]\d* moved to db", said)
    assert copy.left == []

    move.shell('env["ir.attachment"].search([("name", "=", "a")]).unlink()')
    old = guide("restore-a-dump")
    old.run("dropdb mydb")
    old.run("createdb mydb")
    old.run("pg_restore --no-owner -d mydb mydb.dump")
    assert " 0 references without their object" in old.run("odoo s3inventory -d mydb")
    old.run("odoo s3inventory -d mydb --fix")
    old.run("createdb mydb_check")
    old.run("pg_restore --no-owner -d mydb_check mydb.dump")
    old.run("AWS_ATTACHMENT_READONLY=1 odoo s3inventory -d mydb_check")
    assert old.left == []

    move.shell(
        'env["ir.config_parameter"].set_param("ir_attachment.location", "db")\n'
        'env["ir.config_parameter"].set_param("cloud.platform.kind", False)'
    )
    assert "moved to db" in move.run("odoo s3migrate -d mydb --to db")
    assert move.left == []


def variables_of(name: str) -> dict[str, str]:
    """Return the variables that a guide sets."""
    text = (GUIDES / f"{name}.md").read_text()
    return dict(re.findall(r"^([A-Z_]+)=(\S+)", text, re.M))


KINDS = "cloud_platform_exoscale"
INSTALL = 'env["cloud.platform"].install("s3")'


class KeyOwner:
    """A user of the S3 server with access keys of its own."""

    def __init__(self, services, name):
        key, secret = services.state["s3_root"]
        self.name = name
        self.iam = boto3.client(
            "iam",
            endpoint_url=services.env["AWS_HOST"],
            region_name=REGION,
            aws_access_key_id=key,
            aws_secret_access_key=secret,
        )
        self.remove()
        self.iam.create_user(UserName=name)
        self.iam.put_user_policy(
            UserName=name, PolicyName="buckets", PolicyDocument=json.dumps(POLICY)
        )

    def make_key(self):
        """Return the variables of a new key."""
        key = self.iam.create_access_key(UserName=self.name)["AccessKey"]
        return {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }

    def delete_key(self, key):
        identifier = key["AWS_ACCESS_KEY_ID"]
        self.iam.delete_access_key(UserName=self.name, AccessKeyId=identifier)

    def remove(self):
        if self.name not in [u["UserName"] for u in self.iam.list_users()["Users"]]:
            return
        keys = self.iam.list_access_keys(UserName=self.name)["AccessKeyMetadata"]
        for key in keys:
            self.delete_key({"AWS_ACCESS_KEY_ID": key["AccessKeyId"]})
        self.iam.delete_user_policy(UserName=self.name, PolicyName="buckets")
        self.iam.delete_user(UserName=self.name)


@pytest.fixture
def key_owner(request, services):
    if request.config.getoption("--s3") != "ministack":
        pytest.skip("this S3 server knows one key")
    owner = KeyOwner(services, "guides")
    yield owner
    owner.remove()


def test_rotate_keys(guide, key_owner, own_redis, start_front_end):
    rotate = guide("rotate-keys", KINDS)
    rotate.shell(INSTALL)
    old = {**own_redis.env("odoo"), **key_owner.make_key()}
    front_end = start_front_end("guides_old", "mydb", **old)
    user = WebClient(front_end.url)
    user.login()
    content = b"of a user who stays logged in" * 10_000
    path = f"/web/content/{user.upload('a', content, 'res.partner', 1)['id']}"
    assert user.get(path).content == content

    # the key of the bucket
    new_key = key_owner.make_key()
    rotate.variables = old
    rotate.words = {
        "new-key": new_key["AWS_ACCESS_KEY_ID"],
        "new-secret": new_key["AWS_SECRET_ACCESS_KEY"],
        "old-password": own_redis.PASSWORD,
    }
    try_key = (
        "AWS_ACCESS_KEY_ID=new-key AWS_SECRET_ACCESS_KEY=new-secret "
        "odoo cloudcheck -d mydb"
    )
    assert "all is well" in rotate.run(try_key)
    # the password of Redis
    rotate.run("redis-cli ACL SETUSER odoo '>new-password'")
    try_password = "ODOO_SESSION_REDIS_PASSWORD=new-password odoo cloudcheck -d mydb"
    assert "all is well" in rotate.run(try_password)
    new = {**old, **new_key, "ODOO_SESSION_REDIS_PASSWORD": "new-password"}
    with_new = WebClient(start_front_end("guides_new", "mydb", **new).url)
    with_new.http.cookies = user.http.cookies
    assert with_new.get(path).content == content

    key_owner.delete_key(old)
    forgotten = user.request("GET", path)
    assert forgotten.status_code == 503
    assert "InvalidAccessKeyId" in rotate.repeat("odoo cloudcheck -d mydb", status=1)
    assert with_new.get(path).content == content

    rotate.run("redis-cli ACL SETUSER odoo '<old-password'")
    assert user.session_info()["uid"]
    rotate.run("redis-cli CLIENT KILL TYPE normal")
    assert user.request("GET", "/web").status_code == 503
    assert with_new.session_info()["uid"]
    rotate.run("redis-cli ACL SAVE")
    own_redis.stop()
    own_redis.start()
    assert with_new.session_info()["uid"]
    assert user.request("GET", "/web").status_code == 503
    assert rotate.left == []


def test_redis_is_down(guide, own_redis, start_front_end, odoo_folder):
    down = guide("redis-is-down", KINDS)
    down.shell(INSTALL)
    down.variables = own_redis.env("odoo")
    front_end = start_front_end("guides_redis", "mydb", **down.variables)
    user, visitor = WebClient(front_end.url), WebClient(front_end.url)
    user.login()
    uid = user.session_info()["uid"]

    own_redis.stop()
    answer = user.request("GET", "/web")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "Set-Cookie" not in answer.headers
    for path in ("/web/login", "/web/static/img/favicon.ico", "/monitoring/ready"):
        assert visitor.request("GET", path).status_code == 200
        visitor.http.cookies.clear()
    assert "Session store unavailable: get: ConnectionError" in (
        front_end.log.read_text()
    )
    assert "ConnectionError" in down.run("odoo cloudcheck -d mydb", status=1)
    down.repeat("odoo redissessions count", status=1)
    with pytest.raises(requests.HTTPError):
        visitor.login()
    down.run("redis-cli -h redis ping", status=1)
    own_redis.start()
    assert "PONG" in down.repeat("redis-cli -h redis ping")
    assert user.session_info()["uid"] == uid

    (odoo_folder / "sessions.jsonl").unlink(missing_ok=True)
    down.variables = own_redis.env("odoo-admin")
    down.run("odoo redissessions export sessions.jsonl")
    own_redis.stop()
    new = OwnRedis(own_redis.folder)
    new.port = new.options["port"] = own_redis.port
    new.start()
    try:
        down.words = {"new-redis": "127.0.0.1"}
        down.run(
            "ODOO_SESSION_REDIS_HOST=new-redis odoo redissessions import sessions.jsonl"
        )
        assert user.session_info()["uid"] == uid
    finally:
        new.stop()
    assert down.left == []


@pytest.fixture
def write_addons(odoo_folder):
    """Return a function that writes a guide's files of Python into an addons folder."""
    folder = odoo_folder / "guide_addons"
    shutil.rmtree(folder, ignore_errors=True)

    def write(name):
        text = (GUIDES / f"{name}.md").read_text()
        before = 0
        for block in re.finditer(r"^```python\n(.*?)^```", text, re.M | re.S):
            prose = text[before : block.start()]
            path = re.findall(
                r"`(cloud_platform_acme/\S+\.py|cloud_platform_shared_disk/\S+\.py)`",
                prose,
            )[-1]
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_text(block[1])
            before = block.end()
        odoo_command.write_configuration(
            odoo_folder,
            addons_path=f"{odoo_command.addons_path()},{folder}",
            http_port=str(processes.free_port()),
            gevent_port=str(processes.free_port()),
        )
        return folder

    yield write
    odoo_command.write_configuration(odoo_folder)
    shutil.rmtree(folder, ignore_errors=True)


SHOW_KIND = (
    """echo 'print([env["ir.config_parameter"].get_param("cloud.platform.kind")])' """
    "| odoo shell -d mydb"
)
SERVER_WIDE = (
    "odoo server -d mydb --load base,web,cloud_platform_acme --stop-after-init"
)


def test_write_a_provider(guide, write_addons):
    provider = guide("write-a-provider", KINDS)
    addons = write_addons("write-a-provider")
    provider.run(
        "odoo server -d mydb -i cloud_platform_acme --stop-after-init --no-http"
    )
    rehearse = (
        """echo 'print(env["cloud.platform"].install("acme", dry_run=True))' """
        "| odoo shell -d mydb"
    )
    said = provider.run(rehearse, status=1)
    assert "AWS_HOST: is http://127.0.0.1" in said
    provider.variables = {"AWS_HOST": "eu.acme.example"}
    assert "'cloud.platform.kind': 'acme'" in provider.repeat(rehearse)
    # in the environment test an installation moves nothing to the store
    provider.variables |= {
        "RUNNING_ENV": "test",
        "AWS_BUCKETNAME": "demo-odoo-test",
        "ODOO_SESSION_REDIS_PREFIX": "demo-odoo-test",
    }
    provider.run(
        "anthem odoo.addons.cloud_platform_acme.songs::setup -c odoo.conf -d mydb"
    )
    assert "['acme']" in provider.repeat(SHOW_KIND)
    tests = (
        "odoo server -d mydb -u cloud_platform_acme "
        "--test-tags /cloud_platform_acme --stop-after-init"
    )
    assert odoo_server.tests_result(provider.run(tests)) == 2
    assert provider.left == []
    provider.variables["AWS_ATTACHMENT_READONLY"] = "perhaps"
    said = provider.repeat(SERVER_WIDE, status=78)
    assert "AWS_ATTACHMENT_READONLY: is 'perhaps'" in said
    assert "loading" not in said  # of a database

    # the guide has its files only
    shared = addons / "cloud_platform_shared_disk"
    for name in ("__manifest__.py", "__init__.py"):
        text = (addons / "cloud_platform_acme" / name).read_text()
        (shared / name).write_text(
            text.replace("cloud_platform_generic", "cloud_platform")
        )
    del provider.variables["AWS_ATTACHMENT_READONLY"]
    provider.repeat(PLATFORM.replace("generic", "shared_disk"))
    for environment in ("prod", "integration"):
        provider.variables = {
            "RUNNING_ENV": environment,
            "ODOO_SESSION_REDIS_PREFIX": f"demo-odoo-{environment}",
        }
        said = provider.repeat(rehearse.replace("acme", "shared_disk"))
        assert "'ir_attachment.location': 'file'" in said
    provider.variables |= {"ODOO_SESSION_REDIS": "0"}
    said = provider.repeat(rehearse.replace("acme", "shared_disk"), status=1)
    assert "ODOO_SESSION_REDIS" in said


def test_upgrade_beside_a_scheduled_action_that_runs(guide, services):
    install = guide("../install", "base")
    upgrade = "odoo server -d mydb -u base --stop-after-init --no-http"
    assert upgrade in install.left
    scheduler = odoo_server.connect(services, "mydb")
    scheduler.autocommit = False
    with scheduler, scheduler.cursor() as cursor:
        # as Odoo does while it runs one
        cursor.execute("SELECT id FROM ir_cron FOR NO KEY UPDATE")
        said = install.repeat(upgrade, status=255)
        assert "This cron task is currently being executed" in said
    scheduler.close()
    install.repeat(upgrade)
