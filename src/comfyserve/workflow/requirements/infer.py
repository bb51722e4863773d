"""`requirements`: which models, node packs and files a workflow needs."""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.graph import SavedNode
from comfyserve.workflow.input_files import exists, upload_kind
from comfyserve.workflow.interface.model import Kind
from comfyserve.workflow.prepare import Prepared, prepare
from comfyserve.workflow.prompt_nodes import Nodes, Place
from comfyserve.workflow.reader import parse_ui
from comfyserve.workflow.requirements.fixes import fixes
from comfyserve.workflow.requirements.folders import Folders, is_model_name
from comfyserve.workflow.requirements.model import InputFile, ModelFile, NodePack, Requirements
from comfyserve.workflow.requirements.stated import (
    CORE,
    KnownModel,
    active_nodes,
    named_models,
    newest_core,
    stated_models,
    stated_packs,
)

_EMBEDDING = re.compile(r"embedding:([\w][\w./\\-]{0,200})")
_LONGEST_TEXT = 100_000
_OWN = (CORE, "")


def requirements(
    workflow: object,
    catalog: NodeCatalog | None = None,
    *,
    index: Iterable[KnownModel] = (),
) -> Requirements:
    """Return what a workflow needs: a parsed JSON body of any format, or what `prepare` made of it.

    Against a `catalog` it also says what of it is there. `index`: models that somebody knows the source
    of, such as those of the official templates. Never raises on user data.
    """
    known = catalog if catalog is not None else NodeCatalog.from_object_info({})
    prepared = workflow if isinstance(workflow, Prepared) else prepare(workflow, known)
    nodes = Nodes(prepared.prompt, known)
    saved: list[SavedNode] = []
    stated: list[KnownModel] = []
    if prepared.source is not None:
        saved = list(active_nodes(parse_ui(prepared.source)))
        stated = list(stated_models(saved, prepared.source))
    finder = _Models(nodes, Folders(catalog))
    finder.read(saved)
    found = Requirements(
        models=tuple(finder.described([*stated, *index])),
        packs=tuple(_packs(nodes, saved, catalog)),
        files=tuple(_files(nodes)) if catalog is not None else (),
        comfyui_version=newest_core(saved),
    )
    return replace(found, fixes=tuple(fixes(found)))


@dataclass(slots=True)
class _Named:
    """A model as the workflow names it."""

    name: str
    directory: str
    places: list[Place]
    is_present: bool | None


class _Models:
    """Gathers the model files of a workflow by folder and name."""

    def __init__(self, nodes: Nodes, folders: Folders) -> None:
        self._nodes = nodes
        self._folders = folders
        self._found: dict[tuple[str, str], _Named] = {}

    def read(self, saved: Iterable[SavedNode]) -> None:
        """Look through the values of the prompt, then through what only the UI workflow holds."""
        for node_id in self._nodes.prompt:
            for name, value in self._nodes.inputs(node_id).items():
                self._value(Place(node_id, name), value)
        names = {named.name for named in self._found.values()}
        for class_type, name in named_models(saved):
            if name not in names and class_type not in self._nodes.catalog:
                self._add(name, self._folders.of(class_type, None, ""), None)

    def _value(self, place: Place, value: object) -> None:
        if isinstance(value, Mapping):
            # Custom nodes keep a row of a list as an object: {"on": true, "lora": "x.safetensors"}.
            for key, inner in value.items():
                if is_model_name(inner):
                    self._add(str(inner), self._folders.of("", None, str(key)), place)
        elif isinstance(value, str) and len(value) <= _LONGEST_TEXT:
            if is_model_name(value):
                self._chosen(place, value)
            for match in _EMBEDDING.finditer(value):
                self._add(match[1].rstrip("."), "embeddings", place)

    def _chosen(self, place: Place, value: str) -> None:
        spec = self._nodes.spec(place)
        node_class = self._nodes.class_of(place.node_id)
        class_type = node_class.name if node_class is not None else self._class_type(place.node_id)
        folder = self._folders.of(class_type, spec, place.input)
        is_present: bool | None = None
        if spec is not None and spec.choices is not None:
            is_present = value in spec.choice_set
        elif folder and self._folders.files(folder):
            is_present = value in self._folders.files(folder)
        self._add(value, folder, place, is_present=is_present)

    def _class_type(self, node_id: str) -> str:
        node = self._nodes.prompt.get(node_id)
        return str(node.get("class_type", "")) if isinstance(node, Mapping) else ""

    def _add(
        self, name: str, folder: str, place: Place | None, *, is_present: bool | None = None
    ) -> None:
        named = self._found.setdefault((folder, name), _Named(name, folder, [], is_present))
        if place is not None:
            named.places.append(place)
        if is_present is not None:
            named.is_present = is_present or bool(named.is_present)

    def described(self, known: Iterable[KnownModel]) -> Iterator[ModelFile]:
        """Go through the models, with what the workflow or an index says about them."""
        by_name: dict[str, KnownModel] = {}
        for each in known:
            by_name.setdefault(_base(each.name), each)
        for named in self._found.values():
            told = by_name.pop(_base(named.name), None) or KnownModel(named.name)
            yield ModelFile(
                name=named.name,
                directory=named.directory or told.directory,
                places=tuple(named.places),
                url=told.url,
                sha256=told.sha256,
                size_bytes=told.size_bytes,
                is_present=named.is_present,
            )


def _base(name: str) -> str:
    return name.replace("\\", "/").rpartition("/")[2]


def _packs(nodes: Nodes, saved: list[SavedNode], catalog: NodeCatalog | None) -> Iterator[NodePack]:
    """Group the classes that are not ComfyUI's own by the pack that brings them."""
    stated = stated_packs(saved)
    used = dict.fromkeys(node.type for node in saved)
    for node_id in nodes.prompt:
        node = nodes.prompt[node_id]
        class_type = node.get("class_type") if isinstance(node, Mapping) else None
        if isinstance(class_type, str):
            used.setdefault(class_type)
    packs: dict[tuple[str, str], list[str]] = {}
    for class_type in used:
        is_lacking = catalog is not None and class_type not in catalog
        if is_lacking or stated.get(class_type, _OWN)[0] != CORE:
            packs.setdefault(stated.get(class_type, ("", "")), []).append(class_type)
    for (pack, version), classes in packs.items():
        is_present = None if catalog is None else all(each in catalog for each in classes)
        yield NodePack(pack, tuple(classes), version, is_present)


def _files(nodes: Nodes) -> Iterator[InputFile]:
    for node_id in nodes.prompt:
        for place, spec in nodes.values(node_id):
            kind, value = upload_kind(spec), nodes.value(place)
            if kind is None or not isinstance(value, str) or not value:
                continue
            files = nodes.catalog.input_files
            is_present = value in spec.choice_set if files is None else exists(value, files)
            yield InputFile(value, Kind(kind), place, is_present or value == "none")
