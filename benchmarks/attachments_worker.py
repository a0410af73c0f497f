"""One alternative of the benchmark of attachments, in a process of its own.

Run by bench_attachments.py. Contents are random, made outside of what is measured; what
was read is compared with what was written.
"""

import argparse
import contextlib
import cProfile
import gc
import io
import json
import os
import pstats
import secrets
import statistics
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from latency_proxy import Counter
from workers import serve

#: what a page of a kanban view reads in parallel
THREADS = 8
MIGRATION_TABLE = "bench_migration"


def memory_mib(field: str) -> float:
    """Return a figure of this process, ``VmRSS`` or ``VmHWM``, in MiB."""
    return process_memory_mib(os.getpid(), field)


def process_memory_mib(pid: int, field: str) -> float:
    """Return a figure of a process's memory in MiB (proc(5), "status")."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) / 1024
    raise KeyError(field)


def forget_peak(pid: int) -> None:
    """Let ``VmHWM`` of a process begin anew (proc(5), "clear_refs")."""
    Path(f"/proc/{pid}/clear_refs").write_text("5")


def plain_client(endpoint: str):
    """Return boto3's client, configured as the addon's default."""
    import boto3.session
    from botocore.config import Config

    return boto3.session.Session(
        aws_access_key_id=os.environ["AWS_ACCESS_KEY_ID"],
        aws_secret_access_key=os.environ["AWS_SECRET_ACCESS_KEY"],
        region_name=os.environ["AWS_REGION"],
    ).client(
        "s3",
        endpoint_url=endpoint,
        config=Config(
            signature_version="s3v4",
            s3={"addressing_style": "path"},
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            connect_timeout=2,
            read_timeout=10,
            max_pool_connections=32,
            retries={"mode": "standard", "total_max_attempts": 3},
        ),
    )


class Alternative:
    """What all have in common: the operations and how they are measured.

    A subclass has ``_write``, ``_write_same``, ``_copy``, ``_read`` and ``_delete``, of
    which each is one whole transaction.
    """

    def __init__(self, counter: Counter):
        self.counter = counter
        self.content = None

    def use(self, endpoint: str) -> None:
        """Reach the S3 server by another address."""

    def prepare(self, size: int) -> None:
        """Make the content of the next operations: ``size`` bytes."""
        self.content = secrets.token_bytes(size)
        gc.collect()

    def measure(self, operation: str) -> dict:
        """Run one operation; seconds, seconds of this process's CPU, requests."""
        run = getattr(self, f"_{operation}")
        requests = self.counter.value
        cpu = time.process_time()
        start = time.perf_counter()
        result = run()
        seconds = time.perf_counter() - start
        cpu = time.process_time() - cpu
        if operation == "read" and result != self.content:
            raise ValueError("something else was read than was written")
        return {
            "seconds": seconds,
            "cpu": cpu,
            "requests": self.counter.value - requests,
        }

    def profile(self, operation: str, size: int, times: int) -> dict:
        """Return how the time of an operation is spent, in seconds of one.

        ``total``; ``client``: of that in botocore's call; ``http``: of that in its HTTP
        session, which is urllib3, the network and the S3 server's own time.
        """
        profile = cProfile.Profile()
        for _time in range(times):
            self.prepare(size)
            if operation != "write":
                self._write()
            profile.enable()
            getattr(self, f"_{operation}")()
            profile.disable()
            if operation != "delete":
                self._delete()
        stats = pstats.Stats(profile, stream=io.StringIO())
        result = {"total": stats.total_tt, "client": 0.0, "http": 0.0}
        for (path, _line, name), figures in stats.stats.items():
            if name == "_make_api_call" and path.endswith("botocore/client.py"):
                result["client"] += figures[3]
            elif name == "send" and path.endswith("botocore/httpsession.py"):
                result["http"] += figures[3]
        return {name: seconds / times for name, seconds in result.items()}


