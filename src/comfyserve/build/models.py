"""Model files: fetched once for each content, whatever the name or the deployment."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from comfyserve.build.executor import BuildFailed
from comfyserve.build.files import write_document
from comfyserve.domain.errors import StorageFull
from comfyserve.domain.image_sources import ModelFile

_READ_BYTES = 4 * 1024 * 1024
_WRITE_BYTES = 1024 * 1024
RESERVE_BYTES = 256 * 1024 * 1024
"""What is left free on the disk, for the database and the outputs of jobs."""

Report = Callable[[int, int | None], None]
"""Told how many bytes there are by now, and how many there will be."""


class DownloadBroken(BuildFailed):
    """A download ended too early; the next try goes on there."""

    code = "download_broken"


@dataclass(frozen=True, slots=True)
class Remote:
    """The answer to a download: the offset at which it begins, the whole size, and the bytes."""

    start: int
    size: int | None
    validator: str | None
    chunks: AsyncIterator[bytes]


class Fetcher(Protocol):
    """Opens downloads; above this layer, because there is no HTTP here."""

    def open(
        self, url: str, *, offset: int = 0, validator: str | None = None, bearer: str | None = None
    ) -> AbstractAsyncContextManager[Remote]:
        """The bytes from `offset`, if what is there still is what `validator` says; else from 0.

        Raises a ComfyserveError for what cannot be opened, DownloadBroken once bytes have come.
        """
        ...


@dataclass(frozen=True, slots=True)
class Model:
    """A stored model file."""

    sha256: str
    path: Path
    size_bytes: int
    used_at: float


class ModelStore:
    """Model files below one directory by their SHA-256. Reads and writes block; for threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.contents = root / "contents"
        self.partial = root / "partial"
        self._sources = root / "sources"

    def prepare(self) -> None:
        """Make the directories."""
        for directory in (self.contents, self.partial, self._sources):
            directory.mkdir(parents=True, exist_ok=True)

    def find(self, file: ModelFile) -> Model | None:
        """The content of a model file, if it was fetched before."""
        sha256 = file.sha256 or self._known(file.source)
        return None if sha256 is None else self.stored(sha256)

    def stored(self, sha256: str) -> Model | None:
        """The content with this hash; it counts as used now."""
        path = self.contents / sha256
        if not path.is_file():
            return None
        os.utime(path)
        return self._model(path)

    def all(self) -> tuple[Model, ...]:
        """All contents, the least recently used first."""
        if not self.contents.is_dir():
            return ()
        found = [self._model(path) for path in self.contents.iterdir()]
        return tuple(sorted(found, key=lambda model: model.used_at))

    def adopt(self, source: Path, file: ModelFile) -> Model:
        """Take a fetched file in, if it is what it should be. Raises BuildFailed."""
        sha256 = sha256_of(source)
        if file.sha256 is not None and sha256 != file.sha256:
            source.unlink()
            raise BuildFailed(
                f"'{file.source}' is not what it should be: its SHA-256 is {sha256}, the image says "
                f"{file.sha256}. Nothing of it was kept",
                code="model_hash_mismatch",
            )
        path = self.contents / sha256
        with source.open("rb") as done:
            os.fsync(done.fileno())
        source.chmod(0o444)
        source.replace(path)
        os.utime(path)
        write_document(self._source(file.source), sha256.encode())
        return self._model(path)

    def forget_source(self, file: ModelFile) -> None:
        """Do not take what was fetched from this source before."""
        self._source(file.source).unlink(missing_ok=True)

    def check_space(self, needed_bytes: int, what: str) -> None:
        """Raise StorageFull if so many bytes would not fit."""
        free = shutil.disk_usage(self.root).free
        if needed_bytes + RESERVE_BYTES > free:
            raise StorageFull(
                f"{what} needs {needed_bytes / 1e9:.2f} GB more, and the disk of {self.root} has "
                f"{max(0, free - RESERVE_BYTES) / 1e9:.2f} GB for it. Free some space "
                "(`comfyserve build prune`), or set a cap with models_cap_bytes"
            )

    def evict(self, cap_bytes: int, pinned: Collection[str]) -> tuple[Model, ...]:
        """Remove the least recently used until all fit into the cap; pinned ones stay."""
        models = self.all()
        excess = sum(model.size_bytes for model in models) - cap_bytes
        gone = []
        for model in models:
            if excess <= 0:
                break
            if model.sha256 not in pinned:
                model.path.unlink()
                excess -= model.size_bytes
                gone.append(model)
        return tuple(gone)

    def _known(self, source: str) -> str | None:
        try:
            return self._source(source).read_text("ascii")
        except FileNotFoundError:
            return None

    def _source(self, source: str) -> Path:
        return self._sources / hashlib.sha256(source.encode()).hexdigest()

    def _model(self, path: Path) -> Model:
        status = path.stat()
        return Model(path.name, path, status.st_size, status.st_mtime)


