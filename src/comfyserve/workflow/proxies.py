"""`properties.proxyWidgets`: how editors from 1.28 to 1.4x said which inner widgets an instance shows.

Each entry names an inner node and a widget, the value stands at the same place of `widgets_values`.
Loading such a file turns the entries into inputs of the definition, as the frontend's
`proxyWidgetMigration` does it, with all that this does to other instances of the definition.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from comfyserve.workflow.editor import (
    Boundary,
    Counters,
    Definition,
    Kind,
    Link,
    Node,
    Role,
    Slot,
    Widget,
)
from comfyserve.workflow.graph import SUBGRAPH_INPUT_ID
from comfyserve.workflow.promotion import copy_widget, property_list, source_of, texts
from comfyserve.workflow.reader import node_id

_LEGACY_PREFIX: Final = re.compile(r"\s*(\d+)\s*:\s*(.+)")
_MAX_PREFIXES: Final = 100
_MAX_NAME: Final = 1000


@dataclass(frozen=True, slots=True)
class ProxyEntry:
    """One entry of `proxyWidgets` with the value that stands beside it."""

    source_id: str
    name: str
    disambiguator: str | None
    value: object
    has_value: bool


def proxy_entries(instance: Node, renumbered: Mapping[str, str]) -> list[ProxyEntry]:
    """Read `properties.proxyWidgets`; one entry that makes no sense voids them all."""
    values = instance.saved.values
    values = values if isinstance(values, Sequence) else ()
    raw = instance.properties.get("proxyWidgets")
    if isinstance(raw, list):  # ids inside a text are not renumbered
        raw = [_renumbered(entry, renumbered) for entry in raw]
    entries: list[ProxyEntry] = []
    for index, entry in enumerate(property_list(raw)):
        parts = texts(entry)
        if parts is None:
            return []
        value = values[index] if index < len(values) else None
        entries.append(
            ProxyEntry(
                source_id=parts[0],
                name=parts[1],
                disambiguator=parts[2] if len(parts) > 2 else None,
                value=value,
                has_value=value is not None,
            )
        )
    return entries


def _renumbered(entry: object, renumbered: Mapping[str, str]) -> object:
    if not isinstance(entry, list) or not entry:
        return entry
    first = node_id(entry[0])
    return [renumbered[first], *entry[1:]] if first is not None and first in renumbered else entry


def migrate(instance: Node, entries: Sequence[ProxyEntry], counters: Counters) -> None:
    """Turn proxy entries into inputs of the definition and give the instance their values."""
    definition = instance.definition
    if definition is None:
        return
    cohorts: dict[str, list[ProxyEntry]] = {}
    aside: list[ProxyEntry] = []
    entries = [_without_prefix(definition, entry) for entry in entries]
    # What an entry is gets decided before any of them changes the definition.
    linked = [_linked_input(instance, definition, entry) for entry in entries]
    for entry, name in zip(entries, linked, strict=True):
        source = definition.graph.by_id.get(entry.source_id)
        if name is not None:
            _set_input(instance, name, entry)
        elif source is None:
            aside.append(entry)
        elif source.role is Role.PRIMITIVE:
            cohorts.setdefault(source.id, []).append(entry)
        else:
            _promote_more(instance, definition, source, entry, counters)
    for source_id, cohort in cohorts.items():
        _promote_primitive(instance, definition, source_id, cohort, counters)
    for entry in aside:
        _set_own(instance, entry)


def _without_prefix(definition: Definition, entry: ProxyEntry) -> ProxyEntry:
    """Drop the node ids that older editors put before a name (`"6: 3: text"`)."""
    if _resolves(definition, entry.source_id, entry.name):
        return entry
    name, deepest = entry.name, entry.disambiguator
    for _ in range(_MAX_PREFIXES if len(name) <= _MAX_NAME else 0):
        match = _LEGACY_PREFIX.fullmatch(name)
        if match is None:
            break
        deepest, name = match[1], match[2]
    return ProxyEntry(entry.source_id, name, deepest, entry.value, entry.has_value)


def _resolves(definition: Definition, source_id: str, name: str) -> bool:
    """Whether a node id and a name lead to a widget, through nested instances if need be."""
    for _ in range(_MAX_PREFIXES):
        node = definition.graph.by_id.get(source_id)
        if node is None:
            return False
        if node.role is not Role.INSTANCE or node.definition is None:
            return node.widget(name) is not None
        definition.budget.search(len(node.definition.inputs))
        inner = next((b for b in node.definition.inputs if b.name == name), None)
        source = source_of(node.definition, inner) if inner is not None else None
        if source is None:
            return False
        definition, source_id, name = node.definition, source.node.id, source.name
    return False


def _linked_input(instance: Node, definition: Definition, entry: ProxyEntry) -> str | None:
    """Return the input of the instance that already leads to the entry's widget."""
    definition.budget.search(len(instance.inputs))
    for slot in instance.inputs:
        source = source_of(definition, slot.boundary) if slot.boundary is not None else None
        if source is not None and source.node.id == entry.source_id and source.name == entry.name:
            return slot.name
    source_node = definition.graph.by_id.get(entry.source_id)
    if source_node is not None and source_node.role is Role.PRIMITIVE:
        replaced = source_node.properties.get("proxyBypassedToSubgraphInput")
        if isinstance(replaced, str) and any(s.name == replaced for s in instance.inputs):
            return replaced
    return None


def _set_input(instance: Node, name: str, entry: ProxyEntry) -> None:
    matches = [slot for slot in instance.inputs if slot.name == name]
    if len(matches) == 1 and matches[0].promoted is not None and entry.has_value:
        matches[0].promoted.value = entry.value


