"""The commands of the guides do what the guides say, on a real database."""

import contextlib
import json
import re
import shutil
import subprocess
import uuid

import boto3
import pytest
import requests
import sentinel
from toolbox import odoo_command, odoo_server, processes, programs, project
from toolbox.services import POLICY, REGION
from toolbox.web_client import WebClient

GUIDES = project.ROOT / "docs" / "guides"
#: the guides' commands are those of an installation
PRELUDE = f"""
odoo() {{ '{project.PYTHON}' '{project.ODOO}' "$@"; }}
anthem() {{ '{project.PYTHON}' '{project.VENV}/bin/anthem' "$@"; }}
redis-cli() {{ '{programs.require("redis-cli")}' -p "$ODOO_SESSION_REDIS_PORT" "$@"; }}
"""
DATABASES = ("mydb", "mydb_integration", "mydb_check")


class Guide:
    """Runs the commands of a guide, one by one, in a folder with ``odoo.conf``."""

    def __init__(self, services, folder, name):
        self.services = services
        self.folder = folder
        self.variables = {}
        text = (GUIDES / f"{name}.md").read_text()
        blocks = re.findall(r"^ *```sh\n(.*?)^ *```", text, re.M | re.S)
        lines = [
            line.partition(" #")[0].strip() for b in blocks for line in b.splitlines()
        ]
        #: commands that are still to be run
        self.left = [line for line in lines if " " in line and "…" not in line]

    def run(
        self, command: str, status: int = 0, stderr: bool = False, **values: str
    ) -> str:
        """Run the guide's next command, which has to be this one.

        :param values: what stands for the guide's examples, ``new_key`` for ``new-key``
        :return: its standard output, and its errors when asked for
        """
        assert self.left.pop(0) == command
        for name, value in values.items():
            command = command.replace(name.replace("_", "-"), value)
        # the hosts of the guide's databases are those of the services
        command = re.sub(r" -h [a-z-]+", "", command)
        result = subprocess.run(
            ["bash", "-euc", PRELUDE + command],
            cwd=self.folder,
            env=self.services.process_env(
                ODOO_RC=str(self.folder / "odoo.conf"), **self.variables
            ),
            capture_output=True,
            text=True,
            preexec_fn=processes.die_with_parent(),
        )
        assert result.returncode == status, (command, result.stdout, result.stderr)
        return result.stdout + (result.stderr if stderr else "")

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
    """Return a function that opens a guide; ``mydb`` is an Odoo without our addons."""
    for database in DATABASES:
        odoo_server.drop_database(services, database)
    make_database("mydb", "base")
    odoo_command.write_configuration(odoo_folder)
    yield lambda name: Guide(services, odoo_folder, name)
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
    move = guide("move-to-s3")
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


def test_keys_and_redis(guide, services, own_redis, start_front_end, run_folder):
    move = guide("move-to-s3")
    move.shell(STORE)
    for command in (DUMP, PLATFORM, "odoo s3migrate -d mydb --to s3 --dry-run", SONG):
        move.run(command)
    (old_key, new_key), end_old_key = two_keys_of_a_user(services)
    variables = {**own_redis.env("odoo"), **old_key}

    def front_end(name, **variables):
        options = {"max_cron_threads": "0"}
        return start_front_end(f"guides_{name}", "mydb", options, **variables)

    old = front_end("old", **variables)
    user = WebClient(old.url)
    user.login()
    [attachment] = user.call("ir.attachment", "search", [("name", "=", "a")])
    path = f"/web/content/{attachment}"
    assert len(user.get(path).content) == 100_000

    keys = guide("rotate-keys")
    keys.variables = variables
    command = "AWS_ACCESS_KEY_ID=new-key AWS_SECRET_ACCESS_KEY=new-secret"
    said = keys.run(
        f"{command} odoo cloudcheck -d mydb",
        new_key=new_key["AWS_ACCESS_KEY_ID"],
        new_secret=new_key["AWS_SECRET_ACCESS_KEY"],
    )
    assert "all is well" in said
    end_old_key()
    assert user.request("GET", path).status_code == 503
    check = ("cloudcheck", "-d", "mydb")
    result = odoo_server.run_odoo(services, keys.folder, *check, **variables)
    assert result.returncode == 1
    assert "S3AccessDenied" in result.stdout and "InvalidAccessKeyId" in result.stdout

    keys.run("redis-cli ACL SETUSER odoo '>new-password'")
    keys.variables = variables | new_key
    said = keys.run("ODOO_SESSION_REDIS_PASSWORD=new-password odoo cloudcheck -d mydb")
    assert "all is well" in said
    variables |= {**new_key, "ODOO_SESSION_REDIS_PASSWORD": "new-password"}
    new = front_end("new", **variables)
    keys.run(
        "redis-cli ACL SETUSER odoo '<old-password'", old_password=own_redis.PASSWORD
    )
    assert keys.left == []
    own_redis.command("ACL", "SAVE")  # its fourth step
    assert user.call("res.users", "search_count", [])  # the connection that is open
    own_redis.command("CLIENT", "KILL", "TYPE", "normal")
    with pytest.raises(requests.HTTPError, match="503"):
        user.call("res.users", "search_count", [])
    user.url = new.url
    assert len(user.get(path).content) == 100_000  # with the login of before

    down = guide("redis-is-down")
    down.variables = variables
    own_redis.stop()
    answer = user.request("GET", "/odoo")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "5")
    assert "Set-Cookie" not in answer.headers
    assert "Session store unavailable" in new.log.read_text()
    assert user.request("GET", "/monitoring/ready").status_code == 200
    assert "ConnectionError" in down.run("odoo cloudcheck -d mydb", status=1)
    own_redis.start()
    assert "PONG" in down.run("redis-cli -h redis ping")
    assert user.session_info()["uid"]

    new.stop()
    down.variables = variables | {"ODOO_SESSION_REDIS_USERNAME": "default"}
    down.run("odoo redissessions export sessions.jsonl")
    with other_redis(run_folder) as port:
        address = f"127.0.0.1 ODOO_SESSION_REDIS_PORT={port}"
        command = "ODOO_SESSION_REDIS_HOST=new-redis odoo redissessions import"
        down.run(f"{command} sessions.jsonl", new_redis=address)
        assert down.left == []
        (down.folder / "sessions.jsonl").unlink()
        variables["ODOO_SESSION_REDIS_PORT"] = str(port)
        variables["ODOO_SESSION_REDIS_USERNAME"] = "default"
        user.url = front_end("moved", **variables).url
        assert user.session_info()["uid"]


