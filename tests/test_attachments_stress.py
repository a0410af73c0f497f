"""Many processes change attachments, some are killed: nothing is lost.

The default run stops after a time. All of it, and more of it, in any time:
scripts/test tests/test_attachments_stress.py -s --stress 10000
"""

import json
import re

import boto3
import pytest
from toolbox import odoo_server, project

WORKERS = 4
#: operations for each process that is killed
OPERATIONS_PER_KILL = 100
#: of the default run, which is bounded by its time, too
OPERATIONS, SECONDS = 10_000, 80
RUN = """
import sys
sys.path[:0] = {paths!r}
import attachments_stress
attachments_stress.main(env, **{arguments!r})
"""


@pytest.fixture
def database(make_database, services):
    name = make_database("stress", "attachment_s3")
    odoo_server.query(
        services,
        name,
        "INSERT INTO ir_config_parameter (key, value) "
        "VALUES ('ir_attachment.location', 's3://')",
    )
    return name


def referenced(services, database):
    rows = odoo_server.query(
        services,
        database,
        "SELECT store_fname FROM ir_attachment WHERE store_fname LIKE 's3://%%'",
    )
    return {uri for (uri,) in rows}


def stored(services, database):
    """Return the addresses of all objects in the folder of a database."""
    env = services.env
    s3 = boto3.client(
        "s3",
        endpoint_url=env["AWS_HOST"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )
    [(prefix,)] = odoo_server.query(
        services, database, "SELECT prefix FROM attachment_s3_prefix"
    )
    bucket = env["AWS_BUCKETNAME"]
    pages = s3.get_paginator("list_objects_v2").paginate(
        Bucket=bucket, Prefix=f"{prefix}/"
    )
    return {
        f"s3://{bucket}/{item['Key']}"
        for page in pages
        for item in page.get("Contents", [])
    }


def test_nothing_is_lost(services, odoo_folder, database, request):
    wanted = request.config.getoption("--stress")
    operations = wanted or OPERATIONS
    arguments = {
        "workers": WORKERS,
        "operations": operations,
        "kills": operations // OPERATIONS_PER_KILL,
        "seconds": 3600 if wanted else SECONDS,
    }
    paths = [str(project.ROOT / "tests"), str(project.ROOT / "scripts")]
    result = odoo_server.run_odoo(
        services,
        odoo_folder,
        *("shell", "-d", database, "--no-http", "--log-level", "error"),
        stdin=RUN.format(paths=paths, arguments=arguments),
        AWS_ATTACHMENT_RETENTION_DAYS="0",
    )
    assert result.returncode == 0, result.stdout
    found = re.search(r"^STRESS (.*)$", result.stdout, re.MULTILINE)
    assert found, result.stdout
    reached = json.loads(found[1])
    orphans = stored(services, database) - referenced(services, database)
    print({**reached, "orphans": len(orphans)})

    assert reached["failed"] == 0, result.stdout
    assert reached["wrong"] == []
    assert reached["noted"] == 0
    # uploads of killed processes and of undone savepoints are for the inventory
    result = odoo_server.run_odoo(
        services,
        odoo_folder,
        *("s3inventory", "-d", database, "--fix"),
        AWS_ATTACHMENT_RETENTION_DAYS="0",
    )
    print(result.stdout)
    assert stored(services, database) == referenced(services, database)

    # it was a test: all that collides did happen
    assert reached["attachments"] > 10
    for name, count in reached.items():
        if name not in ("missing reads", "failed", "wrong", "noted"):
            assert count > 0, name
    assert reached["kills"] >= min(arguments["kills"], 5)
    if wanted:
        assert reached["operations"] >= wanted
        assert reached["kills"] == arguments["kills"]
