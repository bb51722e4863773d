"""What a UI workflow itself says about models and node packs, in the properties of its nodes."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from comfyserve.workflow.graph import Mode, SavedNode, UiWorkflow
from comfyserve.workflow.requirements.folders import is_model_name
from comfyserve.workflow.rules import parse_version

CORE = "comfy-core"
"""The id that the editor notes for ComfyUI's own classes."""
_ID = re.compile(r"[A-Za-z0-9_.-]{1,100}(?:/[A-Za-z0-9_.-]{1,100})?")
_VERSION = re.compile(r"[A-Za-z0-9_.+-]{1,100}")
_FOLDER = re.compile(r"[A-Za-z0-9_-]{1,60}(?:/[A-Za-z0-9_-]{1,60}){0,3}")
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_LONGEST_URL = 2_000
# Nodes that exist in the editor alone.
_EDITOR_ONLY = frozenset({"Note", "MarkdownNote", "Reroute", "PrimitiveNode"})


@dataclass(frozen=True, slots=True)
class KnownModel:
    """What somebody knows about a model file: a workflow, or an index of templates."""

    name: str
    directory: str = ""
    url: str = ""
    sha256: str = ""
    size_bytes: int | None = None


def active_nodes(workflow: UiWorkflow) -> Iterator[SavedNode]:
    """Go through the nodes that may run, those inside subgraphs with them."""
    definitions = {each.id for each in workflow.definitions}
    for graph in (workflow.graph, *(each.graph for each in workflow.definitions)):
        for node in graph.nodes:
            is_real = node.type not in _EDITOR_ONLY and node.type not in definitions
            if is_real and node.mode not in (Mode.MUTED, Mode.BYPASSED):
                yield node


def stated_models(nodes: Iterable[SavedNode], raw: Mapping[str, Any]) -> Iterator[KnownModel]:
    """Go through the models that nodes, or the workflow as a whole, describe."""
    for node in nodes:
        values = {each for each in _values(node) if isinstance(each, str)}
        names = {_base(each) for each in values}
        for entry in _list(node.properties.get("models")):
            known = known_model(entry)
            # A model that is no longer chosen stays in the properties.
            if known is not None and (_base(known.name) in names or not values):
                yield known
    for entry in _list(raw.get("models")):
        known = known_model(entry)
        if known is not None:
            yield known


def named_models(nodes: Iterable[SavedNode]) -> Iterator[tuple[str, str]]:
    """Go through the model files among the widget values: class and name."""
    for node in nodes:
        for value in _values(node):
            if is_model_name(value):
                yield node.type, value


def known_model(entry: object) -> KnownModel | None:
    """Read `{"name", "directory", "url", "hash", "hash_type", "size"}`; what is odd is left out."""
    if not isinstance(entry, Mapping):
        return None
    name, directory, url = entry.get("name"), entry.get("directory"), entry.get("url")
    if not isinstance(name, str) or not 0 < len(name) < 500:
        return None
    digest, size = entry.get("hash"), entry.get("size")
    is_sha = str(entry.get("hash_type", "")).lower().replace("-", "") == "sha256"
    return KnownModel(
        name=name,
        directory=directory if isinstance(directory, str) and _FOLDER.fullmatch(directory) else "",
        url=url if isinstance(url, str) and _is_url(url) else "",
        sha256=digest.lower()
        if is_sha and isinstance(digest, str) and _SHA256.fullmatch(digest)
        else "",
        size_bytes=size
        if isinstance(size, int) and not isinstance(size, bool) and size > 0
        else None,
    )


def stated_packs(nodes: Iterable[SavedNode]) -> dict[str, tuple[str, str]]:
    """Return by class the id and version of its pack, where the editor noted them."""
    found: dict[str, tuple[str, str]] = {}
    for node in nodes:
        properties = node.properties
        pack = properties.get("cnr_id") or properties.get("aux_id")
        version = properties.get("ver")
        if not isinstance(pack, str) or not _ID.fullmatch(pack):
            continue
        is_version = isinstance(version, str) and _VERSION.fullmatch(version)
        found.setdefault(node.type, (pack, str(version) if is_version else ""))
    return found


def newest_core(nodes: Iterable[SavedNode]) -> str:
    """Return the newest ComfyUI that a node was saved with."""
    newest: tuple[tuple[int, ...], str] = ((), "")
    for node in nodes:
        text = node.properties.get("ver")
        if node.properties.get("cnr_id") == CORE and isinstance(text, str):
            version = parse_version(text) if _VERSION.fullmatch(text) else None
            newest = max(newest, (version, text)) if version is not None else newest
    return newest[1]


def _values(node: SavedNode) -> Iterable[Any]:
    values = node.values
    return values.values() if isinstance(values, Mapping) else values or ()


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _is_url(url: str) -> bool:
    is_web = url.startswith(("https://", "http://", "hf://"))
    return is_web and len(url) <= _LONGEST_URL and url.isprintable() and " " not in url


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []
