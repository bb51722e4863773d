"""What an engine says about itself, recorded once per revision so that reading never wakes it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import quote

import msgspec

from comfyserve.domain.errors import EngineError
from comfyserve.runtime.comfy import ComfyClient
from comfyserve.workflow.catalog import NodeCatalog

_RECORDED = (
    "/system_stats",
    "/features",
    "/embeddings",
    "/extensions",
    "/models",
    "/experiment/models",
    "/workflow_templates",
    "/i18n",
    "/node_replacements",
    "/global_subgraphs",
    "/internal/folder_paths",
)
_RECORD_TIMEOUT_S = 120.0
VOLUME_FILES = "/comfyserve/volume_files"
"""No path of an engine: which files lay on the deployment's volumes at the recording."""
_RECOGNISE_TIMEOUT_S = 10.0


@dataclass(frozen=True)
class Snapshot:
    """The engine's own answers by path, as it gave them; paths it does not have are absent."""

    object_info: bytes
    answers: Mapping[str, msgspec.Raw]
    _live: dict[frozenset[str], NodeCatalog] = field(default_factory=dict, init=False)

    @cached_property
    def classes(self) -> Mapping[str, Any]:
        """`/object_info`, decoded."""
        decoded: Mapping[str, Any] = _lenient(self.object_info)
        return decoded

    @cached_property
    def version(self) -> str:
        """The ComfyUI version that it says it is, or follows; empty if it does not say."""
        stats = self.answer("/system_stats")
        system = stats.get("system") if isinstance(stats, dict) else None
        return str(system.get("comfyui_version") or "") if isinstance(system, dict) else ""

    @cached_property
    def argv(self) -> Sequence[str]:
        """The command line that it says it was started with; empty if it does not say."""
        stats = self.answer("/system_stats")
        system = stats.get("system") if isinstance(stats, dict) else None
        argv = system.get("argv") if isinstance(system, dict) else None
        return tuple(str(part) for part in argv) if isinstance(argv, list) else ()

    @cached_property
    def catalog(self) -> NodeCatalog:
        """The node classes, parsed."""
        return NodeCatalog.from_object_info(self.classes, version=self.version or None)

    def catalog_with(self, input_files: frozenset[str]) -> NodeCatalog:
        """The catalog as it is while these input files are there; parsed once for each listing."""
        if input_files not in self._live:
            self._live.clear()
            self._live[input_files] = self.catalog.with_input_files(input_files)
        return self._live[input_files]

    @cached_property
    def folder_paths(self) -> Mapping[str, tuple[str, ...]]:
        """Model folders and their directories on the replica's host; empty where not told."""
        told = self.answer("/internal/folder_paths")
        if not isinstance(told, dict):
            return {}
        return {
            str(name): tuple(str(path) for path in _directories(entry))
            for name, entry in told.items()
        }

    @cached_property
    def model_lists(self) -> Mapping[str, frozenset[str]]:
        """The files of each model folder, as `/models/FOLDER` listed them."""
        lists = {
            path.removeprefix("/models/"): self.answer(path)
            for path in self.answers
            if path.startswith("/models/")
        }
        return {
            folder: frozenset(name for name in names if isinstance(name, str))
            for folder, names in lists.items()
            if isinstance(names, list)
        }

    @cached_property
    def volume_files(self) -> Mapping[str, frozenset[str]]:
        """The files that lay on volumes at the recording, by volume."""
        told = self.answer(VOLUME_FILES) or {}
        return {name: frozenset(files) for name, files in told.items()}

    def answer(self, path: str) -> Any:  # noqa: ANN401 - the JSON border
        """The recorded answer to `path`, decoded; None if the engine does not have that path."""
        raw = self.answers.get(path)
        return None if raw is None else _lenient(bytes(raw))

    def encode(self) -> bytes:
        """As one JSON document, for the blob store."""
        return msgspec.json.encode(
            {"object_info": msgspec.Raw(self.object_info), "answers": self.answers}
        )

    @classmethod
    def decode(cls, document: bytes) -> "Snapshot":
        """Read what `encode` wrote."""
        read = msgspec.json.decode(document, type=_Document)
        return cls(bytes(read.object_info), read.answers)


class _Document(msgspec.Struct):
    object_info: msgspec.Raw
    answers: dict[str, msgspec.Raw]


async def is_comfyui(client: ComfyClient) -> bool:
    """Whether a server answers as ComfyUI does."""
    try:
        stats = await client.get_json("/system_stats", timeout_s=_RECOGNISE_TIMEOUT_S)
        if not (isinstance(stats, dict) and isinstance(stats.get("system"), dict)):
            return False
        info = await client.get_json("/object_info", timeout_s=_RECORD_TIMEOUT_S)
    except EngineError:
        return False
    return isinstance(info, dict) and bool(info)


async def record(client: ComfyClient) -> Snapshot:
    """Ask a running engine for everything that is worth keeping. Raises EngineError."""
    status, object_info = await client.get("/object_info", timeout_s=_RECORD_TIMEOUT_S)
    if status != 200:
        raise EngineError(f"the engine answered {status} to GET /object_info")
    answers: dict[str, msgspec.Raw] = {}
    for path in _RECORDED:
        await _keep(client, path, answers)
    for prefix in ("/models", "/experiment/models"):
        folders = _lenient(bytes(answers[prefix])) if prefix in answers else ()
        for folder in folders if isinstance(folders, list) else ():
            name = folder.get("name") if isinstance(folder, dict) else folder
            await _keep(client, f"{prefix}/{quote(str(name), safe='')}", answers)
    snapshot = Snapshot(_strict(object_info), answers)
    if not snapshot.classes:
        raise EngineError("the engine offers no node class at all")
    return snapshot


async def _keep(client: ComfyClient, path: str, answers: dict[str, msgspec.Raw]) -> None:
    status, body = await client.get(path, timeout_s=_RECORD_TIMEOUT_S)
    if status == 200:
        answers[path] = msgspec.Raw(_strict(body))


def _strict(body: bytes) -> bytes:
    """Return `body` if it is strict JSON, else what it means without NaN and Infinity."""
    try:
        msgspec.json.decode(body)
    except msgspec.DecodeError:
        return msgspec.json.encode(_lenient(body))
    return body


def _lenient(body: bytes) -> Any:  # noqa: ANN401 - the JSON border
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        return json.loads(body)


def _directories(entry: object) -> list[object]:
    """`/internal/folder_paths` gives a list of directories, or a pair of it and of extensions."""
    if not isinstance(entry, list):
        return []
    return entry[0] if entry and isinstance(entry[0], list) else entry
