"""Songs of a client and of the addons, played by the real anthem."""

import re

import boto3
import pytest
from toolbox import odoo_server, project

SONGS = project.ROOT / "tests" / "songs_example"
MAIN, REHEARSE = "songs.install::main", "songs.install::rehearse"
#: of a database that is in use: large contents on the local disk and in the database,
#: two rows that share a file, and a small image that belongs in the database
FILL = """
import secrets
set_location = env["ir.config_parameter"].set_param
create = env["ir.attachment"].create
shared = secrets.token_bytes(300_000)
for name, content in (
    ("file", secrets.token_bytes(3_000_000)), ("shared 1", shared), ("shared 2", shared)
):
    create({"name": f"songs: {name}", "raw": content})
pixel = bytes.fromhex("47494638396101000100000000003b")
create({"name": "songs: pixel", "raw": pixel, "mimetype": "image/gif"})
set_location("ir_attachment.location", "db")
for name, size in (("database", 2_000_000), ("database, large", 12_000_000)):
    create({"name": f"songs: {name}", "raw": secrets.token_bytes(size)})
env["ir.config_parameter"].search([("key", "=", "ir_attachment.location")]).unlink()
env.cr.commit()
"""
#: reads everything as Odoo does
READ = """
import hashlib
attachments = env["ir.attachment"].with_context(skip_res_field_check=True).search(
    [("type", "=", "binary"), ("file_size", ">", 0)]
)
wrong = [a.id for a in attachments if hashlib.sha1(a.raw).hexdigest() != a.checksum]
print("READ", len(attachments), "WRONG", wrong)
"""
PLACES = """
    SELECT name, CASE WHEN store_fname LIKE 's3://%%' THEN 's3'
                      WHEN store_fname IS NOT NULL THEN 'file' ELSE 'db' END
      FROM ir_attachment WHERE name LIKE 'songs: %%'
"""
ROWS = """
    SELECT id, store_fname, checksum, file_size, db_datas, write_date
      FROM ir_attachment WHERE type = 'binary' ORDER BY id
"""
PARAMETERS = """
    SELECT key, value FROM ir_config_parameter
     WHERE key IN ('cloud.platform.kind', 'ir_attachment.location') ORDER BY key
"""


@pytest.fixture
def play(services, odoo_folder):
    """Return a function that plays a song of the example and returns what it says."""

    def play(song, database, status=0, **variables):
        result = odoo_server.run_anthem(
            services,
            odoo_folder,
            *(song, "-d", database),
            PYTHONPATH=str(SONGS),
            **variables,
        )
        assert result.returncode == status, result.stdout
        for secret in ("ODOO_SESSION_REDIS_PASSWORD", "AWS_SECRET_ACCESS_KEY"):
            assert services.env[secret] not in result.stdout
        return result.stdout

    return play


def shell(services, folder, database, code):
    arguments = ("shell", "-d", database, "--no-http")
    result = odoo_server.run_odoo(services, folder, *arguments, stdin=code)
    assert result.returncode == 0, result.stdout
    assert "Traceback" not in result.stdout, result.stdout
    return result.stdout


@pytest.fixture
def database(services, odoo_folder, make_database):
    name = make_database("songs")
    shell(services, odoo_folder, name, FILL)
    places = dict(odoo_server.query(services, name, PLACES))
    assert sorted(places.values()) == ["db", "db", "file", "file", "file", "file"]
    return name


