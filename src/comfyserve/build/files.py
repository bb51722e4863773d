"""Private copies of files, as cheap as the file system allows, and durable small documents.

A step runs programs that nobody has read: whatever it can write to must be its own. So a file is
never hard-linked into a tree in which steps still run (root ignores write protection, and programs
such as `patchelf` or a plain `>>` change a file in place); it is cloned where the file system can
share blocks (Btrfs, XFS), which costs nothing, and copied where it cannot. Once a build has ended, the
large files of its tree become hard links to the write-protected contents that were kept anyway.
"""

import errno
import fcntl
import os
import shutil
from pathlib import Path

_FICLONE = 0x40049409
_CLONED_FROM_BYTES = 64 * 1024
"""Below, a copy is as cheap."""
_NO_CLONES = frozenset({errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS})


def clone(source: Path, target: Path, *, mode: int, mtime_ns: int, size: int) -> None:
    """Make `target` a private copy of `source`. Raises OSError, also if that has another size."""
    there = os.open(source, os.O_RDONLY)
    try:
        if os.fstat(there).st_size != size:
            raise OSError(errno.EIO, "the file is not whole", str(source))
        here = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            if size < _CLONED_FROM_BYTES or not _share_blocks(there, here):
                _copy(there, here, size)
            os.fchmod(here, mode)
            os.utime(here, ns=(mtime_ns, mtime_ns))
        finally:
            os.close(here)
    finally:
        os.close(there)


def _share_blocks(there: int, here: int) -> bool:
    try:
        fcntl.ioctl(here, _FICLONE, there)
    except OSError as error:
        if error.errno not in _NO_CLONES:
            raise
        return False
    return True


def _copy(there: int, here: int, size: int) -> None:
    while size > 0:
        sent = os.sendfile(here, there, None, size)
        if sent == 0:
            raise OSError(errno.EIO, "the file ended early")
        size -= sent


def share(content: Path, path: Path) -> None:
    """Make `path` a hard link to `content`, which has the same bytes; nothing if it cannot be."""
    beside = path.with_name(f".{path.name[:200]}.shared")
    try:
        os.link(content, beside)
    except OSError:
        return
    beside.replace(path)


def write_document(path: Path, data: bytes) -> None:
    """Put a small file in place at once, and make it durable."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.new")
    with beside.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def remove_tree(path: Path) -> None:
    """Remove a directory tree, also one in which a program took away its own permissions."""
    if not path.is_dir():
        return
    for directory, folders, _ in os.walk(path):
        for name in folders:
            if not (folder := Path(directory, name)).is_symlink():
                folder.chmod(0o700)
    shutil.rmtree(path)


def size_of(path: Path) -> int:
    """Bytes that a tree takes on disk, hard links counted once."""
    seen: set[int] = set()
    total = 0
    for directory, _, files in os.walk(path):
        for name in files:
            try:
                status = os.lstat(os.path.join(directory, name))
            except FileNotFoundError:
                continue
            if status.st_ino not in seen:
                seen.add(status.st_ino)
                total += status.st_blocks * 512
    return total
