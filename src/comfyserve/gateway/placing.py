"""Put an uploaded file into a directory by ComfyUI's rules, whole or not at all. All of it blocks."""

import os
import posixpath
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from comfyserve.gateway.beneath import make_directory, open_regular
from comfyserve.gateway.disk import explained

_COMPARE_BYTES = 1024 * 1024
_READABLE = 0o644


@dataclass(frozen=True, slots=True)
class Wish:
    """Where an upload is to go: a name and subfolder as they were sent, and what they mean."""

    filename: str
    subfolder: str
    kind: str
    parts: tuple[str, ...]
    overwrite: bool

    @property
    def folder(self) -> tuple[str, ...]:
        """The steps to its directory."""
        return self.parts[:-1]

    @property
    def leaf(self) -> str:
        """The name in its directory."""
        return self.parts[-1]

    def names(self) -> Iterator[tuple[str, str]]:
        """The names to try, as they are told and as they are in the directory: `a (1).png`..."""
        yield self.filename, self.leaf
        told, leaf = posixpath.splitext(self.filename), posixpath.splitext(self.leaf)
        for number in count(1):
            yield f"{told[0]} ({number}){told[1]}", f"{leaf[0]} ({number}){leaf[1]}"


def place_file(root: Path, wish: Wish, source: Path | None, arrived: Path) -> str:
    """Put `source` into the directory; return the name that it got.

    It appears under its name complete, never in between. Without `overwrite`, a name whose file
    equals `arrived` (what the client sent) is returned and nothing is put; any other taken name is
    passed over. Without a `source` the name is only found. Raises InvalidInput and StorageFull.
    """
    with explained(wish.filename):
        directory = make_directory(root, wish.folder)
        try:
            if source is None:
                return _free_name(wish, arrived, directory)
            with _beside(source, directory) as (path, source_directory):
                if wish.overwrite:
                    os.replace(path, wish.leaf, src_dir_fd=source_directory, dst_dir_fd=directory)
                    told = wish.filename
                else:
                    told = _link(wish, arrived, directory, (path, source_directory))
            os.fsync(directory)
            return told
        finally:
            os.close(directory)


def _link(wish: Wish, arrived: Path, directory: int, source: tuple[str, int | None]) -> str:
    """Link under the first free name: a link, unlike a rename, never replaces anything."""
    path, source_directory = source
    for told, leaf in wish.names():
        try:
            os.link(path, leaf, src_dir_fd=source_directory, dst_dir_fd=directory)
        except FileExistsError:
            if _has_bytes(leaf, directory, arrived):
                return told
        else:
            return told
    raise AssertionError("there is always another number")


def _free_name(wish: Wish, arrived: Path, directory: int) -> str:
    return next(
        told
        for told, leaf in wish.names()
        if wish.overwrite or not _exists(leaf, directory) or _has_bytes(leaf, directory, arrived)
    )


def _exists(leaf: str, directory: int) -> bool:
    try:
        os.stat(leaf, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return True


def _has_bytes(leaf: str, directory: int, arrived: Path) -> bool:
    """Whether the file of that name has the bytes of `arrived`."""
    handle = open_regular(leaf, directory)
    if handle is None:
        return False
    with os.fdopen(handle, "rb") as there, arrived.open("rb") as here:
        if os.fstat(handle).st_size != os.fstat(here.fileno()).st_size:
            return False
        while chunk := here.read(_COMPARE_BYTES):
            if there.read(_COMPARE_BYTES) != chunk:
                return False
    return True


@contextmanager
def _beside(source: Path, directory: int) -> Iterator[tuple[str, int | None]]:
    """The source where it can be linked from: itself, or a hidden copy if disks differ."""
    source.chmod(_READABLE)
    if source.stat().st_dev == os.fstat(directory).st_dev:
        yield str(source), None
        return
    name = f".comfyserve-{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    handle = os.open(name, flags, _READABLE, dir_fd=directory)
    try:
        with os.fdopen(handle, "wb") as copy, source.open("rb") as original:
            shutil.copyfileobj(original, copy)
            copy.flush()
            os.fsync(copy.fileno())
        yield name, directory
    finally:
        _remove(name, directory)


def _remove(name: str, directory: int) -> None:
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
