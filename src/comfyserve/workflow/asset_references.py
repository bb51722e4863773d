"""Stored files that a prompt names: find them, and put the names that the engine knows in place.

Two spellings count: the reference object of Comfy API v2, anywhere in an input, and the path of an
upload as the plain value of an input that loads a file.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from comfyserve.workflow.catalog import NodeCatalog, upload_kind
from comfyserve.workflow.input_files import split_annotation

_TYPE_KEY: Final = "__type"
_ASSET_TYPE: Final = "core/ASSET"
_DEEPEST: Final = 8

Place = tuple[str, str]
"""A node's id and the name of one of its inputs."""


@dataclass(frozen=True, slots=True)
class AssetReferences:
    """What a prompt refers to: assets by id, uploads by path, and references that say no id."""

    ids: frozenset[str]
    file_paths: frozenset[str]
    malformed: tuple[Place, ...]

    def __bool__(self) -> bool:
        """Whether there is anything to put in place."""
        return bool(self.ids or self.file_paths or self.malformed)


def find_asset_references(prompt: Mapping[str, Any], catalog: NodeCatalog) -> AssetReferences:
    """Find all references. A path is only a candidate: whether it names an upload, others know."""
    ids: set[str] = set()
    file_paths: set[str] = set()
    malformed: list[Place] = []
    for node_id, node in _nodes(prompt):
        for name, value in node["inputs"].items():
            for info in _references(value, 0):
                if isinstance(info, str):
                    ids.add(info)
                else:
                    malformed.append((node_id, str(name)))
            path = _file_path(node, name, value, catalog)
            if path is not None:
                file_paths.add(path)
    return AssetReferences(frozenset(ids), frozenset(file_paths), tuple(malformed))


def replace_asset_references(
    prompt: Mapping[str, Any],
    catalog: NodeCatalog,
    by_id: Mapping[str, str],
    by_path: Mapping[str, str],
) -> dict[str, Any]:
    """A prompt with file names instead of references. What the mappings lack stays as it is."""
    replaced = dict(prompt)
    for node_id, node in _nodes(prompt):
        inputs = dict(node["inputs"])
        for name, value in inputs.items():
            path = _file_path(node, name, value, catalog)
            inputs[name] = by_path.get(path, value) if path else _named(value, by_id, 0)
        replaced[node_id] = {**node, "inputs": inputs}
    return replaced


def _nodes(prompt: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for node_id, node in prompt.items():
        if isinstance(node, Mapping) and isinstance(node.get("inputs"), Mapping):
            yield node_id, node


def _references(value: object, depth: int) -> Iterator[object]:
    """What stands as the id of each reference in a value; None where nothing does."""
    if depth > _DEEPEST:
        return
    if isinstance(value, Mapping):
        if value.get(_TYPE_KEY) == _ASSET_TYPE:
            yield _id_of(value)
        else:
            for item in value.values():
                yield from _references(item, depth + 1)
    elif isinstance(value, list):
        for item in value:
            yield from _references(item, depth + 1)


def _named(value: Any, by_id: Mapping[str, str], depth: int) -> Any:  # noqa: ANN401 - any JSON
    if depth > _DEEPEST:
        return value
    if isinstance(value, Mapping):
        if value.get(_TYPE_KEY) == _ASSET_TYPE:
            asset_id = _id_of(value)
            return value if asset_id is None else by_id.get(asset_id, value)
        return {key: _named(item, by_id, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_named(item, by_id, depth + 1) for item in value]
    return value


def _id_of(reference: Mapping[str, Any]) -> str | None:
    info = reference.get("info")
    asset_id = info.get("id") if isinstance(info, Mapping) else None
    return asset_id if isinstance(asset_id, str) and asset_id else None


def _file_path(
    node: Mapping[str, Any], name: object, value: object, catalog: NodeCatalog
) -> str | None:
    """The path that a file input names, without its annotation; None for any other input."""
    if not isinstance(value, str) or not isinstance(name, str):
        return None
    node_class = catalog.get(node.get("class_type"))
    spec = None if node_class is None else node_class.input(name)
    if spec is None or upload_kind(spec) is None:
        return None
    path, directory = split_annotation(value)
    return path.strip() or None if directory == "input" else None