def _set_own(instance: Node, entry: ProxyEntry) -> None:
    """Place the value of an entry without a node: `-1` stands for the instance's own input."""
    slot = next((slot for slot in instance.inputs if slot.name == entry.name), None)
    if (
        entry.source_id == "-1"
        and slot is not None
        and slot.promoted is not None
        and entry.has_value
    ):
        slot.promoted.value = entry.value


def _promote_more(
    instance: Node, definition: Definition, source: Node, entry: ProxyEntry, counters: Counters
) -> None:
    """Make an input for a widget that none leads to yet."""
    slot = _slot_of_widget(source, entry)
    if slot is None or entry.name.startswith("$$"):
        return
    boundary = _add_input(definition, entry.name, slot.type or "*")
    _connect(definition, boundary, source, slot, counters)
    _set_value(instance, boundary, entry)


def _slot_of_widget(source: Node, entry: ProxyEntry) -> Slot | None:
    """Return the input slot of the named widget, or of the nested one that is meant."""
    if source.role is Role.INSTANCE and source.definition is not None:
        source.definition.budget.search(len(source.inputs))
        for slot in source.inputs:
            inner = source_of(source.definition, slot.boundary) if slot.boundary else None
            if entry.disambiguator is not None:
                is_meant = (
                    inner is not None
                    and inner.name == entry.name
                    and inner.node.id == entry.disambiguator
                )
            else:
                is_meant = slot.name == entry.name or (
                    inner is not None and inner.name == entry.name
                )
            if is_meant:
                return slot if slot.promoted is not None else None
        return next((s for s in source.inputs if s.promoted and s.name == entry.name), None)
    if source.widget(entry.name) is None:
        return None
    return next((slot for slot in source.inputs if slot.widget == entry.name), None)


def _promote_primitive(
    instance: Node,
    definition: Definition,
    source_id: str,
    cohort: Sequence[ProxyEntry],
    counters: Counters,
) -> None:
    """Let an input of the subgraph take the place of a primitive inside it."""
    graph = definition.graph
    primitive = graph.by_id[source_id]
    names = {entry.name for entry in cohort}
    output = primitive.outputs[0] if primitive.outputs else None
    links = [graph.links.get(link) for link in output.links] if output is not None else []
    if output is None or not links or None in links or len(names) != 1:
        return
    targets: list[tuple[Node, Slot]] = []
    for link in links:
        node = graph.by_id.get(link.target_id) if link is not None else None
        if link is None or node is None or not 0 <= link.target_slot < len(node.inputs):
            return
        slot = node.inputs[link.target_slot]
        if output.type not in (slot.type, "*") and slot.type != "*":
            return
        targets.append((node, slot))
    widgets = [node.widget_of(slot) for node, slot in targets]
    if any(not _is_alike(widgets[0], widget) for widget in widgets[1:]):
        return
    title = primitive.saved.title
    base = title if title and title != "PrimitiveNode" else cohort[0].name
    boundary = _add_input(definition, base, output.type or "*")
    for node, slot in targets:
        graph.disconnect(slot)
        _connect(definition, boundary, node, slot, counters)
    valued = next((entry for entry in cohort if entry.has_value), None)
    if valued is not None:
        _set_value(instance, boundary, valued)
    primitive.properties = {**primitive.properties, "proxyBypassedToSubgraphInput": boundary.name}


def _is_alike(first: Widget | None, other: Widget | None) -> bool:
    """Whether two widgets can hang on one input: same kind, range and step."""
    if first is None or other is None:
        return True
    if first.kind is not other.kind:
        return False
    if first.kind not in (Kind.INT, Kind.FLOAT) or first.spec is None or other.spec is None:
        return True
    a, b = first.spec.options, other.spec.options
    return all(a.get(key) == b.get(key) for key in ("min", "max", "step"))


def _add_input(definition: Definition, base: str, kind: str) -> Boundary:
    """Add an input to a definition and to all of its instances."""
    definition.budget.search(2 * len(definition.inputs))
    definition.budget.make(len(definition.instances))
    taken = {boundary.name for boundary in definition.inputs}
    name, count = base, 1
    while name in taken:
        name, count = f"{base}_{count}", count + 1
    boundary = Boundary(name, kind, [])
    definition.inputs.append(boundary)
    for instance in definition.instances:
        instance.inputs.append(Slot(name, kind, boundary=boundary))
    return boundary


def _connect(
    definition: Definition, boundary: Boundary, node: Node, slot: Slot, counters: Counters
) -> None:
    """Lead an input of a definition to a slot, in place of what was connected there."""
    graph = definition.graph
    definition.budget.search(len(definition.inputs) * (1 + len(definition.instances)))
    if slot.link is not None:
        for other in definition.inputs:
            definition.budget.search(len(other.links))
            if slot.link in other.links:
                other.links.remove(slot.link)
        graph.disconnect(slot)
    link_id = counters.next_link()
    at = definition.inputs.index(boundary)
    graph.links[link_id] = Link(link_id, SUBGRAPH_INPUT_ID, at, node.id, node.inputs.index(slot))
    boundary.links.append(link_id)
    slot.link = link_id
    widget = node.widget_of(slot)
    if widget is None:
        return
    for instance in definition.instances:
        for outer in instance.inputs:
            if outer.boundary is boundary:
                copy_widget(outer, boundary, widget)


def _set_value(instance: Node, boundary: Boundary, entry: ProxyEntry) -> None:
    for slot in instance.inputs:
        if slot.boundary is boundary and slot.promoted is not None and entry.has_value:
            slot.promoted.value = entry.value
