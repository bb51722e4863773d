"""Local files as an archive: the same files are the same bytes, and so the same digest."""

import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, Protocol

from comfyserve.domain.errors import InvalidInput

if TYPE_CHECKING:
    from tarfile import TarFile

ALWAYS_IGNORED = ("__pycache__", "*.pyc", ".git", ".venv")
"""What never belongs into an archive of sources."""
SINGLE_FILE = "\N{BULLET}file"
"""The name of the only entry of an archive of one file; no entry of a directory is called so."""


@dataclass(frozen=True, slots=True)
class Archive:
    """A file or a directory, to be read when it is needed.

    `ignore` are shell patterns over names, and over paths from the directory.
    """

    path: Path
    ignore: tuple[str, ...] = ()

    @property
    def digest(self) -> str:
        """BLAKE3 of the archive, in hex: what the server's blob of it is called. Reads the files."""
        from blake3 import blake3

        sink = _Hashing(blake3())
        self.write_to(sink)
        return sink.hash.hexdigest()

    def write_to(self, sink: "BinaryIO | _Hashing") -> None:
        """Write the archive. Raises InvalidInput for what is not there any more, or cannot be read."""
        # Here, not at the top: a declaration is imported everywhere and rarely makes an archive.
        import tarfile

        try:
            with tarfile.open(fileobj=sink, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]  # only `write` is used
                for name, path in self._entries():
                    _add(archive, name, path)
        except OSError as error:
            raise InvalidInput(
                f"'{error.filename or self.path}' cannot be read: {error.strerror}",
                code="path_not_readable",
            ) from error

    def _entries(self) -> Iterator[tuple[str, Path]]:
        if not self.path.is_dir():
            yield SINGLE_FILE, self.path
            return
        for directory, folders, files in os.walk(self.path):
            here = Path(directory)
            folders[:] = sorted(name for name in folders if not self._ignores(here / name))
            for name in sorted([*folders, *files]):
                path = here / name
                if not self._ignores(path):
                    yield path.relative_to(self.path).as_posix(), path

    def _ignores(self, path: Path) -> bool:
        from fnmatch import fnmatch

        relative = path.relative_to(self.path).as_posix()
        return any(
            fnmatch(path.name, pattern) or fnmatch(relative, pattern.rstrip("/"))
            for pattern in (*ALWAYS_IGNORED, *self.ignore)
        )


class _Hasher(Protocol):
    def update(self, data: bytes) -> object: ...
    def hexdigest(self) -> str: ...


@dataclass(slots=True)
class _Hashing:
    """A file that only hashes what is written."""

    hash: _Hasher

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self.hash.update(data)
        return len(data)


def check_path(path: str | Path, what: str) -> Path:
    """The absolute path, if there is something. Raises InvalidInput."""
    absolute = Path(path).expanduser().absolute()
    if not absolute.exists():
        raise InvalidInput(f"{what}: there is no '{absolute}'", code="path_not_found")
    return absolute


def join(patterns: str | Sequence[str]) -> tuple[str, ...]:
    """One text is a list of one."""
    return (patterns,) if isinstance(patterns, str) else tuple(patterns)


def _add(archive: "TarFile", name: str, path: Path) -> None:
    """Add an entry with nothing in it that depends on who made it, or when."""
    import tarfile

    status = path.lstat()
    entry = tarfile.TarInfo(name)
    entry.mode = 0o755 if status.st_mode & stat.S_IXUSR else 0o644
    if stat.S_ISLNK(status.st_mode):
        entry.type, entry.linkname = tarfile.SYMTYPE, os.readlink(path)
        archive.addfile(entry)
    elif stat.S_ISDIR(status.st_mode):
        entry.type = tarfile.DIRTYPE
        archive.addfile(entry)
    elif stat.S_ISREG(status.st_mode):
        with path.open("rb") as file:
            entry.size = os.fstat(file.fileno()).st_size
            archive.addfile(entry, file)
