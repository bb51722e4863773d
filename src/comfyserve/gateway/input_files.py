"""The files that lie in a deployment's input directory now, and `/object_info` that lists them."""

import asyncio
import os
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

import msgspec

from comfyserve.clock import SystemClock
from comfyserve.runtime.snapshot import Snapshot
from comfyserve.workflow.input_files import offered_files, upload_kind
from comfyserve.workflow.specs import InputSpec, input_spec

# Directory times may be this coarse: what was read so soon after a change may miss the next one.
_SETTLED_S = 2.0
_MAX_FILES = 100_000


async def list_input_files(input_dir: Path) -> frozenset[str]:
    """Names relative to the directory (`cat.png`, `sub/cat.png`); the same object while unchanged."""
    return await asyncio.to_thread(_listing_of(input_dir).read)


def loads_files(snapshot: Snapshot, prompt: object) -> bool:
    """Whether a prompt in API format may name input files; True for anything that is not one."""
    if not isinstance(prompt, dict):
        return True
    loaders = _recorded(snapshot.object_info).loaders
    return any(
        not isinstance(node, dict) or node.get("class_type") in loaders for node in prompt.values()
    )


def patch_object_info(snapshot: Snapshot, files: frozenset[str]) -> bytes:
    """`/object_info` as it was recorded, with the file inputs offering `files`. JSON."""
    return _recorded(snapshot.object_info).whole(files)


def patch_object_info_of(snapshot: Snapshot, name: str, files: frozenset[str]) -> dict[str, Any]:
    """The same of one node class; empty for one that is not there."""
    return _recorded(snapshot.object_info).one(name, files)


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


class _Recorded:
    """A recorded `/object_info`: the classes that load files parsed, all others as bytes."""

    def __init__(self, object_info: bytes) -> None:
        self._raw = msgspec.json.decode(object_info, type=dict[str, msgspec.Raw])
        self._live = {
            name: entry
            for name, raw in self._raw.items()
            if (entry := _loader(name, raw)) is not None
        }
        self._whole: tuple[frozenset[str], bytes] | None = None

    @property
    def loaders(self) -> Collection[str]:
        """The classes that load files."""
        return self._live.keys()

    def whole(self, files: frozenset[str]) -> bytes:
        """All classes, as JSON."""
        if self._whole is None or self._whole[0] is not files:
            patched = {name: entry.offering(files) for name, entry in self._live.items()}
            self._whole = files, msgspec.json.encode(self._raw | patched)
        return self._whole[1]

    def one(self, name: str, files: frozenset[str]) -> dict[str, Any]:
        """One class under its name."""
        if name in self._live:
            return {name: self._live[name].offering(files)}
        return {name: self._raw[name]} if name in self._raw else {}


@dataclass(frozen=True, slots=True)
class _Loader:
    """A class that loads files: its entry, and the inputs that name them, by section."""

    name: str
    entry: Mapping[str, Any]
    inputs: tuple[InputSpec, ...]

    def offering(self, files: frozenset[str]) -> Mapping[str, Any]:
        """The entry with these files."""
        sections = dict(self.entry["input"])
        for spec in self.inputs:
            patched = _with_choices(spec, list(offered_files(self.name, spec, files)))
            sections[spec.section] = {**sections[spec.section], spec.name: patched}
        return {**self.entry, "input": sections}


def _loader(name: str, raw: msgspec.Raw) -> _Loader | None:
    # Every mark of such an input ends so; most classes are told by that without being decoded.
    if b"_upload" not in bytes(raw):
        return None
    entry = msgspec.json.decode(raw)
    sections = entry.get("input") if isinstance(entry, dict) else None
    if not isinstance(sections, dict):
        return None
    specs = [
        input_spec(input_name, section, declared)
        for section, inputs in sections.items()
        if isinstance(inputs, dict)
        for input_name, declared in inputs.items()
    ]
    found = tuple(spec for spec in specs if upload_kind(spec) and _lists(spec))
    return _Loader(name, entry, found) if found else None


def _lists(spec: InputSpec) -> bool:
    return spec.is_listed or isinstance(spec.options.get("options"), list)


def _with_choices(spec: InputSpec, choices: list[str]) -> list[Any]:
    if spec.is_listed:
        return [choices, *spec.raw[1:]]
    return [spec.raw[0], {**spec.options, "options": choices}, *spec.raw[2:]]


@lru_cache(maxsize=64)
def _recorded(object_info: bytes) -> _Recorded:
    return _Recorded(object_info)