@contextlib.contextmanager
def other_redis(run_folder):
    """A Redis whose user ``default`` has no password; yields its port."""
    folder = run_folder / "other_redis"
    shutil.rmtree(folder, ignore_errors=True)
    server = sentinel.Server(folder).start()
    try:
        yield server.port
    finally:
        server.kill()


def two_keys_of_a_user(services):
    """Return two keys of one user of the S3 server, and what deletes the first."""
    root_key, root_secret = services.state["s3_root"]
    iam = boto3.client(
        "iam",
        endpoint_url=services.env["AWS_HOST"],
        region_name=REGION,
        aws_access_key_id=root_key,
        aws_secret_access_key=root_secret,
    )
    name = f"guides-{uuid.uuid4().hex[:8]}"
    iam.create_user(UserName=name)
    iam.put_user_policy(
        UserName=name, PolicyName="buckets", PolicyDocument=json.dumps(POLICY)
    )
    made = [iam.create_access_key(UserName=name)["AccessKey"] for _turn in range(2)]
    old = made[0]["AccessKeyId"]
    keys = [
        {
            "AWS_ACCESS_KEY_ID": key["AccessKeyId"],
            "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"],
        }
        for key in made
    ]
    return keys, lambda: iam.delete_access_key(UserName=name, AccessKeyId=old)


def test_write_a_provider(guide, services, tmp_path):
    write = guide("write-a-provider")
    text = (GUIDES / "write-a-provider.md").read_text()
    blocks = re.findall(r"`([\w/]+\.py)`[^`]*```python\n(.*?)```", text, re.S)
    assert len(blocks) == 5
    for path, code in blocks:
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(code)
    acme, shared = (
        tmp_path / "cloud_platform_acme",
        tmp_path / "cloud_platform_shared_disk",
    )
    (acme / "tests" / "__init__.py").write_text("from . import test_acme\n")
    (shared / "__init__.py").write_text("from . import models\n")
    manifest = (acme / "__manifest__.py").read_text()
    manifest = manifest.replace("cloud_platform_generic", "cloud_platform")
    (shared / "__manifest__.py").write_text(re.sub(r'\n *"post_load".*', "", manifest))
    addons_path = f"{odoo_command.addons_path()},{tmp_path}"
    odoo_command.write_configuration(write.folder, addons_path=addons_path)

    write.run("odoo server -d mydb -i cloud_platform_acme --stop-after-init --no-http")
    rehearse = """echo 'print(env["cloud.platform"].install("acme", dry_run=True))'"""
    said = write.run(f"{rehearse} | odoo shell -d mydb", status=1, stderr=True)
    host = services.env["AWS_HOST"]
    fault = f"- AWS_HOST: is {host}. Set it to <zone>.acme.example."
    assert f"The configuration is wrong, 1 fault:\n{fault}" in said
    write.variables = {"AWS_HOST": "https://eu.acme.example"}
    write.variables["AWS_BUCKETNAME"] = "acme-odoo-prod"
    write.left.insert(0, f"{rehearse} | odoo shell -d mydb")
    write.run(f"{rehearse} | odoo shell -d mydb")
    write.variables = {}
    test = "odoo server -d mydb -u cloud_platform_acme --test-tags /cloud_platform_acme"
    said = write.run(f"{test} --stop-after-init", stderr=True)
    assert "0 failed, 0 error(s) of 2 tests" in said
    assert write.left == []

    install = "odoo server -d mydb -i cloud_platform_shared_disk --stop-after-init"
    rules = """env["cloud.platform"]._environment_rules("shared_disk")["prod"]"""
    ask = f"echo 'print({rules}.locations)' | odoo shell -d mydb"
    write.left = [f"{install} --no-http", ask]
    write.run(f"{install} --no-http")
    assert "('file',)" in write.run(ask)


def variables_of(name: str) -> dict[str, str]:
    """Return the variables that a guide sets."""
    text = (GUIDES / f"{name}.md").read_text()
    return dict(re.findall(r"^([A-Z_]+)=(\S+)", text, re.M))
