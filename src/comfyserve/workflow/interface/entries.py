"""From places in a prompt to inputs of an interface, and from output nodes to outputs."""

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.dynamic import COMBO, option_keys
from comfyserve.workflow.input_files import upload_kind
from comfyserve.workflow.interface.apply import Refused, converted
from comfyserve.workflow.interface.model import InterfaceInput, InterfaceOutput, Kind, Role
from comfyserve.workflow.interface.names import slug, unique
from comfyserve.workflow.prompt_nodes import Nodes, Place
from comfyserve.workflow.specs import InputSpec, NodeClass

_KINDS = {
    "INT": Kind.INTEGER,
    "FLOAT": Kind.NUMBER,
    "STRING": Kind.TEXT,
    "BOOLEAN": Kind.BOOLEAN,
    "COMBO": Kind.CHOICE,
    COMBO: Kind.CHOICE,
}
_OUTPUT_KINDS = (
    *(("VIDEO", Kind.VIDEO), ("AUDIO", Kind.AUDIO), ("IMAGE", Kind.IMAGE), ("MASK", Kind.IMAGE)),
    *(("MESH", Kind.MODEL), ("FILE_3D", Kind.MODEL), ("STRING", Kind.TEXT)),
)
# Names that say nothing without the title of their node.
_BLAND = frozenset(
    {
        *("value", "text", "string", "image", "file", "audio", "video", "choice", "input"),
        *("mask", "model_file", "string_a", "string_b", "int", "float", "boolean", "number"),
    }
)


@dataclass(frozen=True, slots=True)
class Entry:
    """An input before it has its name."""

    places: tuple[Place, ...]
    role: Role | None = None
    name: str = ""
    """What somebody called it; else it is named by its role, input or node."""
    label: str = ""
    description: str = ""


def make_inputs(
    nodes: Nodes, entries: Sequence[Entry], roles: Mapping[Place, Role | None]
) -> tuple[InterfaceInput, ...]:
    """Name and describe the inputs. `roles`: what was guessed for places that have no role yet."""
    placed = []
    for entry in entries:
        role = entry.role or next((roles[p] for p in entry.places if roles.get(p)), None)
        placed.append((entry, role))
    names = unique(_wanted(nodes, entry, role) for entry, role in placed)
    return tuple(
        _input(nodes, entry, role, name) for (entry, role), name in zip(placed, names, strict=True)
    )


def _wanted(nodes: Nodes, entry: Entry, role: Role | None) -> tuple[str, str]:
    """Return the name that an entry would like, and the title of its node."""
    place = entry.places[0]
    title = slug(nodes.own_title(place.node_id))
    if entry.name and not (role is not None and slug(entry.name) in _BLAND):
        return slug(entry.name), title
    if role is not None:
        return role.value, title
    name = slug(place.input.rpartition(".")[2])
    is_bland = name in _BLAND or nodes.held(place.node_id) == place
    return (title or name if is_bland else name), title


def _input(nodes: Nodes, entry: Entry, role: Role | None, name: str) -> InterfaceInput:
    place = entry.places[0]
    spec = nodes.spec(place)
    value = nodes.value(place)
    kind = _kind(spec, value)
    choices = _choices(spec) if spec is not None and kind is Kind.CHOICE else ()
    if kind is Kind.CHOICE and not choices:
        kind = Kind.TEXT
    is_missing = kind.is_file and not _is_there(spec, value, nodes.catalog)
    is_number = spec is not None and kind in (Kind.INTEGER, Kind.NUMBER)
    options = spec.options if spec is not None else {}
    tooltip = options.get("tooltip")
    made = InterfaceInput(
        name=name,
        kind=kind,
        places=entry.places,
        label=entry.label or entry.name or nodes.own_title(place.node_id) or _label(place, role),
        description=entry.description or (tooltip if isinstance(tooltip, str) else ""),
        role=role,
        default=None if is_missing else value,
        is_required=is_missing,
        minimum=_number(options.get("min")) if is_number else None,
        maximum=_number(options.get("max")) if is_number else None,
        step=_number(options.get("step")) if is_number else None,
        choices=choices,
        is_multiline=kind is Kind.TEXT and bool(options.get("multiline")),
    )
    return made if is_missing or _fits(made) else replace(made, default=None)


