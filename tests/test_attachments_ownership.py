"""Databases that are duplicated, dumped, restored, renamed and dropped by Odoo's own
functions: each reads its attachments, and only deletes what it stored itself."""

import contextlib
import logging
import os
import shutil
from contextlib import contextmanager

import boto3
import pytest
from toolbox import odoo_command, odoo_server, processes

FIRST, SECOND = "ownership-first", "ownership-second"
MODULES = "attachment_s3"
OTHER_BUCKET = "ownership-odoo-other"


class Database:
    """An Odoo database in this process."""

    def __init__(self, name):
        self.name = name

    @contextmanager
    def env(self):
        from odoo import SUPERUSER_ID, api
        from odoo.modules.registry import Registry

        with Registry(self.name).cursor() as cr:
            yield api.Environment(cr, SUPERUSER_ID, {})

    def create(self, *contents):
        """Return the addresses of new attachments."""
        with self.env() as env:
            values = [{"name": "ownership", "raw": content} for content in contents]
            return env["ir.attachment"].create(values).mapped("store_fname")

    def contents(self):
        with self.env() as env:
            found = env["ir.attachment"].search([("name", "=", "ownership")])
            return sorted(attachment.raw for attachment in found)

    def empty(self):
        """Delete all attachments and collect what is unused."""
        with self.env() as env:
            env["ir.attachment"].search([("name", "=", "ownership")]).unlink()
        with self.env() as env:
            env["attachment.s3.garbage"]._collect()


@pytest.fixture(scope="module")
def odoo_process(services, odoo_folder):
    """Odoo in this process, with the addon server-wide."""
    configuration = odoo_command.write_configuration(odoo_folder)
    with pytest.MonkeyPatch.context() as patch:
        for name in os.environ:
            patch.delenv(name)
        for name, value in services.process_env().items():
            patch.setenv(name, value)
        patch.setenv("AWS_ATTACHMENT_RETENTION_DAYS", "0")
        from odoo.modules.module import initialize_sys_path, load_openerp_module
        from odoo.tools import config

        config.parse_config(
            ["-c", str(configuration), "--no-http"], setup_logging=False
        )
        initialize_sys_path()
        load_openerp_module("attachment_s3")
        yield
        from odoo.sql_db import close_all

        close_all()


