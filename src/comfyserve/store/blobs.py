"""Bytes by digest, in a directory: written aside, made durable, then renamed into place."""

import asyncio
import errno
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, Self

from blake3 import blake3

from comfyserve.domain.errors import InvalidInput, NotFound, StorageFull

_CHUNK_BYTES = 1024 * 1024
_FULL = frozenset({errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EFBIG})
_HEX = frozenset("0123456789abcdef")


@dataclass(frozen=True, slots=True)
class Blob:
    """Stored bytes: their BLAKE3 digest in hex, where they lie, and how many there are."""

    digest: str
    path: Path
    size_bytes: int


class BlobStore:
    """Blobs under `root`, which one process owns. Equal bytes are stored once."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._incoming = root / "incoming"
        # Storing bytes that exist already, and deleting them, must not overlap.
        self._placing = threading.Lock()

    async def open_directory(self) -> None:
        """Make the directories, and remove what a crash left half written."""
        await asyncio.to_thread(self._sweep)

    async def put_bytes(self, data: bytes) -> Blob:
        """Store bytes. Raises StorageFull, with nothing left behind."""
        return await asyncio.to_thread(self._put_bytes, data)

    async def put_file(self, path: Path) -> Blob:
        """Store a copy of a file."""
        return await asyncio.to_thread(self._put_file, path)

    def writer(self) -> "BlobWriter":
        """A writer for bytes that come in pieces; use it in an `async with`."""
        return BlobWriter(self)

    async def open(self, digest: str) -> Blob:
        """Where the bytes lie and how many there are. Raises NotFound."""
        return await asyncio.to_thread(self._stat, digest)

    async def read_bytes(self, digest: str) -> bytes:
        """All bytes of a blob. Raises NotFound."""
        return await asyncio.to_thread(self._read, digest)

    async def exists(self, digest: str) -> bool:
        """Whether the bytes are here."""
        return await asyncio.to_thread(self.path_of(digest).is_file)

    async def delete(self, digest: str, *, put_before: float | None = None) -> bool:
        """Delete a blob; True if it is gone. One that was put again at `put_before` or later stays."""
        return await asyncio.to_thread(self._delete, digest, put_before)

    def path_of(self, digest: str) -> Path:
        """Where the blob with this digest lies, or would."""
        if len(digest) != 64 or not _HEX.issuperset(digest):
            raise InvalidInput(f"'{digest[:80]}' is not a digest")
        return self._root / digest[:2] / digest[2:]

    def begin(self) -> "Incoming":
        """Bytes that are about to come; nothing is on disk yet."""
        return Incoming(self._incoming)

    def place(self, incoming: "Incoming") -> Blob:
        """Make what has come durable, under its digest. Blocks; for threads."""
        with incoming, _explained():
            source = incoming.settle()
            blob = Blob(incoming.digest, self.path_of(incoming.digest), incoming.size_bytes)
            with self._placing:
                if blob.path.is_file() and blob.path.stat().st_size == blob.size_bytes:
                    # `delete(put_before=...)` sees that these bytes are wanted again.
                    os.utime(blob.path)
                else:
                    blob.path.parent.mkdir(exist_ok=True)
                    source.replace(blob.path)
                    _sync_directory(blob.path.parent)
            return blob

    def _put_bytes(self, data: bytes) -> Blob:
        with self.begin() as incoming:
            incoming.write(data)
            return self.place(incoming)

    def _put_file(self, path: Path) -> Blob:
        with path.open("rb") as source, self.begin() as incoming:
            while chunk := source.read(_CHUNK_BYTES):
                incoming.write(chunk)
            return self.place(incoming)

    def _stat(self, digest: str) -> Blob:
        path = self.path_of(digest)
        try:
            return Blob(digest, path, path.stat().st_size)
        except FileNotFoundError:
            raise _missing(digest) from None

    def _read(self, digest: str) -> bytes:
        try:
            return self.path_of(digest).read_bytes()
        except FileNotFoundError:
            raise _missing(digest) from None

    def _delete(self, digest: str, put_before: float | None) -> bool:
        path = self.path_of(digest)
        with self._placing:
            try:
                if put_before is not None and path.stat().st_mtime >= put_before:
                    return False
                path.unlink()
            except FileNotFoundError:
                return True
        return True

    def _sweep(self) -> None:
        with _explained():
            self._incoming.mkdir(parents=True, exist_ok=True)
            for path in self._incoming.iterdir():
                path.unlink()


class Incoming:
    """A temporary file that becomes a blob. Blocks; for threads.

    A caller that is canceled leaves its thread at work, and discards in another one: each step
    holds the lock, and after a `discard` none does anything.
    """

    def __init__(self, directory: Path) -> None:
        self.size_bytes = 0
        self._directory = directory
        self._hash = blake3()
        self._lock = threading.Lock()
        self._file: BinaryIO | None = None
        self._path: Path | None = None
        self._is_discarded = False

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()

    @property
    def digest(self) -> str:
        """BLAKE3 of what was written so far."""
        return self._hash.hexdigest()

    def write(self, chunk: bytes) -> None:
        """Append bytes. Raises StorageFull."""
        with self._lock, _explained():
            file, _ = self._opened()
            rest = memoryview(chunk)
            while rest:
                rest = rest[file.write(rest) :]
            self._hash.update(chunk)
            self.size_bytes += len(chunk)

    def settle(self) -> Path:
        """Make the bytes durable; return where they lie for now."""
        with self._lock:
            file, path = self._opened()
            os.fsync(file.fileno())
            return path

    def discard(self) -> None:
        """Remove what is still there. Twice is fine."""
        with self._lock:
            self._is_discarded = True
            if self._file is not None:
                self._file.close()
            if self._path is not None:
                self._path.unlink(missing_ok=True)

    def _opened(self) -> tuple[BinaryIO, Path]:
        if self._is_discarded:
            raise RuntimeError("the bytes were discarded")
        if self._file is None or self._path is None:
            handle, name = tempfile.mkstemp(dir=self._directory)
            self._file, self._path = os.fdopen(handle, "wb", buffering=0), Path(name)
        return self._file, self._path


class BlobWriter:
    """Bytes that come in pieces. Without a `commit` nothing is left behind."""

    def __init__(self, store: BlobStore) -> None:
        self._store = store
        self._incoming = store.begin()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await asyncio.to_thread(self._incoming.discard)

    async def write(self, chunk: bytes) -> None:
        """Append bytes. Raises StorageFull."""
        await asyncio.to_thread(self._incoming.write, chunk)

    async def commit(self) -> Blob:
        """Make what was written durable, and be done. Raises StorageFull."""
        return await asyncio.to_thread(self._store.place, self._incoming)


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except OSError as error:
        if error.errno not in _FULL:
            raise
        raise StorageFull(
            f"The disk of the blobs cannot take more ({error.strerror}); nothing was stored. "
            "Free some space and try again."
        ) from error


def _sync_directory(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _missing(digest: str) -> NotFound:
    return NotFound(f"The bytes of blob '{digest}' are gone.", code="blob_missing")
