"""Files beneath a directory: names that never lead out of it, opened without following links.

A replica may write into a deployment's directories, so neither a name in a request nor a link
that some custom node left there may make the gateway read or write elsewhere.
"""

import errno
import os
import posixpath
import secrets
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


def replace_file(root: Path, parts: tuple[str, ...], body: bytes) -> None:
    """Put bytes under a name, whole or not at all. Raises OSError. Blocks."""
    directory = make_directory(root, parts[:-1])
    hidden = f".{secrets.token_hex(8)}"
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
    try:
        handle = os.open(hidden, flags, 0o644, dir_fd=directory)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(body)
            os.replace(hidden, _leaf(parts), src_dir_fd=directory, dst_dir_fd=directory)
        except BaseException:
            os.unlink(hidden, dir_fd=directory)
            raise
    finally:
        os.close(directory)


def move_file(root: Path, source: tuple[str, ...], dest: tuple[str, ...]) -> bool:
    """Give a file another name; False if there is none. Raises OSError. Blocks."""
    leaf = _leaf(dest)
    outer = open_directory(root, source[:-1])
    if outer is None:
        return False
    try:
        inner = make_directory(root, dest[:-1])
        try:
            os.replace(_leaf(source), leaf, src_dir_fd=outer, dst_dir_fd=inner)
        finally:
            os.close(inner)
    except FileNotFoundError:
        return False
    finally:
        os.close(outer)
    return True


def remove_file(root: Path, parts: tuple[str, ...]) -> bool:
    """Delete a file; False if there is none. Raises OSError. Blocks."""
    leaf = _leaf(parts)
    directory = open_directory(root, parts[:-1])
    if directory is None:
        return False
    try:
        os.unlink(leaf, dir_fd=directory)
    except FileNotFoundError:
        return False
    finally:
        os.close(directory)
    return True


def _leaf(parts: tuple[str, ...]) -> str:
    if not parts:
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    return parts[-1]


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
