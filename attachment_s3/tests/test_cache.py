import errno
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
from functools import partial
from pathlib import Path
from unittest.mock import patch
from urllib.parse import urlsplit

from odoo.exceptions import AccessError
from odoo.tests import BaseCase, HttpCase, new_test_user, tagged

from .. import cache
from ..cache import ContentCache
from ..configuration import LOCATION, split_uri
from ..exceptions import S3ConfigurationError, S3ContentError, S3Error
from ..settings import load
from ..store import Download
from .common import MIMETYPE, Operations, S3Case, variables
from .fault_proxy import FaultProxy

LOGGER = "odoo.addons.attachment_s3.cache"

#: a process that reads and writes the cache; arguments: module, folder, capacity, seed
WORKER = """
import importlib.util, os, random, sys
spec = importlib.util.spec_from_file_location("cache", sys.argv[1])
cache = importlib.util.module_from_spec(spec)
sys.modules["cache"] = cache
spec.loader.exec_module(cache)
from hashlib import sha256
from pathlib import Path
store = cache.ContentCache(Path(sys.argv[2]), int(sys.argv[3]))
numbers = random.Random(int(sys.argv[4]))
found = 0
for _ in range(500):
    content = str(numbers.randrange(60)).encode() * 9000
    digest = sha256(content).hexdigest()
    kept = store.get(digest)
    if kept is None:
        store.put(digest, content)
    else:
        found += 1
        if kept != content:
            sys.exit("another content")
print(found)
"""


def digest_of(content):
    return hashlib.sha256(content).hexdigest()