def _fits(made: InterfaceInput) -> bool:
    """Whether the workflow itself holds a value that could be given."""
    try:
        converted(made, made.default)
    except Refused:
        return False
    return True


def _label(place: Place, role: Role | None) -> str:
    text = role.value if role is not None else place.input
    return text.replace("_", " ").capitalize()


def _kind(spec: InputSpec | None, value: object) -> Kind:
    if spec is None:
        return _kind_of(value)
    loaded = upload_kind(spec)
    return Kind(loaded) if loaded is not None else _KINDS.get(spec.type, Kind.JSON)


def _kind_of(value: object) -> Kind:
    """Tell the kind by the value: its class, or this input of it, is not in the catalog."""
    if isinstance(value, bool):
        return Kind.BOOLEAN
    if isinstance(value, int | float):
        return Kind.INTEGER if isinstance(value, int) else Kind.NUMBER
    return Kind.TEXT if isinstance(value, str) else Kind.JSON


def _choices(spec: InputSpec) -> tuple[object, ...]:
    return tuple(option_keys(spec)) if spec.type == COMBO else spec.choices or ()


def _number(value: object) -> int | float | None:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return value if isinstance(value, int | float) and is_number and _is_finite(value) else None


def _is_finite(value: int | float) -> bool:
    return isinstance(value, int) or math.isfinite(value)


def _is_there(spec: InputSpec | None, value: object, catalog: NodeCatalog) -> bool:
    """Whether the file that the workflow names is among those that the catalog knows."""
    files = catalog.input_files or ()
    known = spec.choice_set if spec is not None else frozenset()
    return isinstance(value, str) and (value in known or value in files)


def make_outputs(nodes: Nodes, node_ids: Iterable[tuple[str, str]]) -> tuple[InterfaceOutput, ...]:
    """Name the outputs: node id and what somebody called it, if anybody did."""
    found = [(node_id, name, _output_kind(nodes, node_id)) for node_id, name in node_ids]
    names = unique(
        (slug(name) or kind.value, slug(nodes.own_title(node_id))) for node_id, name, kind in found
    )
    return tuple(
        InterfaceOutput(name, kind, node_id, called or nodes.title(node_id))
        for (node_id, called, kind), name in zip(found, names, strict=True)
    )


def guessed_outputs(nodes: Nodes) -> Iterator[tuple[str, str]]:
    """Go through the outputs; mere previews only where nothing else comes out."""
    saved = [each for each in nodes.outputs if not _is_preview(nodes.class_of(each))]
    return ((node_id, "") for node_id in saved or nodes.outputs)


def _is_preview(node_class: NodeClass | None) -> bool:
    return node_class is not None and "preview" in node_class.name.lower()


def _output_kind(nodes: Nodes, node_id: str) -> Kind:
    """Tell what an output node shows by what it takes."""
    types = {spec.type for spec in nodes.specs(node_id).values() if spec.is_required}
    received = {part for each in types for part in each.split(",")}
    for kind_type, kind in _OUTPUT_KINDS:
        if any(each.startswith(kind_type) for each in received):
            return kind
    return _linked_kind(nodes, node_id)


def _linked_kind(nodes: Nodes, node_id: str) -> Kind:
    """Tell it by what is linked to it, where it takes anything."""
    for name, source in nodes.links(node_id):
        node_class = nodes.class_of(source)
        slot = nodes.inputs(node_id)[name][1]
        if node_class is not None and isinstance(slot, int) and slot < len(node_class.output_types):
            made = str(node_class.output_types[slot])
            found = next(
                (kind for kind_type, kind in _OUTPUT_KINDS if made.startswith(kind_type)), None
            )
            if found is not None:
                return found
    return Kind.JSON
