"""What lies in a replica's directory before its server starts: links, and copies of directories.

A copy is the replica's own: small files are copied, large ones (weights) are hard links, or links
where the file system has no others, because nobody edits those in place. So a server may write
beside what its image brought, and neither the image nor another replica sees it.
"""

import os

from comfyserve.runner.order import Order

_SMALL_BYTES = 1 << 20
_CHUNK_BYTES = 1 << 18


def lay_out(order: Order) -> None:
    """Make what the order asks for. Raises OSError."""
    for path, leads_to in order.links:
        os.makedirs(os.path.dirname(path), exist_ok=True)
        if not os.path.lexists(path):
            os.symlink(leads_to, path)
    for source, target in order.copies:
        os.makedirs(target, exist_ok=True)
        _copy_entries(source, target)


def _copy_entries(source: str, target: str) -> None:
    with os.scandir(source) as entries:
        for entry in entries:
            path = os.path.join(target, entry.name)
            if entry.is_symlink():
                if not os.path.lexists(path):
                    os.symlink(os.readlink(entry.path), path)
            elif entry.is_dir():
                if os.path.islink(path):
                    continue  # a volume lies there
                os.makedirs(path, exist_ok=True)
                _copy_entries(entry.path, path)
            elif entry.is_file() and not os.path.lexists(path):
                _copy_file(entry, path)


def _copy_file(entry: "os.DirEntry[str]", path: str) -> None:
    facts = entry.stat()
    if facts.st_size > _SMALL_BYTES:
        try:
            os.link(entry.path, path)
        except OSError:
            os.symlink(entry.path, path)
        return
    handle = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, facts.st_mode & 0o777 | 0o200)
    with open(entry.path, "rb", buffering=0) as reader, open(handle, "wb", buffering=0) as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            writer.write(chunk)
    os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns))
