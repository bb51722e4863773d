"""Uploads to a volume: streamed to a partial file, resumed where they broke, whole or not there.

The client names an upload by a key of its own making (what it sends, and where to). Whoever comes
again with the same key is told how much is there. Functions block and are for threads.
"""

import fcntl
import os
import re
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from comfyserve.domain.errors import Conflict, InvalidInput, StorageFull
from comfyserve.gateway.beneath import make_directory
from comfyserve.gateway.volume_files import UPLOADS, find_entry, refused, shown

KEPT_S = 7 * 24 * 3600.0
"""An unfinished upload that nobody went on with for so long is given up."""
_KEY = re.compile(r"[0-9a-f]{16,64}")
_RESERVE_BYTES = 256 * 1024 * 1024
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


@dataclass(frozen=True, slots=True)
class Upload:
    """A file on its way: where to, how large, and the client's key."""

    root: Path
    parts: tuple[str, ...]
    size_bytes: int
    key: str
    overwrite: bool = True

    def check(self, now: float) -> int:
        """How many bytes are there already. Raises what would keep it from ending well."""
        self._check()
        with refused(self.parts):
            directory = make_directory(self.root, (UPLOADS,))
        try:
            _drop_old(directory, now - KEPT_S)
            held = _size(directory, self.key)
        finally:
            os.close(directory)
        facts = os.statvfs(self.root)
        room = facts.f_bavail * facts.f_frsize - _RESERVE_BYTES
        if self.size_bytes - held > room:
            raise StorageFull(
                f"'{shown(self.parts)}' needs {self.size_bytes - held} bytes more, and the disk of "
                f"the volume has room for {max(0, room)}: make room and try again"
            )
        return held

    def open(self, offset: int) -> "Partial":
        """The partial file, to append to from `offset` on. Raises Conflict if it is not that long."""
        self._check()
        with refused(self.parts):
            directory = make_directory(self.root, (UPLOADS,))
            try:
                handle = os.open(self.key, _FLAGS, 0o644, dir_fd=directory)
            except BaseException:
                os.close(directory)
                raise
        file = Partial(self, directory, handle)
        try:
            file.hold(offset)
        except BaseException:
            file.close()
            raise
        return file

    def place(self, directory: int) -> None:
        """Give the finished file its name. Raises Conflict."""
        self._check_target()
        with refused(self.parts):
            outer = make_directory(self.root, self.parts[:-1])
            try:
                os.replace(self.key, self.parts[-1], src_dir_fd=directory, dst_dir_fd=outer)
            finally:
                os.close(outer)

    def _check(self) -> None:
        if not _KEY.fullmatch(self.key):
            raise InvalidInput("an upload's key has 16 to 64 of 0-9 and a-f", code="invalid_key")
        if self.size_bytes < 0:
            raise InvalidInput("size_bytes must not be negative", code="invalid_size")
        self._check_target()

    def _check_target(self) -> None:
        there = find_entry(self.root, self.parts)
        if there is None:
            return
        if there.kind != "file":
            raise Conflict(
                f"'{shown(self.parts)}' is a {there.kind}: name the file in it, or another path",
                code="not_a_file",
            )
        if not self.overwrite:
            raise Conflict(
                f"'{shown(self.parts)}' is there already; replace it with overwrite (--force)",
                code="file_exists",
            )


class Partial:
    """An unfinished upload that is open and held by one request."""

    def __init__(self, upload: Upload, directory: int, handle: int) -> None:
        self._upload, self._directory, self._handle = upload, directory, handle
        self.size = 0

    def hold(self, offset: int) -> None:
        """Keep others away. Raises Conflict if another request has it, or if it ends elsewhere."""
        try:
            fcntl.flock(self._handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Conflict(
                "another request is sending this very file", code="upload_in_progress"
            ) from None
        facts = os.fstat(self._handle)
        if not stat.S_ISREG(facts.st_mode):
            raise Conflict("the upload's place is taken by something else", code="not_a_file")
        if facts.st_size != offset:
            raise Conflict(
                f"{facts.st_size} bytes are there, not {offset}: go on from where they end",
                code="upload_offset",
            )
        self.size = offset

    def close(self) -> None:
        """Let go; what is there stays, to be gone on with."""
        os.close(self._handle)
        os.close(self._directory)

    def write(self, data: bytes) -> None:
        """Append. Raises InvalidInput past the size that was said, StorageFull."""
        if self.size + len(data) > self._upload.size_bytes:
            raise InvalidInput(
                f"more than the {self._upload.size_bytes} bytes that were said came",
                code="upload_too_long",
            )
        with refused(self._upload.parts):
            view = memoryview(data)
            while view:
                written = os.pwrite(self._handle, view, self.size)
                self.size += written
                view = view[written:]

    def finish(self) -> bool:
        """Put it under its name if it is whole; return whether it was."""
        if self.size < self._upload.size_bytes:
            return False
        with refused(self._upload.parts):
            os.fsync(self._handle)
        self._upload.place(self._directory)
        return True


def _size(directory: int, key: str) -> int:
    try:
        facts = os.stat(key, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return 0
    if not stat.S_ISREG(facts.st_mode):
        os.unlink(key, dir_fd=directory)
        return 0
    return facts.st_size


def _drop_old(directory: int, before: float) -> None:
    for name in os.listdir(directory):
        with suppress(OSError):  # another request was faster
            if os.stat(name, dir_fd=directory, follow_symlinks=False).st_mtime < before:
                os.unlink(name, dir_fd=directory)
