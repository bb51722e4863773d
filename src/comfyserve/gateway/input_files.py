"""The files that lie in a deployment's input directory now, and `/object_info` that lists them."""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from comfyserve.runtime.listings import list_files
from comfyserve.runtime.snapshot import Snapshot
from comfyserve.workflow.input_files import offered_files, upload_kind
from comfyserve.workflow.specs import InputSpec, declared_with, input_spec


async def list_input_files(input_dir: Path) -> frozenset[str]:
    """Names relative to the directory (`cat.png`, `sub/cat.png`); the same object while unchanged."""
    return await list_files(input_dir)


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
            patched = declared_with(spec, list(offered_files(self.name, spec, files)))
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


@lru_cache(maxsize=64)
def _recorded(object_info: bytes) -> _Recorded:
    return _Recorded(object_info)
