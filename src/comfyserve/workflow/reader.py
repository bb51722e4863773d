"""Read a UI export into `graph`'s values.

The reader is lenient. Both schema versions (0.4 with link arrays, 1 with link objects) and every mix
of them are taken; what cannot be a node or a link is left out and reported, nothing raises.
"""

from collections.abc import Iterable, Iterator, Mapping
from types import MappingProxyType
from typing import Any, Final

from comfyserve.workflow.graph import (
    Mode,
    SavedBoundary,
    SavedDefinition,
    SavedFrame,
    SavedGraph,
    SavedInput,
    SavedLink,
    SavedNode,
    SavedOutput,
    UiWorkflow,
    pair_of,
)

_EMPTY: Final[Mapping[str, Any]] = MappingProxyType({})
_ANY_TYPE: Final = "*"
_MAX_ID: Final = 200
_MAX_NUMBER: Final = 10**18
_MAX_FRAMES: Final = 500
MAX_DROPPED: Final = 20


def parse_ui(raw: Mapping[str, Any]) -> UiWorkflow:
    """Read a UI export. The caller has made sure that `raw["nodes"]` is a list."""
    dropped: list[str] = []
    extra = _mapping(raw.get("extra"))
    state = _mapping(raw.get("state"))
    return UiWorkflow(
        graph=_graph(raw, dropped),
        definitions=tuple(_definitions(raw, dropped)),
        group_nodes=_mapping(extra.get("groupNodes")),
        extra=extra,
        version=_version(raw.get("version")),
        last_node_id=max(_int(raw.get("last_node_id")), _int(state.get("lastNodeId")), 0),
        frames=tuple(_frames(raw.get("groups"))),
        dropped=tuple(dropped[:MAX_DROPPED]),
    )


def node_id(value: object) -> str | None:
    """Return an id (of a node or a link) as text, `None` where it cannot be one."""
    if value is None or isinstance(value, bool):
        return None
    if isinstance(value, int):
        return str(value) if -_MAX_NUMBER < value < _MAX_NUMBER else None
    if isinstance(value, str):
        return value if 0 < len(value) <= _MAX_ID else None
    if isinstance(value, float) and value.is_integer() and abs(value) < _MAX_NUMBER:
        return str(int(value))
    return None


def _graph(raw: Mapping[str, Any], dropped: list[str]) -> SavedGraph:
    nodes: list[SavedNode] = []
    for entry in _list(raw.get("nodes")):
        node = read_node(entry) if isinstance(entry, dict) else None
        if node is not None:
            nodes.append(node)
        elif entry is not None:
            dropped.append(f"a node without a usable id or type was left out: {_short(entry)}")
    return SavedGraph(tuple(nodes), dict(_links(raw.get("links"), dropped)))


def _links(raw: object, dropped: list[str]) -> Iterator[tuple[str, SavedLink]]:
    entries: Iterable[Any] = raw.values() if isinstance(raw, dict) else _list(raw)
    for entry in entries:
        link = _link(entry)
        if link is not None:
            yield link.id, link
        elif entry is not None:
            dropped.append(f"a link record was left out: {_short(entry)}")


def _link(entry: object) -> SavedLink | None:
    """Read `[id, origin, slot, target, slot, type]` or the object with the same fields."""
    if isinstance(entry, list) and len(entry) >= 5:
        link, origin, origin_slot, target, target_slot = entry[:5]
    elif isinstance(entry, dict):
        link, origin, target = entry.get("id"), entry.get("origin_id"), entry.get("target_id")
        origin_slot, target_slot = entry.get("origin_slot"), entry.get("target_slot")
    else:
        return None
    link, origin, target = node_id(link), node_id(origin), node_id(target)
    if link is None or origin is None:
        return None
    return SavedLink(link, origin, _int(origin_slot), target or "", _int(target_slot))


def read_node(entry: Mapping[str, Any]) -> SavedNode | None:
    """Read a node, `None` where it has no usable id or type."""
    raw_id, node_type = entry.get("id"), entry.get("type")
    identity = node_id(raw_id)
    if identity is None or not isinstance(node_type, str):
        return None
    title, mode, values = entry.get("title"), entry.get("mode"), entry.get("widgets_values")
    named, flags = entry.get("widgets_values_named"), entry.get("flags")
    inputs, outputs = entry.get("inputs"), entry.get("outputs")
    return SavedNode(
        id=identity,
        type=node_type,
        title=title if isinstance(title, str) else "",
        mode=mode if isinstance(mode, int) else Mode.ALWAYS,
        inputs=tuple(map(_input, inputs)) if isinstance(inputs, list) else (),
        outputs=tuple(map(_output, outputs)) if isinstance(outputs, list) else (),
        values=values if isinstance(values, (list, dict)) else None,
        named_values=named if isinstance(named, dict) else None,
        properties=_mapping(entry.get("properties")),
        raw_position=entry.get("pos"),
        raw_size=entry.get("size"),
        is_collapsed=isinstance(flags, dict) and flags.get("collapsed") is True,
        has_number_id=not isinstance(raw_id, str),
    )


