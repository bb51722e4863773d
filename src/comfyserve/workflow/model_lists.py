"""A recorded `/object_info` as it would be now, after files came to model folders or went.

ComfyUI answers with lists of names and does not say of which folder: an input lists one if it
offers all that the folder held, or is known to, or was as empty as the folder.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.requirements.folders import Folders, is_known_folder_input
from comfyserve.workflow.specs import InputSpec, declared_with

_ENDINGS = frozenset(
    (".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft"),
)
_OWN_ENDINGS = {"configs": frozenset((".yaml",))}
# Folders that list directories, or whatever lies there.
_NOT_LISTS = frozenset({"diffusers", "custom_nodes", "classifiers"})


@dataclass(frozen=True, slots=True)
class FolderChange:
    """What became of a model folder: the names that were recorded, those that went and came."""

    recorded: frozenset[str]
    gone: frozenset[str] = frozenset()
    come: frozenset[str] = frozenset()

    def now(self, names: Collection[str]) -> list[str]:
        """Names as they are now, in ComfyUI's order."""
        return sorted((frozenset(names) - self.gone) | self.come)


def folder_changes(
    recorded: Mapping[str, Collection[str]],
    before: Mapping[str, frozenset[str]],
    after: Mapping[str, frozenset[str]],
) -> dict[str, FolderChange]:
    """The folders that changed: `recorded` is what they listed, `before` and `after` the part of it
    whose files are known.
    """
    changes = {}
    for folder in sorted({*before, *after} - _NOT_LISTS):
        listed = frozenset(recorded.get(folder, ()))
        endings = _endings_of(folder, listed)
        old, new = (
            frozenset(name for name in files.get(folder, frozenset()) if _ending(name) in endings)
            for files in (before, after)
        )
        change = FolderChange(listed, old - new, new - listed)
        if change.gone & listed or change.come:
            changes[folder] = change
    return changes


def with_changes(
    info: Mapping[str, Any], catalog: NodeCatalog, changes: Mapping[str, FolderChange]
) -> dict[str, Any]:
    """The entries of `/object_info` whose inputs list a folder that changed, with what it lists now."""
    folders = Folders(catalog)
    patched: dict[str, Any] = {}
    for name, entry in info.items():
        node_class = catalog.get(name)
        if node_class is None:
            continue
        inputs = {
            (spec.section, spec.name): declared_with(spec, choices)
            for spec in node_class.inputs
            if (choices := _choices_now(folders, name, spec, changes)) is not None
        }
        if inputs:
            patched[name] = _with_inputs(entry, inputs)
    return patched


def _choices_now(
    folders: Folders, class_type: str, spec: InputSpec, changes: Mapping[str, FolderChange]
) -> list[Any] | None:
    if spec.choices is None:
        return None
    change = changes.get(folders.of(class_type, spec, spec.name))
    if change is None:
        return None
    offered = [name for name in spec.choices if name in change.recorded]
    if len(offered) < len(change.recorded):
        return None
    if not offered and spec.choices and not is_known_folder_input(class_type, spec.name):
        return None
    return list(_in_place(spec.choices, change.recorded, change.now(offered)))


def _in_place(
    choices: Collection[Any], recorded: frozenset[str], files: Collection[str]
) -> Iterator[Any]:
    """Choices with other files in the place of those that were there; at the end if none was."""
    is_placed = False
    for choice in choices:
        if choice not in recorded:
            yield choice
        elif not is_placed:
            is_placed = True
            yield from files
    if not is_placed:
        yield from files


def _with_inputs(entry: Mapping[str, Any], inputs: Mapping[tuple[str, str], Any]) -> dict[str, Any]:
    sections = dict(entry["input"])
    for (section, name), spec in inputs.items():
        sections[section] = {**sections[section], name: spec}
    return {**entry, "input": sections}


def _endings_of(folder: str, listed: Collection[str]) -> frozenset[str]:
    """What files the folder lists: ComfyUI's own kinds, and those that are there already."""
    return _OWN_ENDINGS.get(folder, _ENDINGS) | {
        ending for name in listed if (ending := _ending(name))
    }


def _ending(name: str) -> str:
    leaf = name.rpartition("/")[2]
    return f".{leaf.rpartition('.')[2]}".lower() if "." in leaf else ""