class CacheCase(BaseCase):
    def setUp(self):
        super().setUp()
        self.folder = Path(tempfile.mkdtemp(prefix="attachment_s3-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.enterContext(patch.object(cache, "_warned", set()))

    def files(self):
        """The contents that are kept, by their path."""
        return [path for path in self.folder.glob("*/??/*") if path.is_file()]

    def taken(self):
        return sum(cache._disk_bytes(path.stat().st_size) for path in self.files())


@tagged("post_install", "-at_install")
class TestContentCache(CacheCase):
    def setUp(self):
        super().setUp()
        self.cache = ContentCache(self.folder / "new", 1_000_000)
        self.folder = self.cache.folder

    def put(self, content, used=None):
        """Keep a content, used last at a time (seconds since the epoch)."""
        digest = digest_of(content)
        self.cache.put(digest, content)
        if used is not None:
            os.utime(self.cache._path(digest), (used, used))
        return digest

    def test_content_is_kept(self):
        content = os.urandom(5000)
        digest = digest_of(content)
        self.assertIsNone(self.cache.get(digest))
        self.put(content)
        self.assertEqual(self.cache.get(digest), content)
        self.put(content)
        self.assertEqual([path.name for path in self.files()], [digest])

    def test_files_are_nobody_elses_business(self):
        self.put(b"x")
        [file] = self.files()
        self.assertEqual(file.stat().st_mode & 0o777, 0o600)
        self.assertEqual(file.parent.parent.stat().st_mode & 0o777, 0o700)

    def test_damaged_file_is_dropped(self):
        content = os.urandom(5000)
        for damaged in (b"", content[:-1], content + b"x", b"x" * 5000):
            digest = self.put(content)
            [file] = self.files()
            file.write_bytes(damaged)
            with self.assertLogs(LOGGER, "WARNING"):
                self.assertIsNone(self.cache.get(digest))
            self.assertEqual(self.files(), [])

    def test_what_was_not_used_for_the_longest_time_goes_first(self):
        contents = [os.urandom(100_000) for _ in range(9)]
        digests = [self.put(content, used=n) for n, content in enumerate(contents)]
        self.assertEqual(len(self.files()), 9)
        self.assertTrue(self.cache.get(digests[0]))  # now it is the latest
        new = self.put(os.urandom(100_000))
        self.assertLessEqual(self.taken(), 1_000_000)
        self.assertEqual(
            {path.name for path in self.files()}, {digests[0], new, *digests[3:]}
        )

    def test_cache_never_takes_more_than_its_capacity(self):
        numbers = random.Random(1)
        for _ in range(300):
            self.put(os.urandom(numbers.choice([1, 3000, 20_000, 120_000])))
            self.assertLessEqual(self.taken(), 1_000_000)
        self.assertGreater(self.taken(), 700_000)

    def test_large_content_is_not_kept(self):
        self.put(b"x" * 130_000)
        self.assertEqual(self.files(), [])
        large = ContentCache(self.folder, 10**12)
        self.assertTrue(large.accepts(16 * 1024 * 1024))
        self.assertFalse(large.accepts(16 * 1024 * 1024 + 1))
        self.assertFalse(large.accepts(None))

    def test_other_files_are_left_alone(self):
        self.put(b"x")
        [file] = self.files()
        name = digest_of(b"other")
        others = [
            file.parent / "other",
            file.parent.parent / "other",
            self.folder / name[:2] / name,
        ]
        for path in others:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"x" * 1_000_000)
            os.utime(path, (0, 0))
        for _ in range(30):
            self.put(os.urandom(100_000))
        self.assertTrue(all(path.exists() for path in others))

    def test_remains_of_a_killed_process_go(self):
        self.put(b"x")
        [file] = self.files()
        remains = file.with_name(f"{file.name}.abc")
        remains.write_bytes(b"x" * 500_000)
        os.utime(remains, (0, 0))
        for _ in range(11):
            self.put(os.urandom(100_000))
        self.assertFalse(remains.exists())
        self.assertLessEqual(self.taken(), 1_000_000)

    def test_full_disk_is_told_once_and_leaves_nothing(self):
        full = OSError(errno.ENOSPC, "No space left on device")
        with (
            patch("os.replace", side_effect=full),
            self.assertLogs(LOGGER, "WARNING") as logs,
        ):
            for _ in range(3):
                self.put(os.urandom(1000))
        self.assertEqual(len(logs.output), 1)
        self.assertEqual(self.files(), [])

    def test_counter_that_is_wrong_is_put_right(self):
        counter = self.folder / cache.FOLDER / "bytes"
        for text in ("", "nonsense", "-5", "9" * 20, "²"):
            self.put(os.urandom(100_000))
            counter.write_text(text)
            self.put(os.urandom(100_000))
            self.assertEqual(int(counter.read_text()), self.taken(), text)
        self.put(os.urandom(100_000))
        counter.unlink()
        self.put(os.urandom(100_000))
        self.assertEqual(int(counter.read_text()), self.taken())

    def test_counter_that_is_damaged_is_put_right(self):
        self.put(b"first")
        counter = self.folder / cache.FOLDER / "bytes"
        counter.write_bytes(bytes(range(128, 256)))
        self.put(b"second")
        self.assertEqual(int(counter.read_text()), self.taken())

    def test_folder_can_be_deleted(self):
        digest = self.put(b"x")
        shutil.rmtree(self.folder)
        self.assertIsNone(self.cache.get(digest))
        self.put(b"x")
        self.assertEqual(self.cache.get(digest), b"x")

    def test_folder_that_cannot_be_used_is_told_once(self):
        file = self.folder.parent / "file"
        file.touch()
        unusable = ContentCache(file, 1_000_000)
        with self.assertLogs(LOGGER, "WARNING") as logs:
            for content in (b"a", b"b"):
                unusable.put(digest_of(content), content)
                self.assertIsNone(unusable.get(digest_of(content)))
        self.assertEqual(len(logs.output), 1)
        self.assertIn("AWS_ATTACHMENT_CACHE_DIR", logs.output[0])

    def test_several_processes_and_a_deletion(self):
        capacity, size = 400_000, 18_000
        workers = [
            subprocess.Popen(
                [sys.executable, "-c", WORKER, cache.__file__, str(self.folder)]
                + [str(capacity), str(seed)],
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for seed in range(4)
        ]
        most = 0
        try:
            while any(worker.poll() is None for worker in workers):
                shutil.rmtree(self.folder, ignore_errors=True)
                for worker in workers:
                    try:
                        worker.wait(0.1)
                    except subprocess.TimeoutExpired:
                        most = max(most, self.size_while_it_changes())
        finally:
            for worker in workers:
                worker.kill()
        for worker in workers:
            found, errors = worker.communicate()
            self.assertEqual((worker.returncode, errors), (0, ""))
            self.assertGreater(int(found), 0)
        self.assertLessEqual(max(most, self.taken()), capacity + 2 * 4 * size)

    def size_while_it_changes(self):
        total = 0
        for path in self.folder.glob("*/??/*"):
            try:
                total += path.stat().st_size
            except FileNotFoundError:
                continue
        return total


@tagged("post_install", "-at_install")
class TestCachedReads(S3Case, CacheCase):
    def setUp(self):
        super().setUp()
        self.enterContext(variables(AWS_ATTACHMENT_CACHE_DIR=str(self.folder)))
        self.raw = os.urandom(5000)
        self.attachment = self.make(self.raw)
        self.bucket, self.key = split_uri(self.attachment.store_fname)
        self.store = self.attachment._s3_configuration().store(self.bucket)

    def read_raw(self):
        """Return the content, and the operations that it costs."""
        self.attachment.invalidate_recordset()
        with Operations() as operations:
            return self.attachment.raw, operations.names

    def test_no_cache_unless_asked_for(self):
        with variables(AWS_ATTACHMENT_CACHE_DIR=""):
            for _ in range(2):
                self.assertEqual(self.read_raw(), (self.raw, ["get"]))
        self.assertEqual(os.listdir(self.folder), [])

    def test_second_read_needs_no_request(self):
        self.assertEqual(self.read_raw(), (self.raw, ["get"]))
        self.assertEqual(self.read_raw(), (self.raw, ["cached"]))
        shutil.rmtree(self.folder)
        self.assertEqual(self.read_raw(), (self.raw, ["get"]))
        self.assertEqual(self.read_raw(), (self.raw, ["cached"]))

    def test_many_contents(self):
        raws = [os.urandom(1000) for _ in range(16)]
        many = self.env["ir.attachment"].concat(*(self.make(raw) for raw in raws))
        for name in ("get", "cached"):
            many.invalidate_recordset()
            with Operations() as operations:
                self.assertEqual(many.mapped("raw"), raws)
            self.assertEqual(operations.names, [name] * 16)

    def test_damaged_file_is_downloaded_anew(self):
        self.read_raw()
        [file] = self.files()
        file.write_bytes(self.raw[:-1] + b"x")
        with self.assertLogs(LOGGER, "WARNING"):
            self.assertEqual(self.read_raw(), (self.raw, ["get"]))
        self.assertEqual(self.read_raw(), (self.raw, ["cached"]))

    def test_parts(self):
        self.assertEqual(self.store.get(self.key, 10), self.raw[:10])
        self.assertEqual(self.files(), [])  # a part is not the content
        self.store.get(self.key)
        with Operations() as operations:
            for start, stop in ((0, 1), (10, 20), (4999, 5000), (0, 5000), (7, None)):
                with Download(self.store, self.key, start, stop, 5000) as download:
                    self.assertEqual(b"".join(download), self.raw[start:stop])
            for size in (0, 1, 5000, 6000):
                self.assertEqual(self.store.get(self.key, size), self.raw[:size])
        self.assertEqual(set(operations.names), {"cached"})

    def test_wrong_size_is_noticed(self):
        self.store.get(self.key)
        with self.assertRaises(S3ContentError):
            Download(self.store, self.key, 0, 10, 4999)

    def test_corrupt_content_is_not_kept(self):
        server = urlsplit(self.objects.config.connection.host)
        with (
            FaultProxy((server.hostname, server.port)) as proxy,
            variables(AWS_HOST=proxy.url, AWS_MAX_ATTEMPTS="1"),
        ):
            for fault in (proxy.do_corrupt, partial(proxy.do_truncate, 100)):
                proxy.fail(fault)
                with self.assertRaises(S3Error):
                    self.read_raw()
        self.assertEqual(self.files(), [])

    def test_contents_of_2016_are_not_kept(self):
        digest = hashlib.sha1(self.raw).hexdigest()
        uri = f"s3://{self.bucket}/{digest}"
        self.objects.put(uri, self.raw)
        self.addCleanup(self.objects.delete, uri)
        for _ in range(2):
            with Operations() as operations:
                self.assertEqual(self.attachment._file_read(uri), self.raw)
            self.assertEqual(operations.names, ["get"])
        self.assertEqual(self.files(), [])

    def test_unusable_folder_fails_no_read(self):
        file = self.folder / "file"
        file.touch()
        with variables(AWS_ATTACHMENT_CACHE_DIR=str(file)):
            with self.assertLogs(LOGGER, "WARNING"):
                self.assertEqual(self.read_raw(), (self.raw, ["get"]))
            self.assertEqual(self.read_raw(), (self.raw, ["get"]))

    def test_access_is_checked_before(self):
        self.read_raw()
        user = new_test_user(self.env, "attachment_s3_user", "base.group_user")
        self.attachment.invalidate_recordset()
        with Operations() as operations, self.assertRaises(AccessError):
            self.attachment.with_user(user).raw  # noqa: B018
        self.assertEqual(operations.names, [])

    def test_bad_settings(self):
        for name, value in (
            ("AWS_ATTACHMENT_CACHE_DIR", "relative/folder"),
            ("AWS_ATTACHMENT_CACHE_MB", "0"),
            ("AWS_ATTACHMENT_CACHE_MB", "1 GB"),
        ):
            with (
                variables(**{name: value}),
                self.assertRaisesRegex(S3ConfigurationError, f"{name}='{value}'"),
            ):
                load()


@tagged("post_install", "-at_install")
class TestCachedServing(HttpCase, CacheCase):
    def test_second_download_needs_no_request(self):
        self.enterContext(variables(AWS_ATTACHMENT_CACHE_DIR=str(self.folder)))
        self.env["ir.config_parameter"].set_param(LOCATION, "s3://")
        raw = os.urandom(3_000_000)
        attachment = self.env["ir.attachment"].create(
            {"name": "x", "raw": raw, "mimetype": MIMETYPE, "public": True}
        )
        self.env.flush_all()
        path = f"/web/content/{attachment.id}"
        for name in ("get", "cached"):
            with Operations() as operations:
                self.assertEqual(self.url_open(path).content, raw)
                operations.wait_for(1)
            self.assertEqual(operations.names, [name])
        response = self.url_open(path, headers={"Range": "bytes=1000-2000999"})
        self.assertEqual(response.status_code, 206)
        self.assertEqual(response.content, raw[1000:2_001_000])
