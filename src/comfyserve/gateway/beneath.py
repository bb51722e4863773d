"""Files beneath a directory: names that never lead out of it, opened without following links.

A replica may write into a deployment's directories, so neither a name in a request nor a link
that some custom node left there may make the gateway read or write elsewhere.
"""

import os
import posixpath
import stat
from pathlib import Path

# Stands in for the directory: a piece that is absolute or climbs too high ends beside it.
_ROOT = "/\x01"


def relative_parts(*pieces: str) -> tuple[str, ...] | None:
    """Join and normalise `pieces` as paths beneath a directory; None if they lead out of it.

    The directory itself is the empty tuple. What no file can be called gives None too.
    """
    path = posixpath.normpath(posixpath.join(_ROOT, *pieces))
    if path == _ROOT:
        return ()
    if not path.startswith(f"{_ROOT}/") or "\0" in path or not _is_encodable(path):
        return None
    return tuple(path.removeprefix(f"{_ROOT}/").split("/"))


def open_file(root: Path, parts: tuple[str, ...]) -> int | None:
    """Open a regular file for reading; None if there is none. Blocks; the caller closes it."""
    directory = open_directory(root, parts[:-1]) if parts else None
    if directory is None:
        return None
    try:
        return open_regular(parts[-1], directory)
    finally:
        os.close(directory)


def open_regular(name: str, directory: int) -> int | None:
    """Open the regular file `name` of an open directory; None if there is none. Blocks."""
    # Without O_NONBLOCK a named pipe would hold the thread for ever.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    try:
        handle = os.open(name, flags, dir_fd=directory)
    except OSError:
        return None
    if stat.S_ISREG(os.fstat(handle).st_mode):
        return handle
    os.close(handle)
    return None


def open_directory(root: Path, parts: tuple[str, ...]) -> int | None:
    """Open the directory `parts` beneath `root`; None if there is none. Blocks; to be closed."""
    try:
        return _walk(root, parts, create=False)
    except OSError:
        return None


def make_directory(root: Path, parts: tuple[str, ...]) -> int:
    """Open the directory `parts` beneath `root`, making what is missing. Raises OSError."""
    root.mkdir(parents=True, exist_ok=True)
    return _walk(root, parts, create=True)


def _walk(root: Path, parts: tuple[str, ...], *, create: bool) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
    # The root itself may be a link: it is the operator's, what lies in it is anybody's.
    handle = os.open(root, flags)
    for part in parts:
        outer = handle
        try:
            if create:
                _make(part, outer)
            handle = os.open(part, flags | os.O_NOFOLLOW, dir_fd=outer)
        finally:
            os.close(outer)
    return handle


def _make(name: str, outer: int) -> None:
    try:
        os.mkdir(name, dir_fd=outer)
    except FileExistsError:
        return


def _is_encodable(path: str) -> bool:
    try:
        path.encode()
    except UnicodeEncodeError:
        return False
    return True