class BareBoto3(Alternative):
    """boto3, configured as the addon does it."""

    def __init__(self, counter):
        super().__init__(counter)
        self.bucket = os.environ["AWS_BUCKETNAME"]
        self.key = None
        self.keys = []

    def use(self, endpoint):
        self.client = plain_client(endpoint)

    def _put(self, key, content):
        self.client.put_object(Bucket=self.bucket, Key=key, Body=content)

    def _get(self, key):
        return self.client.get_object(Bucket=self.bucket, Key=key)["Body"].read()

    def _write(self):
        self.key = f"bare/{secrets.token_hex(32)}"
        self._put(self.key, self.content)

    _write_same = _write

    def _copy(self):
        source = {"Bucket": self.bucket, "Key": self.key}
        key = f"{self.key}-copy"
        self.client.copy_object(Bucket=self.bucket, Key=key, CopySource=source)

    def _read(self):
        return self._get(self.key)

    def _delete(self):
        self.client.delete_object(Bucket=self.bucket, Key=self.key)

    # reading many

    def prepare_many(self, count, size):
        self.keys = [f"bare/{secrets.token_hex(32)}" for _number in range(count)]
        for key in self.keys:
            self._put(key, secrets.token_bytes(size))

    def _many(self):
        with ThreadPoolExecutor(THREADS) as pool:
            list(pool.map(self._get, self.keys))

    def _one_by_one(self):
        for key in self.keys:
            self._get(key)

    # migration

    def upload_files(self, listing, threads):
        """Upload the files whose paths are the lines of a file; return the seconds."""
        paths = Path(listing).read_text().splitlines()
        folder = f"bare/{secrets.token_hex(8)}"

        def upload(path):
            with open(path, "rb") as file:
                self._put(f"{folder}/{os.path.basename(path)}", file.read())

        start = time.perf_counter()
        with ThreadPoolExecutor(threads) as pool:
            for _done in pool.map(upload, paths):
                pass
        return time.perf_counter() - start

    def presigned_url(self, size):
        """Store a content of a size and return an address to download it from."""
        key = f"bare/{secrets.token_hex(32)}"
        self._put(key, secrets.token_bytes(size))
        return self.client.generate_presigned_url(
            "get_object", Params={"Bucket": self.bucket, "Key": key}
        )


class Attachments(Alternative):
    """``ir.attachment`` through the ORM: Odoo's filestore."""

    def __init__(self, counter, database):
        super().__init__(counter)
        import odoo.modules.registry
        from odoo import SUPERUSER_ID, api
        from odoo.tools import config

        config.parse_config(["-d", database, "--no-http"], setup_logging=True)
        self.registry = odoo.modules.registry.Registry(database)
        self.make_env = lambda cr: api.Environment(cr, SUPERUSER_ID, {})
        self.id = None
        self.partners = []

    @contextlib.contextmanager
    def transaction(self):
        with self.registry.cursor() as cr:
            yield self.make_env(cr)

    def _create(self, **values):
        with self.transaction() as env:
            attachment = env["ir.attachment"].create(
                {
                    "name": "bench.bin",
                    "mimetype": "application/octet-stream",
                    "raw": self.content,
                    **values,
                }
            )
            return attachment.id

    def _write(self):
        self.id = self._create()

    def _write_same(self):
        self._create()

    def _copy(self):
        with self.transaction() as env:
            env["ir.attachment"].browse(self.id).copy()

    def _read(self):
        with self.transaction() as env:
            return env["ir.attachment"].browse(self.id).raw

    def _delete(self):
        with self.transaction() as env:
            env["ir.attachment"].browse(self.id).unlink()

    # reading many

    def prepare_many(self, count, size):
        """Give partners images of about a size, as the field image_1920 keeps them."""
        from PIL import Image

        side = round((size / 3) ** 0.5)
        with self.transaction() as env:
            partners = env["res.partner"].create(
                [{"name": f"Partner {number}"} for number in range(count)]
            )
            vals_list = []
            for partner in partners:
                noise = secrets.token_bytes(side * side * 3)
                file = io.BytesIO()
                Image.frombytes("RGB", (side, side), noise).save(file, "PNG")
                vals_list.append(
                    {
                        "name": "image_1920",
                        "res_model": "res.partner",
                        "res_field": "image_1920",
                        "res_id": partner.id,
                        "raw": file.getvalue(),
                    }
                )
            env["ir.attachment"].create(vals_list)
            self.partners = partners.ids

    def _many(self):
        with self.transaction() as env:
            rows = env["res.partner"].browse(self.partners).read(["image_1920"])
        if not all(row["image_1920"] for row in rows):
            raise ValueError("an image is missing")

    def _one_by_one(self):
        for partner in self.partners:
            with self.transaction() as env:
                [row] = env["res.partner"].browse(partner).read(["image_1920"])
            if not row["image_1920"]:
                raise ValueError("an image is missing")

    # download

    def create_public(self, size):
        """Store a content that everybody may download; return the record's id."""
        self.prepare(size)
        id_ = self._create(public=True)
        self.content = None
        return id_

    # migration

    def prepare_files(self, count, size, listing):
        """Put contents into the local filestore, and their paths into a file."""
        attachment = "ir.attachment"
        with self.transaction() as env:
            env["ir.config_parameter"].set_param("ir_attachment.location", "s3://")
            env[attachment].force_storage()  # what Odoo itself has
            env["ir.config_parameter"].set_param("ir_attachment.location", "file")
            paths = []
            for _number in range(count):
                content = secrets.token_bytes(size)
                checksum = env[attachment]._compute_checksum(content)
                fname, path = env[attachment]._get_path(content, checksum)
                Path(path).write_bytes(content)
                paths.append(path)
                env.cr.execute(
                    """INSERT INTO ir_attachment
                         (name, type, mimetype, store_fname, checksum, file_size)
                       VALUES
                         ('bench.bin', 'binary', 'application/octet-stream', %s, %s, %s)
                    """,
                    (fname, checksum, size),
                )
            env.cr.execute(
                f"""CREATE TABLE {MIGRATION_TABLE} AS
                    SELECT id, store_fname FROM ir_attachment
                     WHERE store_fname NOT LIKE 's3://%%'"""
            )
            env.cr.execute(f"ALTER TABLE {MIGRATION_TABLE} ADD PRIMARY KEY (id)")
            env["ir.config_parameter"].set_param("ir_attachment.location", "s3://")
        Path(listing).write_text("\n".join(paths))

    def migrate(self):
        """Move everything to S3: seconds, how many, growth of the memory in MiB."""
        with self.transaction() as env:
            forget_peak(os.getpid())
            memory = memory_mib("VmRSS")
            start = time.perf_counter()
            report = env["ir.attachment"].force_storage()
            seconds = time.perf_counter() - start
        return {
            "seconds": seconds,
            "moved": report["moved"],
            "failed": report["failed"],
            "memory": memory_mib("VmHWM") - memory,
        }

    def undo_migration(self):
        """Let the attachments be in the local filestore again, where the files are."""
        with self.transaction() as env:
            env.cr.execute(
                f"""UPDATE ir_attachment SET store_fname = m.store_fname,
                           db_datas = NULL
                      FROM {MIGRATION_TABLE} m WHERE m.id = ir_attachment.id"""
            )
            # the next one uploads to a prefix that holds nothing yet
            env.cr.execute("DELETE FROM attachment_s3_prefix")
            env.cr.execute("DELETE FROM attachment_s3_garbage")
            env.registry.clear_cache()


