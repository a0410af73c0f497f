"""scripts/services: what it starts works, and nothing outlives it."""

import os
import signal
import subprocess
import sys

import boto3
import psutil
import psycopg2
import pytest
import redis
from botocore.exceptions import ClientError
from toolbox import processes, project
from toolbox.services import S3_SERVERS, Services

OWNER = """
import sys, time
sys.path.insert(0, {scripts!r})
from toolbox.services import Services
Services({folder!r}).start(follow=True)
print("started", flush=True)
time.sleep(600)
"""


@pytest.fixture
def own(tmp_path):
    services = Services(tmp_path / "services")
    yield services
    services.remove()


def all_processes(services):
    """The supervisor, the services, and what they started."""
    supervisor = psutil.Process(services.state["supervisor"])
    family = [supervisor, *supervisor.children(recursive=True)]
    assert set(services.state["pids"].values()) < {process.pid for process in family}
    return family


def alive(family):
    return [
        process
        for process in family
        if process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    ]


def s3_client(env, **changes):
    return boto3.client(
        "s3",
        endpoint_url=env["AWS_HOST"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=changes.get("secret", env["AWS_SECRET_ACCESS_KEY"]),
    )


@pytest.mark.parametrize("s3", S3_SERVERS)
def test_start_gives_working_services_and_stop_leaves_no_process(own, s3):
    own.start(s3)
    env = own.env
    psycopg2.connect(
        host=env["PGHOST"],
        port=env["PGPORT"],
        user=env["PGUSER"],
        password=env["PGPASSWORD"],
        dbname="postgres",
    ).close()
    store = redis.Redis(
        port=int(env["ODOO_SESSION_REDIS_PORT"]),
        password=env["ODOO_SESSION_REDIS_PASSWORD"],
    )
    assert store.ping()
    bucket = env["AWS_BUCKETNAME"]
    s3_client(env).put_object(Bucket=bucket, Key="key", Body=b"content")
    with pytest.raises(ClientError):
        s3_client(env, secret="wrong").get_object(Bucket=bucket, Key="key")

    family = all_processes(own)
    assert own.stop()
    assert not alive(family)
    assert not own.running


def test_data_survive_a_restart(own):
    own.start()
    bucket = own.env["AWS_BUCKETNAME"]
    s3_client(own.env).put_object(Bucket=bucket, Key="key", Body=b"content")
    own.stop()
    own.start()
    body = s3_client(own.env).get_object(Bucket=bucket, Key="key")["Body"].read()
    assert body == b"content"


def test_second_start_changes_nothing(own):
    own.start()
    state = own.state
    own.start()
    assert own.state == state


def test_start_with_another_s3_server_is_refused(own):
    own.start()
    with pytest.raises(project.ProjectError, match="ministack"):
        own.start("rclone")


def test_crash_of_the_follower_leaves_no_process(tmp_path):
    folder = tmp_path / "services"
    code = OWNER.format(scripts=str(project.ROOT / "scripts"), folder=str(folder))
    owner = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)
    assert owner.stdout.readline() == b"started\n"
    family = all_processes(Services(folder))
    owner.kill()
    owner.wait()
    processes.wait_until(lambda: not alive(family), "end of the services")
    Services(folder).remove()


def test_crash_of_the_supervisor_leaves_no_process(own):
    own.start()
    family = all_processes(own)
    os.kill(own.state["supervisor"], signal.SIGKILL)
    processes.wait_until(lambda: not alive(family), "end of the services")
    assert not own.running


def test_variables_of_other_stores_never_reach_odoo(own, monkeypatch):
    monkeypatch.setenv("AWS_PROFILE", "production")
    monkeypatch.setenv("AWS_BUCKETNAME", "somebody-odoo-prod")
    monkeypatch.setenv("ODOO_SESSION_REDIS_URL", "redis://production")
    own.start()
    env = own.process_env()
    assert "AWS_PROFILE" not in env
    assert "ODOO_SESSION_REDIS_URL" not in env
    assert env["AWS_BUCKETNAME"] == "demo-odoo-prod"


def test_status_and_env_commands(own):
    script = project.ROOT / "scripts" / "services"

    def command(name):
        return subprocess.run(
            [script, name, "--dir", own.folder], capture_output=True, text=True
        )

    assert command("status").returncode == 3
    assert "scripts/services start" in command("env").stderr
    own.start()
    assert command("status").returncode == 0
    shell = subprocess.run(
        ["bash", "-c", f'eval "$({script} env --dir {own.folder})"; echo $PGPORT'],
        capture_output=True,
        text=True,
    )
    assert shell.stdout.strip() == own.env["PGPORT"]