async def download(
    file: ModelFile, store: ModelStore, fetcher: Fetcher, bearer: str | None, report: Report
) -> Path:
    """Fetch an HTTPS source, going on where an earlier try ended; return where it lies.

    Raises BuildFailed, StorageFull, and what the fetcher raises for an address that it cannot open.
    """
    part = store.partial / hashlib.sha256(file.source.encode()).hexdigest()
    note = part.with_suffix(".validator")
    reached = -1
    while True:
        offset, validator = await asyncio.to_thread(_progress_of, part, note)
        try:
            async with fetcher.open(
                file.source, offset=offset, validator=validator, bearer=bearer
            ) as remote:
                if remote.size is not None:
                    missing, what = remote.size - remote.start, f"'{file.file_name}'"
                    await asyncio.to_thread(store.check_space, missing, what)
                await asyncio.to_thread(_begin, part, note, remote)
                await _receive(part, remote, report)
        except DownloadBroken:
            here, _ = await asyncio.to_thread(_progress_of, part, note)
            if here <= reached or here == 0:
                raise
            reached = here
            continue
        await asyncio.to_thread(note.unlink, missing_ok=True)
        return part


async def _receive(part: Path, remote: Remote, report: Report) -> None:
    done, buffered = remote.start, bytearray()
    try:
        async for chunk in remote.chunks:
            buffered += chunk
            done += len(chunk)
            if len(buffered) >= _WRITE_BYTES:
                await asyncio.to_thread(_append, part, bytes(buffered))
                buffered.clear()
                report(done, remote.size)
    finally:
        await asyncio.to_thread(_append, part, bytes(buffered))
    report(done, remote.size)
    if remote.size is not None and done != remote.size:
        raise DownloadBroken(f"the download ended after {done} of {remote.size} bytes")


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, in hex."""
    hasher = hashlib.sha256()
    with path.open("rb") as file:
        while chunk := file.read(_READ_BYTES):
            hasher.update(chunk)
    return hasher.hexdigest()


def _progress_of(part: Path, note: Path) -> tuple[int, str | None]:
    """How far an earlier try came; without a validator what it got cannot be trusted.

    The last byte is asked for again: behind the end of a whole file there is nothing to answer.
    """
    if not part.exists() or not note.exists():
        return 0, None
    return max(0, part.stat().st_size - 1), note.read_text("utf-8")


def _begin(part: Path, note: Path, remote: Remote) -> None:
    with part.open("ab") as file:
        file.truncate(remote.start)
    if remote.validator:
        note.write_text(remote.validator, "utf-8")
    else:
        note.unlink(missing_ok=True)


def _append(part: Path, data: bytes) -> None:
    with part.open("ab") as file:
        file.write(data)


def link_into(folder: Path, models: Mapping[str, Model]) -> None:
    """Let models appear in a folder under their names."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, model in models.items():
        path = folder / name
        path.unlink(missing_ok=True)
        path.symlink_to(model.path)