def objects(services, database):
    """Return key → ETag and date of the objects that a database refers to."""
    env = services.env
    s3 = boto3.client(
        "s3",
        endpoint_url=env["AWS_HOST"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )
    bucket = env["AWS_BUCKETNAME"]
    rows = odoo_server.query(
        services,
        database,
        "SELECT DISTINCT store_fname FROM ir_attachment WHERE store_fname LIKE 's3:%%'",
    )
    keys = {name.removeprefix(f"s3://{bucket}/") for (name,) in rows}
    heads = {key: s3.head_object(Bucket=bucket, Key=key) for key in keys}
    return {key: (head["ETag"], head["LastModified"]) for key, head in heads.items()}


def local_files(odoo_folder, database):
    filestore = odoo_folder / "data" / "filestore" / database
    return [path for path in filestore.rglob("*") if path.is_file()]


def test_installation_moves_all_and_loses_nothing(
    play, services, odoo_folder, tmp_path, database
):
    before = odoo_server.query(services, database, ROWS)
    checksums = {row[0]: row[2] for row in before}

    rehearsal = play(REHEARSE, database)
    assert odoo_server.query(services, database, ROWS) == before
    assert not odoo_server.query(services, database, PARAMETERS)
    assert "would set ir_attachment.location = s3://" in rehearsal
    number, megabytes = re.search(
        r"would move attachments: (\d+) \(([\d.]+) MB\)", rehearsal
    ).groups()
    assert float(megabytes) >= 16.8  # of 17.6 million bytes

    said = play(MAIN, database)
    assert f"attachments moved: {number} ({megabytes} MB), failed: 0" in said
    assert "about 0 s left" in said  # the progress of the move
    parameters = odoo_server.query(services, database, PARAMETERS)
    assert parameters == [
        ("cloud.platform.kind", "exoscale"),
        ("ir_attachment.location", "s3://"),
    ]
    places = dict(odoo_server.query(services, database, PLACES))
    assert places.pop("songs: pixel") == "db"  # a small image
    assert set(places.values()) == {"s3"}
    after = odoo_server.query(services, database, ROWS)
    assert {row[0]: row[2] for row in after} == checksums
    assert not [row for row in after if row[1] and not row[1].startswith("s3://")]

    # Odoo's collector removes what was moved from the local disk
    assert local_files(odoo_folder, database)
    vacuum = "env.ref('base.autovacuum_job').method_direct_trigger()\n"
    shell(services, odoo_folder, database, vacuum)
    assert local_files(odoo_folder, database) == []

    # all is read from the bucket and the database by a host without files
    read = shell(services, tmp_path, database, READ)
    number_read, wrong = re.search(r"READ (\d+) WRONG (.*)", read).groups()
    assert wrong == "[]"
    assert int(number_read) == len([row for row in before if row[3]])

    # a second time changes nothing
    rows = odoo_server.query(services, database, ROWS)
    stored = objects(services, database)
    assert stored
    again = play(MAIN, database)
    assert "attachments moved: 0 (0.0 MB), failed: 0" in again
    assert odoo_server.query(services, database, ROWS) == rows
    assert odoo_server.query(services, database, PARAMETERS) == parameters
    assert objects(services, database) == stored


@pytest.mark.parametrize(
    ("environment", "location", "variables"),
    [
        ("integration", "s3://", {"AWS_ATTACHMENT_READONLY": "1"}),
        ("test", "db", {"AWS_BUCKETNAME": ""}),
        ("dev", "db", {"AWS_BUCKETNAME": ""}),
    ],
)
def test_rehearsal_in_another_environment(
    play, make_database, environment, location, variables
):
    said = play(
        REHEARSE,
        make_database("songs_rehearsed"),
        RUNNING_ENV=environment,
        ODOO_SESSION_REDIS_PREFIX=f"demo-odoo-{environment}",
        **variables,
    )
    assert f"environment: {environment}" in said
    assert f"would set ir_attachment.location = {location}" in said
    assert "would move attachments: 0 (0.0 MB)" in said


def test_rehearsal_tells_the_faults(play, make_database):
    said = play(REHEARSE, make_database("songs_rehearsed"), 1, RUNNING_ENV="test")
    assert "ODOO_SESSION_REDIS_PREFIX: is 'demo-odoo-prod'" in said
    assert "AWS_ATTACHMENT_READONLY: is not set" in said