_NO_INPUT: Final = SavedInput("", _ANY_TYPE, None, None)
_NO_OUTPUT: Final = SavedOutput("", _ANY_TYPE, ())


def _input(entry: object) -> SavedInput:
    """Read an input slot; one that makes no sense keeps its place, so that indices stay right."""
    if not isinstance(entry, dict):
        return _NO_INPUT
    widget, name, label = entry.get("widget"), entry.get("name"), entry.get("label")
    widget_name = widget.get("name") if isinstance(widget, dict) else None
    return SavedInput(
        name if isinstance(name, str) else "",
        _slot_type(entry.get("type")),
        node_id(entry.get("link")),
        widget_name if isinstance(widget_name, str) else None,
        label if isinstance(label, str) else "",
    )


def _output(entry: object) -> SavedOutput:
    if not isinstance(entry, dict):
        return _NO_OUTPUT
    name = entry.get("name")
    return SavedOutput(
        name if isinstance(name, str) else "",
        _slot_type(entry.get("type")),
        _ids(entry.get("links")),
    )


def _definitions(raw: Mapping[str, Any], dropped: list[str]) -> Iterator[SavedDefinition]:
    """Go through the definitions, those inside other definitions after them."""
    pending = [(raw, False)]
    while pending:
        holder, is_nested = pending.pop(0)
        for entry in _list(_mapping(holder.get("definitions")).get("subgraphs")):
            identity = node_id(entry.get("id")) if isinstance(entry, dict) else None
            if identity is None:
                dropped.append("a subgraph definition without an id was left out")
                continue
            name = entry.get("name")
            yield SavedDefinition(
                id=identity,
                name=name if isinstance(name, str) else "",
                graph=_graph(entry, dropped),
                inputs=tuple(map(_boundary, _list(entry.get("inputs")))),
                outputs=tuple(map(_boundary, _list(entry.get("outputs")))),
                is_nested=is_nested,
            )
            pending.append((entry, True))


def _frames(raw: object) -> Iterator[SavedFrame]:
    for entry in _list(raw)[:_MAX_FRAMES]:
        place = entry.get("bounding") if isinstance(entry, dict) else None
        position, size = pair_of(place), pair_of(_list(place)[2:])
        if position is not None and size is not None:
            title = entry.get("title")
            yield SavedFrame(title if isinstance(title, str) else "", position, size)


def _boundary(entry: object) -> SavedBoundary:
    if not isinstance(entry, dict):
        return SavedBoundary("", _ANY_TYPE, ())
    name = entry.get("name")
    return SavedBoundary(
        name if isinstance(name, str) else "",
        _slot_type(entry.get("type")),
        _ids(entry.get("linkIds")),
    )


def _slot_type(value: object) -> str:
    """Return a slot's type; `0` and nothing mean "any", a list of values is a combo of them."""
    if isinstance(value, str):
        return value
    if isinstance(value, list):
        return ",".join(map(str, value))
    return str(value) if value else ""


def _ids(value: object) -> tuple[str, ...]:
    if not isinstance(value, list) or not value:
        return ()
    return tuple([key for item in value if (key := node_id(item)) is not None])


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else _EMPTY


def _int(value: object) -> int:
    """Return a slot index or counter; anything else is 0, as a lenient reader has it."""
    if isinstance(value, int):
        return int(value) if -_MAX_NUMBER < value < _MAX_NUMBER else 0
    if isinstance(value, float) and value.is_integer() and abs(value) < _MAX_NUMBER:
        return int(value)
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 10:
        return int(value)
    return 0


def _version(value: object) -> str:
    return str(value) if isinstance(value, (int, float, str)) else ""


def _short(value: object) -> str:
    """Name a thing that was left out without repeating it whole."""
    if isinstance(value, dict):
        return f"id {_short(value.get('id'))}, type {_short(value.get('type'))}"
    if isinstance(value, list):
        return f"a list of {len(value)}"
    return repr(value)[:40] if isinstance(value, (str, int, float)) else type(value).__name__