@pytest.fixture
def s3(services):
    env = services.env
    client = boto3.client(
        "s3",
        endpoint_url=env["AWS_HOST"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )
    return client


def make_bucket(s3, name):
    # the services, and with them their buckets, may be those of a run before
    with contextlib.suppress(s3.exceptions.BucketAlreadyOwnedByYou):
        s3.create_bucket(Bucket=name)


@pytest.fixture
def exists(s3):
    """Return a function that tells which of some addresses have their object."""

    def exist(addresses):
        found = []
        for address in addresses:
            bucket, key = split(address)
            listed = s3.list_objects_v2(Bucket=bucket, Prefix=key)
            found += [address] if listed.get("KeyCount") else []
        return found

    return exist


@pytest.fixture
def first(odoo_process, make_database, services, odoo_folder):
    name = make_database(FIRST, MODULES)
    forget(FIRST, SECOND)
    odoo_server.drop_database(services, SECOND)
    shutil.rmtree(odoo_folder / "data" / "filestore" / SECOND, ignore_errors=True)
    set_parameter(services, name, "ir_attachment.location", "s3://")
    yield Database(name)
    forget(FIRST, SECOND)


def forget(*names):
    """Forget what this process knows of databases, as another process would."""
    from odoo.modules.registry import Registry
    from odoo.sql_db import close_db

    for name in names:
        Registry.delete(name)
        close_db(name)


def set_parameter(services, name, key, value):
    odoo_server.query(
        services,
        name,
        "INSERT INTO ir_config_parameter (key, value) VALUES (%s, %s) "
        "ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        key,
        value,
    )


def split(address):
    bucket, _slash, key = address.removeprefix("s3://").partition("/")
    return bucket, key


def folder(address):
    """Return the bucket and the database's folder of an address."""
    return address.rsplit("/", 2)[0]


def contents(count=2):
    return sorted(os.urandom(1000) for _number in range(count))


# the ways to a second database


def duplicated(tmp_path, patch):
    from odoo.service import db

    db.exp_duplicate_database(FIRST, SECOND)


def duplicated_and_neutralized(tmp_path, patch):
    from odoo.service import db

    db.exp_duplicate_database(FIRST, SECOND, neutralize_database=True)


def restored(tmp_path, patch, name=SECOND, **options):
    from odoo.service import db

    with (tmp_path / "dump").open("wb") as stream:
        db.dump_db(FIRST, stream, "zip")
    if name == FIRST:
        # the original lives elsewhere; its objects stay
        patch.delenv("AWS_ATTACHMENT_DELETE_ON_DROP", raising=False)
        assert db.exp_drop(FIRST)
    db.restore_db(name, str(tmp_path / "dump"), **options)
    return name


def restored_as_copy(tmp_path, patch):
    restored(tmp_path, patch, copy=True)


def restored_with_other_name(tmp_path, patch):
    restored(tmp_path, patch)


def restored_with_same_name_in_other_environment(tmp_path, patch):
    patch.setenv("RUNNING_ENV", "integration")
    return restored(tmp_path, patch, FIRST)


def restored_with_same_name_and_neutralized(tmp_path, patch):
    return restored(tmp_path, patch, FIRST, neutralize_database=True)


def renamed(tmp_path, patch):
    from odoo.service import db

    db.exp_rename(FIRST, SECOND)


@pytest.mark.parametrize(
    "make",
    [
        duplicated,
        duplicated_and_neutralized,
        restored_as_copy,
        restored_with_other_name,
        restored_with_same_name_in_other_environment,
        restored_with_same_name_and_neutralized,
        renamed,
    ],
)
@pytest.mark.parametrize("bucket", ["demo-odoo-prod", "ownership-odoo-{db}"])
def test_another_database_reads_all_and_deletes_only_its_own(
    make, bucket, first, tmp_path, monkeypatch, s3, exists
):
    monkeypatch.setenv("AWS_BUCKETNAME", bucket)
    for name in (FIRST, SECOND):
        make_bucket(s3, bucket.replace("{db}", name))
    before = contents()
    addresses = first.create(*before)
    first_folder = folder(addresses[0])

    second = Database(make(tmp_path, monkeypatch) or SECOND)
    assert second.contents() == before
    # also what the original has is stored once more: the original may delete its own
    after = contents()
    own = second.create(*after, before[0])
    assert second.contents() == sorted([*before, *after, before[0]])
    assert {folder(address) for address in own} == {folder(own[0])}
    assert folder(own[0]) != first_folder
    assert split(own[0])[0] == bucket.replace("{db}", second.name)
    assert exists(own) == own

    second.empty()
    assert exists(own) == []
    assert exists(addresses) == addresses


@pytest.mark.parametrize(
    "make", [duplicated, duplicated_and_neutralized, restored_with_other_name]
)
def test_original_keeps_what_a_copy_uses(make, first, tmp_path, monkeypatch, exists):
    before = contents()
    addresses = first.create(*before)
    second = Database(make(tmp_path, monkeypatch) or SECOND)

    first.empty()
    assert exists(addresses) == addresses
    assert second.contents() == before

    second.empty()
    first.empty()
    assert exists(addresses) == []


def test_collector_does_not_wait_for_a_locked_database(
    first, tmp_path, monkeypatch, services, exists
):
    addresses = first.create(*contents())
    duplicated(tmp_path, monkeypatch)
    with contextlib.closing(odoo_server.connect(services, SECOND)) as connection:
        connection.autocommit = False
        with connection.cursor() as cursor:
            cursor.execute("LOCK ir_attachment IN ACCESS EXCLUSIVE MODE")
        first.empty()
        assert exists(addresses) == addresses
        with first.env() as env:
            error = env["attachment.s3.collection"].search([]).error
            assert "lock timeout" in error


def test_two_databases_in_one_bucket(first, make_database, services, exists):
    second = Database(make_database(SECOND, MODULES))
    set_parameter(services, SECOND, "ir_attachment.location", "s3://")
    same = contents()
    addresses = {database: database.create(*same) for database in (first, second)}
    assert not set(addresses[first]) & set(addresses[second])

    first.empty()
    assert exists(addresses[first]) == []
    assert exists(addresses[second]) == addresses[second]
    assert second.contents() == same


def test_changed_bucket(first, monkeypatch, s3, exists):
    before, after = contents(), contents()
    old = first.create(*before)
    make_bucket(s3, OTHER_BUCKET)
    monkeypatch.setenv("AWS_BUCKETNAME", OTHER_BUCKET)
    new = first.create(*after)
    assert {split(address)[0] for address in new} == {OTHER_BUCKET}
    assert first.contents() == sorted(before + after)

    first.empty()
    assert exists(new) == []
    assert exists(old) == old


# drop


@pytest.fixture
def on_drop(monkeypatch):
    from odoo.addons.attachment_s3 import post_load

    post_load()  # Odoo does not, when another test has imported the addon
    monkeypatch.setenv("AWS_ATTACHMENT_DELETE_ON_DROP", "1")
    return monkeypatch


def drop(name):
    from odoo.service import db

    assert db.exp_drop(name)
    assert not db.exp_db_exist(name)


def test_drop_keeps_the_objects(first, exists):
    addresses = first.create(*contents())
    drop(FIRST)
    assert exists(addresses) == addresses


@pytest.mark.parametrize("bucket", ["demo-odoo-prod", "ownership-odoo-{db}"])
def test_drop_deletes_own_objects_by_pages(
    first, make_database, services, on_drop, s3, exists, bucket
):
    from odoo.addons.attachment_s3 import ownership

    on_drop.setattr(ownership, "DELETE_KEYS", 3)
    on_drop.setenv("AWS_BUCKETNAME", bucket)
    for name in (FIRST, SECOND):
        make_bucket(s3, bucket.replace("{db}", name))
    second = Database(make_database(SECOND, MODULES))
    set_parameter(services, SECOND, "ir_attachment.location", "s3://")
    others = second.create(*contents())
    addresses = first.create(*contents(10))
    # of a process that was killed
    bucket, key = split(addresses[0])
    orphan = f"{folder(addresses[0])}/00/{'0' * 64}"
    s3.put_object(Bucket=bucket, Key=split(orphan)[1], Body=b"orphan")
    # a name that begins alike
    neighbour = f"{folder(addresses[0])}x/00/{'0' * 64}"
    s3.put_object(Bucket=bucket, Key=split(neighbour)[1], Body=b"neighbour")

    drop(FIRST)
    assert exists([*addresses, orphan]) == []
    assert exists([*others, neighbour]) == [*others, neighbour]


def test_drop_keeps_what_a_copy_uses(first, on_drop, exists, tmp_path, caplog):
    before = contents()
    addresses = first.create(*before)
    duplicated(tmp_path, on_drop)
    second = Database(SECOND)
    assert second.contents() == before
    own = second.create(*contents())
    drop(FIRST)
    assert exists(addresses) == addresses
    assert f"database {SECOND} uses it" in caplog.text

    # nor does the copy delete more than its own
    drop(SECOND)
    assert exists(own) == []
    assert exists(addresses) == addresses


@pytest.mark.parametrize(
    "variables",
    [
        {"AWS_ATTACHMENT_READONLY": "1"},
        {"DISABLE_ATTACHMENT_STORAGE": "1"},
        {"RUNNING_ENV": "integration"},
        {"AWS_BUCKETNAME": OTHER_BUCKET},
        {"AWS_ATTACHMENT_READONLY": "nonsense"},
    ],
)
def test_drop_elsewhere_keeps_the_objects(first, on_drop, s3, exists, variables):
    make_bucket(s3, OTHER_BUCKET)
    addresses = first.create(*contents())
    for name, value in variables.items():
        on_drop.setenv(name, value)
    drop(FIRST)
    assert exists(addresses) == addresses


@pytest.mark.parametrize(
    ("key", "value"),
    [("ir_attachment.s3.readonly", "true"), ("ir_attachment.location", "db")],
)
def test_parameter_keeps_the_objects(first, services, on_drop, exists, key, value):
    addresses = first.create(*contents())
    set_parameter(services, FIRST, key, value)
    drop(FIRST)
    assert exists(addresses) == addresses


def test_drop_without_store_works_and_tells_what_is_left(
    first, on_drop, exists, caplog
):
    addresses = first.create(*contents())
    on_drop.setenv("AWS_HOST", f"http://127.0.0.1:{processes.free_port()}")
    on_drop.setenv("AWS_MAX_ATTEMPTS", "1")
    drop(FIRST)
    assert exists(addresses) == addresses
    [told] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert f"{folder(addresses[0])}/ is not removed completely" in told.getMessage()


def test_drop_that_fails_keeps_the_objects(first, services, on_drop, exists):
    from odoo.service import db

    addresses = first.create(*contents())
    on_drop.setattr(db, "_drop_conn", lambda _cr, _name: None)
    user = odoo_server.connect(services, FIRST)
    with pytest.raises(Exception, match="Couldn't drop database"):
        db.exp_drop(FIRST)
    user.close()
    assert exists(addresses) == addresses


def test_drop_of_a_database_without_the_addon(first, services, on_drop):
    odoo_server.query(services, "postgres", f'CREATE DATABASE "{SECOND}"')
    drop(SECOND)
