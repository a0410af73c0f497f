"""A large download through a front end costs it next to no memory."""

import hashlib
import os
import time
from pathlib import Path

import boto3
import pytest
import requests
from toolbox import odoo_server

MIB = 1024 * 1024
#: of the file, and of a part of an upload
SIZE_MIB, PART_MIB = 200, 20
#: of the whole server, while it passes the file on
MOST_GROWTH_MIB = 32


@pytest.fixture
def database(services, make_database):
    name = make_database("test_serving_memory", "attachment_s3,session_redis,mail")
    sql = """
        INSERT INTO ir_config_parameter (key, value)
             VALUES ('ir_attachment.location', 's3://')
        ON CONFLICT (key) DO UPDATE SET value = EXCLUDED.value
    """
    odoo_server.query(services, name, sql)
    return name


def store_large(services, part, parts):
    """Store a part several times in a row as one object; return its address."""
    env = services.env
    client = boto3.client(
        "s3",
        endpoint_url=env["AWS_HOST"],
        region_name=env["AWS_REGION"],
        aws_access_key_id=env["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=env["AWS_SECRET_ACCESS_KEY"],
    )
    digest = hashlib.sha256()
    for _number in range(parts):
        digest.update(part)
    where = {
        "Bucket": env["AWS_BUCKETNAME"],
        "Key": f"test-serving-memory/{digest.hexdigest()}",
    }
    upload = client.create_multipart_upload(**where)["UploadId"]
    done = []
    for number in range(1, parts + 1):
        answer = client.upload_part(
            **where, UploadId=upload, PartNumber=number, Body=part
        )
        done.append({"PartNumber": number, "ETag": answer["ETag"]})
    client.complete_multipart_upload(
        **where, UploadId=upload, MultipartUpload={"Parts": done}
    )
    return "s3://{Bucket}/{Key}".format(**where), digest.hexdigest()


def attach(services, database, uri, size):
    """Make an attachment of an object that is there, past Odoo; return its id."""
    sql = """
        INSERT INTO ir_attachment (
            name, type, mimetype, public, res_model, res_id, store_fname, file_size,
            create_uid, write_uid, create_date, write_date
        )
        VALUES ('large.bin', 'binary', 'application/x-test', true, NULL, 0, %s, %s,
                1, 1, now(), now())
        RETURNING id
    """
    ((id_,),) = odoo_server.query(services, database, sql, uri, size)
    return id_


def memory_mib(pid, name):
    """Return a figure of /proc/<pid>/status."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{name}:"):
            return int(line.split()[1]) / 1024
    raise LookupError(name)


def test_download_of_200_mb_in_constant_memory(services, database, start_front_end):
    part = os.urandom(PART_MIB * MIB)
    large, expected = store_large(services, part, SIZE_MIB // PART_MIB)
    large = attach(services, database, large, SIZE_MIB * MIB)
    small, _digest = store_large(services, part[: 5 * MIB], 2)
    small = attach(services, database, small, 10 * MIB)
    front_end = start_front_end("serving_memory", database)
    for _number in range(3):  # what every download needs, and is kept
        download(front_end, small)

    pid = front_end.process.pid
    Path(f"/proc/{pid}/clear_refs").write_text("5")  # the peak is now (proc(5))
    before = memory_mib(pid, "VmHWM")
    started = time.monotonic()
    assert download(front_end, large) == expected
    seconds = time.monotonic() - started
    growth = memory_mib(pid, "VmHWM") - before
    print(f"{SIZE_MIB / seconds:.0f} MiB/s, {before:.0f} MiB and {growth:.1f} MiB more")
    assert growth <= MOST_GROWTH_MIB


def download(front_end, id_):
    """Return the digest of what arrives."""
    url = f"{front_end.url}/web/content/{id_}?download=1"
    digest = hashlib.sha256()
    with requests.get(url, stream=True, timeout=60) as answer:
        answer.raise_for_status()
        for chunk in answer.iter_content(MIB):
            digest.update(chunk)
    return digest.hexdigest()
