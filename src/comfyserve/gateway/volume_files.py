"""The files of one volume: listed, moved and removed without following a link that lies in it.

A replica writes there too, so nothing found may be trusted: each step goes through an open
directory, and a link is an entry, never a way. All functions block and are for threads.
"""

import errno
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from comfyserve.domain.errors import Conflict, InvalidInput, NotFound, StorageFull
from comfyserve.gateway.beneath import make_directory, move_file, open_directory, relative_parts

UPLOADS = ".comfyserve-uploads"
"""Where unfinished uploads of a volume lie, so that finishing one is a rename."""

_MAX_NAME_BYTES, _MAX_PATH_BYTES = 255, 4000


Kind = Literal["file", "directory", "link", "other"]
_KINDS: tuple[tuple[Callable[[int], bool], Kind], ...] = (
    (stat.S_ISREG, "file"),
    (stat.S_ISDIR, "directory"),
    (stat.S_ISLNK, "link"),
)


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies under a name: a file, a directory, a link (not followed), or something other."""

    name: str
    kind: Kind
    size_bytes: int
    modified: float


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries by name; `next_after` is where the next page begins, if there is one.

    `kind` is that of the path itself: of what is no directory, the only entry is it.
    """

    entries: Sequence[Entry]
    next_after: str | None = None
    kind: Kind = "directory"


def parts_of(path: str) -> tuple[str, ...]:
    """A path in a volume, from its root; the root itself is the empty tuple. Raises InvalidInput."""
    # A slash at the front is how people write the root; a second one would be absolute.
    parts = relative_parts(path.lstrip("/"))
    if parts is None:
        raise InvalidInput(f"the path '{path[:200]}' leads out of the volume", code="invalid_path")
    if parts[:1] == (UPLOADS,):
        raise InvalidInput(f"'{UPLOADS}' belongs to the server", code="invalid_path")
    is_odd = any(len(part.encode()) > _MAX_NAME_BYTES or not part.isprintable() for part in parts)
    if is_odd or len(path.encode()) > _MAX_PATH_BYTES:
        raise InvalidInput(
            f"the path '{path[:200]!a}' has a name that is too long, or with characters that "
            "cannot be printed",
            code="invalid_path",
        )
    return parts


def file_parts_of(path: str) -> tuple[str, ...]:
    """The path of a file: not the root. Raises InvalidInput."""
    parts = parts_of(path)
    if not parts or path.endswith("/"):
        raise InvalidInput(f"'{path[:200]}' is not the path of a file", code="invalid_path")
    return parts


def list_page(root: Path, parts: tuple[str, ...], after: str, limit: int) -> Page:
    """Entries of a directory by name, those after `after`; a file lists itself. Raises NotFound."""
    handle = open_directory(root, parts)
    if handle is None:
        found = find_entry(root, parts)
        if found is None:
            raise not_found(parts)
        return Page((found,), kind=found.kind)
    try:
        names = sorted(name for name in os.listdir(handle) if name > after and _is_shown(name))
        entries = [_entry(handle, name) for name in names[:limit]]
    finally:
        os.close(handle)
    shown = [entry for entry in entries if entry is not None and (parts or entry.name != UPLOADS)]
    return Page(shown, names[limit - 1] if len(names) > limit else None)


def find_entry(root: Path, parts: tuple[str, ...]) -> Entry | None:
    """What lies at a path; None for nothing, and for the root."""
    handle = open_directory(root, parts[:-1]) if parts else None
    if handle is None:
        return None
    try:
        return _entry(handle, parts[-1])
    finally:
        os.close(handle)


def move(root: Path, source: tuple[str, ...], dest: tuple[str, ...], *, overwrite: bool) -> None:
    """Give a file or directory another path. Raises NotFound, Conflict and InvalidInput."""
    if find_entry(root, source) is None:
        raise not_found(source)
    if dest[: len(source)] == source:
        raise InvalidInput("a directory cannot be moved into itself", code="invalid_path")
    there = find_entry(root, dest)
    if there is not None and not (overwrite and there.kind == "file"):
        raise Conflict(
            f"'{shown(dest)}' is there already; replace it with overwrite (--force)",
            code="file_exists",
        )
    with refused(dest):
        if not move_file(root, source, dest):
            raise not_found(source)


def remove(root: Path, parts: tuple[str, ...], *, recursive: bool) -> None:
    """Delete a file, a link, an empty directory, or with `recursive` all that is beneath one."""
    if not parts:
        raise InvalidInput("the volume itself goes with DELETE /volumes/NAME", code="invalid_path")
    handle = open_directory(root, parts[:-1])
    entry = None if handle is None else _entry(handle, parts[-1])
    try:
        if handle is None or entry is None:
            raise not_found(parts)
        with refused(parts):
            if entry.kind != "directory":
                os.unlink(parts[-1], dir_fd=handle)
            elif recursive:
                # Through the open directory, and by its own promise never through a link.
                shutil.rmtree(parts[-1], dir_fd=handle)
            else:
                os.rmdir(parts[-1], dir_fd=handle)
    finally:
        if handle is not None:
            os.close(handle)


def make(root: Path, parts: tuple[str, ...]) -> None:
    """Make a directory with those above it. Raises Conflict where something else lies."""
    with refused(parts):
        os.close(make_directory(root, parts))


@contextmanager
def refused(parts: tuple[str, ...]) -> Iterator[None]:
    """Turn what the file system refuses into errors that say which path it was."""
    try:
        yield
    except OSError as error:
        raise _explained(error, parts) from error


def _explained(error: OSError, parts: tuple[str, ...]) -> Exception:
    path = shown(parts)
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT | errno.EFBIG:
            return StorageFull(f"the disk of the volume is full; '{path}' was not changed")
        case errno.ENOTEMPTY | errno.EEXIST:
            return Conflict(
                f"the directory '{path}' is not empty; remove what is in it too (recursive)",
                code="directory_not_empty",
            )
        case errno.ENOTDIR | errno.ELOOP | errno.EISDIR:
            return Conflict(
                f"'{path}' is a directory, or leads through something that is none",
                code="not_a_directory",
            )
        case errno.ENOENT:
            return not_found(parts)
        case errno.EACCES | errno.EPERM | errno.EROFS:
            return Conflict(
                f"'{path}' cannot be changed by the user that the server runs as",
                code="not_permitted",
            )
        case _:
            return error


def shown(parts: tuple[str, ...]) -> str:
    """A path as people write it."""
    return "/" + "/".join(parts)


def not_found(parts: tuple[str, ...]) -> NotFound:
    """There is nothing at that path."""
    return NotFound(f"there is nothing at '{shown(parts)}' of the volume", code="file_not_found")


def _entry(directory: int, name: str) -> Entry | None:
    try:
        facts = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except OSError:
        return None  # it went meanwhile
    kind: Kind = next((kind for holds, kind in _KINDS if holds(facts.st_mode)), "other")
    size = facts.st_size if kind == "file" else 0
    return Entry(name, kind, size, facts.st_mtime)


def _is_shown(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True
