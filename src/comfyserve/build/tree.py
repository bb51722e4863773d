"""The tree that a build works in, and what we know of each path of it."""

import os
import stat
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec
from blake3 import blake3


class Entry(msgspec.Struct, frozen=True, array_like=True):
    """One path of a tree. `content` is a digest, the target of a link, or empty for a directory."""

    kind: str
    mode: int
    content: str = ""
    size: int = 0
    mtime_ns: int = 0
    is_patched: bool = False


class Document(msgspec.Struct, frozen=True):
    """A layer as it is kept: the tree, and what its steps resolved."""

    entries: dict[str, Entry]
    lock: dict[str, str]


Manifest = Mapping[str, Entry]
Mark = tuple[int, int, int, int, int]
"""What tells that a file was not touched: inode, size, times, mode."""


@dataclass(frozen=True, slots=True)
class Tree:
    """A directory that a build works in. Its name occurs nowhere by chance."""

    path: Path

    @property
    def name(self) -> bytes:
        """The name as bytes, as files have it in them."""
        return self.path.name.encode()

    @property
    def placeholder(self) -> bytes:
        """What stands for the name in kept contents."""
        return b"bd_".ljust(len(self.name), b"@")


@dataclass(frozen=True, slots=True)
class State:
    """A tree as we know it: its manifest, the marks by which a change is seen, and the lock."""

    entries: Manifest
    marks: Mapping[str, Mark]
    lock: Mapping[str, str]

    def resolved(self, found: Mapping[str, str]) -> "State":
        """The same, with what a step resolved."""
        return State(self.entries, self.marks, {**self.lock, **found})

    def links_below(self, directory: Path) -> tuple[Path, ...]:
        """Where links of the tree lead, of those that lead into a directory outside of it."""
        targets = (Path(entry.content) for entry in self.entries.values() if entry.kind == "l")
        return tuple(sorted({t for t in targets if t.is_relative_to(directory)}))


EMPTY = State({}, {}, {})


def walk(root: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every path below a directory, with what it is; links are not followed."""
    pending = [""]
    while pending:
        directory = pending.pop()
        with os.scandir(root / directory) as found:
            for item in found:
                name = f"{directory}/{item.name}" if directory else item.name
                status = item.stat(follow_symlinks=False)
                yield name, status
                if stat.S_ISDIR(status.st_mode):
                    pending.append(name)


def mark_of(status: os.stat_result) -> Mark:
    """The mark of a path. What is in a directory is told by its entries."""
    if stat.S_ISDIR(status.st_mode):
        return (status.st_ino, 0, 0, 0, status.st_mode)
    return (
        status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_mode
    )  # fmt: skip


def overlapping(path: Path, size: int = 8 * 1024 * 1024, overlap: int = 4096) -> Iterator[bytes]:
    """The file in pieces, each beginning with the end of the one before."""
    with path.open("rb") as file:
        tail = b""
        while piece := file.read(size):
            yield tail + piece
            tail = piece[-overlap:]


def digest_of(path: Path) -> str:
    """BLAKE3 of a large file, in hex."""
    hasher = blake3(max_threads=blake3.AUTO)
    hasher.update_mmap(path)
    return hasher.hexdigest()
