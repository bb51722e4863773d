"""The files beneath a directory, read again only when a directory changed."""

import asyncio
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path

from comfyserve.clock import SystemClock

# Directory times may be this coarse: what was read so soon after a change may miss the next one.
_SETTLED_S = 2.0
_MAX_FILES = 100_000


async def list_files(root: Path) -> frozenset[str]:
    """Names relative to the directory (`a.png`, `sub/a.png`); the same object while unchanged.

    Links to files are listed, links to directories are not followed.
    """
    return await asyncio.to_thread(_listing_of(root).read)


@dataclass(frozen=True, slots=True)
class _Seen:
    """What was there, and the times by which to tell that it is still so."""

    files: frozenset[str]
    times_ns: Mapping[str, int]
    is_settled: bool

    def is_current(self) -> bool:
        return self.is_settled and all(
            _changed_ns(path) == changed for path, changed in self.times_ns.items()
        )


class _Listing:
    """The files beneath one directory, read again only when a directory changed. Blocks."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._seen: _Seen | None = None

    def read(self) -> frozenset[str]:
        """All files, links to files included, up to a bound."""
        seen = self._seen
        if seen is None or not seen.is_current():
            now_ns = int(SystemClock().now() * 1e9)
            times_ns: dict[str, int] = {}
            files = frozenset(islice(_walk(str(self._root), times_ns), _MAX_FILES))
            is_settled = now_ns - max(times_ns.values()) > _SETTLED_S * 1e9
            fresh = _Seen(files, times_ns, is_settled)
            # The same object tells callers that what they made of it still holds.
            seen = replace(fresh, files=seen.files) if seen and seen.files == files else fresh
            self._seen = seen
        return seen.files


def _walk(root: str, times_ns: dict[str, int]) -> Iterator[str]:
    ahead = [(root, "")]
    while ahead:
        directory, prefix = ahead.pop()
        times_ns[directory] = _changed_ns(directory)
        for entry in _entries(directory):
            if entry.is_dir(follow_symlinks=False):
                ahead.append((entry.path, f"{prefix}{entry.name}/"))
            elif entry.is_file():
                yield prefix + entry.name


def _entries(directory: str) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(directory) as entries:
            return [entry for entry in entries if _is_text(entry.name)]
    except OSError:
        return []


def _changed_ns(directory: str) -> int:
    try:
        return os.stat(directory).st_mtime_ns
    except OSError:
        return 0


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


@lru_cache(maxsize=1024)
def _listing_of(root: Path) -> _Listing:
    return _Listing(root)
