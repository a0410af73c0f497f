"""Contents kept on the local disk, so that they are not downloaded again.

The folder may be shared by all processes of a host, and deleted at any time. A file is
named after the SHA-256 of its content, which is checked whenever it is read: nothing
that is stale or damaged is ever returned. What cannot be read or written there is
downloaded, as without a cache.

Who may read a content was decided before anybody asks for it here: the name comes from
an attachment that was read with the access rules of its own database. So databases
share what is equal, and none learns of a content by looking for it.

There is no index: the time of its last change says when a file was used last, and one
small file counts the bytes, under a lock, so that the folder is listed only when it is
full.
"""

import fcntl
import hashlib
import logging
import os
import re
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

_logger = logging.getLogger(__name__)

#: own folder in the one that is configured, in which files are deleted
FOLDER = "attachment_s3"
#: larger contents are not kept: they are checked in memory before they are used
CONTENT_BYTES = 16 * 1024 * 1024
#: nor those that take more than this part of the cache
CONTENT_PART = 1 / 8
#: how full the cache is after files were deleted
FILLED_PART = 0.9
#: what one file takes at least, and a multiple of it
BLOCK_BYTES = 4096

_NAME = re.compile(r"[0-9a-f]{64}(\..*)?")  # with the ending of a file being written
_warned = set()


@dataclass(frozen=True)
class ContentCache:
    """Contents by the hexadecimal SHA-256 that is their name.

    No method raises an error of the disk: it is logged, once per process and kind.

    :param folder: where they are kept; it need not exist
    :param capacity: most bytes; what processes are writing at the same time may come
        on top
    """

    folder: Path
    capacity: int

    def accepts(self, size: int | None) -> bool:
        """Tell whether a content of so many bytes is kept; ``None``: not known."""
        limit = min(CONTENT_BYTES, self.capacity * CONTENT_PART)
        return size is not None and _disk_bytes(size) <= limit

    def get(self, digest: str) -> bytes | None:
        """Return a content, or ``None`` when it is not here."""
        path = self._path(digest)
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            return None
        except OSError as error:
            self._warn(error)
            return None
        if hashlib.sha256(content).hexdigest() != digest:
            _logger.warning("%s is damaged, and downloaded anew", path)
            with suppress(OSError):  # it stays damaged, and is not used
                path.unlink()
            return None
        with suppress(OSError):  # deleted by now, or on a disk that is read-only
            os.utime(path)
        return content

    def put(self, digest: str, content: bytes):
        """Keep a content, and make room for it."""
        if not self.accepts(len(content)):
            return
        path = self._path(digest)
        try:
            self._root.mkdir(mode=0o700, parents=True, exist_ok=True)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._reserve(_disk_bytes(len(content)))
            self._write(path, content)
        except (FileNotFoundError, FileExistsError) as error:
            # the folder was deleted meanwhile (mkdir saw it, and then no more)
            _logger.debug("%s is not kept: %s", digest, error)
        except OSError as error:
            self._warn(error)

    @property
    def _root(self):
        return self.folder / FOLDER

    def _path(self, digest):
        return self._root / digest[:2] / digest

    def _write(self, path, content):
        """Write a file that appears when it is complete."""
        handle, name = tempfile.mkstemp(prefix=f"{path.name}.", dir=path.parent)
        try:
            with open(handle, "wb") as file:
                file.write(content)
            os.replace(name, path)
        except BaseException:
            with suppress(OSError):
                os.unlink(name)
            raise

    def _reserve(self, size):
        """Count some bytes, after deleting files when they are too many."""
        with open(self._root / "bytes", "a+", errors="replace") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            file.seek(0)
            text = file.read(20)
            total = int(text) + size if text.isdecimal() else None
            if total is None or total > self.capacity:
                total = self._make_room(size) + size
            file.truncate(0)
            file.write(str(total))

    def _make_room(self, size):
        """Delete what was not used for the longest time.

        :return: the bytes that are left
        """
        files = sorted(self._files())
        total = sum(taken for _used, taken, _path in files)
        if total + size <= self.capacity:
            return total
        for _used, taken, path in files:
            with suppress(FileNotFoundError):
                os.unlink(path)
            total -= taken
            if total + size <= self.capacity * FILLED_PART:
                break
        return total

    def _files(self) -> Iterator[tuple[float, int, str]]:
        """Yield time, bytes and path of all files, those being written included."""
        for folder in self._root.iterdir():
            if len(folder.name) != 2:
                continue
            with suppress(FileNotFoundError), os.scandir(folder) as entries:
                for entry in entries:
                    if not _NAME.fullmatch(entry.name):
                        continue
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        yield (
                            status.st_mtime,
                            _disk_bytes(status.st_size),
                            entry.path,
                        )

    def _warn(self, error):
        kind = (self.folder, error.errno)
        if kind not in _warned:
            _warned.add(kind)
            _logger.warning("AWS_ATTACHMENT_CACHE_DIR=%s: %s", self.folder, error)


def _disk_bytes(size):
    return -(-size // BLOCK_BYTES) * BLOCK_BYTES