class AttachmentS3(Attachments):
    """``ir.attachment`` with the addon of this project."""

    def use(self, endpoint):
        os.environ["AWS_HOST"] = endpoint

    def configure(self):
        """Let new contents go to S3."""
        with self.transaction() as env:
            env["ir.config_parameter"].set_param("ir_attachment.location", "s3://")

    def compare_clients(self, endpoint, size, times):
        """Compare a plain client with the addon's: seconds, and of them CPU."""
        self.use(endpoint)
        with self.transaction() as env:
            store = env["ir.attachment"]._s3_configuration().store()
        clients = {"plain": plain_client(endpoint), "addon": store.client}
        samples = {}
        for number in range(times + 1):
            content = secrets.token_bytes(size)
            for name, client in clients.items():
                target = {"Bucket": store.bucket, "Key": f"clients/{name}"}
                for operation in ("put", "get"):
                    cpu, start = time.thread_time(), time.perf_counter()
                    if operation == "put":
                        client.put_object(Body=content, **target)
                    else:
                        client.get_object(**target)["Body"].read()
                    seconds = time.perf_counter() - start
                    cpu = time.thread_time() - cpu
                    if number:  # the first opens the connection
                        found = samples.setdefault(f"{name} {operation}", [])
                        found.append((seconds, cpu))
        return {
            name: [statistics.median(figures) for figures in zip(*found, strict=True)]
            for name, found in samples.items()
        }


class FsAttachment(Attachments):
    """``ir.attachment`` with OCA's fs_attachment, s3fs and their default options."""

    def use(self, endpoint):
        options = {
            "key": "$AWS_ACCESS_KEY_ID",
            "secret": "$AWS_SECRET_ACCESS_KEY",
            "endpoint_url": endpoint,
            "client_kwargs": {"region_name": "$AWS_REGION"},
        }
        values = {
            "name": "S3",
            "code": "s3",
            "protocol": "s3",
            "options": json.dumps(options),
            "eval_options_from_env": True,
            "directory_path": os.environ["AWS_BUCKETNAME"] + "/{db_name}",
            "use_as_default_for_attachments": True,
        }
        with self.transaction() as env:
            storage = env["fs.storage"].search([])
            if storage:
                storage.write(values)
            else:
                storage.create(values)


ALTERNATIVES = {
    "boto3": BareBoto3,
    "addon": AttachmentS3,
    "filestore": Attachments,
    "peer": FsAttachment,
}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("alternative", choices=ALTERNATIVES)
    parser.add_argument("counter", type=Path, help="file of the number of requests")
    parser.add_argument("database", nargs="?", help="of Odoo")
    arguments = parser.parse_args()
    parameters = [arguments.database] if arguments.database else []
    serve(ALTERNATIVES[arguments.alternative](Counter(arguments.counter), *parameters))


if __name__ == "__main__":
    main()
