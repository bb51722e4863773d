"""Promoted widgets: the values that a subgraph instance holds for widgets inside it.

An input of a definition that leads to a widget gives each instance a widget of its own. Their values
stand in `widgets_values` by position, or aside in `proxyWidgetErrorQuarantine` where an earlier editor
could not place them. This follows the frontend's `SubgraphNode`; see `proxies` for the third way.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from comfyserve.workflow.editor import Boundary, Definition, Kind, Node, Role, Slot, Widget
from comfyserve.workflow.flavours import FrontendRules
from comfyserve.workflow.values import UNSET

_QUARANTINE_REASONS: Final = frozenset(
    {
        *("missingSourceNode", "missingSourceWidget", "missingSubgraphInput"),
        *("ambiguousSubgraphInput", "unlinkedSourceWidget", "primitiveBypassFailed"),
    }
)
_MAX_PROPERTY: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Source:
    """The inner node and widget that an input of a subgraph leads to."""

    node: Node
    name: str
    """The widget's name; of a nested instance the name of its input."""
    widget: Widget | None


def source_of(definition: Definition, boundary: Boundary) -> Source | None:
    """Return what an input of a definition leads to first, if that is a widget or an instance."""
    for slot, node in _targets(definition, boundary.links):
        if node.role is Role.INSTANCE:
            return Source(node, slot.name, slot.promoted)
        widget = node.widget_of(slot)
        if widget is not None:
            return Source(node, widget.name, widget)
    return None


def _targets(definition: Definition, links: Sequence[str]) -> Iterator[tuple[Slot, Node]]:
    graph = definition.graph
    for link_id in links:
        link = graph.links.get(link_id)
        node = graph.by_id.get(link.target_id) if link is not None else None
        if node is None:
            definition.budget.search(1)
            continue
        definition.budget.search(len(node.inputs))
        slot = node.slot_with(link_id)
        if slot is not None:
            yield slot, node


def promote(definition: Definition, slot: Slot, rules: FrontendRules) -> None:
    """Give an input of an instance its own copy of the first widget it leads to."""
    boundary = slot.boundary
    if boundary is None:
        return
    by_index = rules.binds_promoted_by_slot_index
    for inner, node in (_indexed_targets if by_index else _targets)(definition, boundary.links):
        widget = node.widget_of(inner)
        if widget is None:
            continue
        _adopt(slot, boundary, widget, rules)
        return


def _indexed_targets(definition: Definition, links: Sequence[str]) -> Iterator[tuple[Slot, Node]]:
    graph = definition.graph
    for link_id in links:
        definition.budget.search(1)
        link = graph.links.get(link_id)
        node = graph.by_id.get(link.target_id) if link is not None else None
        if link is not None and node is not None and 0 <= link.target_slot < len(node.inputs):
            yield node.inputs[link.target_slot], node


def _adopt(slot: Slot, boundary: Boundary, inner: Widget, rules: FrontendRules) -> None:
    if rules.shares_promoted_text and inner.kind is Kind.MULTILINE:
        slot.widget, slot.promoted = boundary.name, inner
    else:
        copy_widget(slot, boundary, inner)


def copy_widget(slot: Slot, boundary: Boundary, inner: Widget) -> None:
    """Copy a widget to an instance; an input that had one of the same kind keeps its value."""
    had = slot.promoted
    value = had.value if had is not None and had.kind is inner.kind else inner.value
    slot.widget = boundary.name
    slot.promoted = Widget(
        boundary.name, inner.kind, value, inner.spec, is_saved=True, is_sent=True
    )


def promote_late(definition: Definition, rules: FrontendRules) -> None:
    """Give widgets to instances that were filled before what is inside them was there.

    Their saved values are lost by then: they show those of the inner widgets.
    """
    for instance in definition.instances:
        for slot in instance.inputs:
            boundary = slot.boundary
            if boundary is None or not boundary.links:
                continue
            widget = _first_target(definition, boundary, rules)
            if widget is not None:
                _adopt(slot, boundary, widget, rules)


def _first_target(
    definition: Definition, boundary: Boundary, rules: FrontendRules
) -> Widget | None:
    """Return the widget behind the first link of an input, in the older flavour that of its name."""
    if not rules.binds_promoted_by_slot_index:
        targets = _indexed_targets(definition, boundary.links[:1])
        return next((node.widget_of(slot) for slot, node in targets), None)
    link = definition.graph.links.get(boundary.links[0])
    node = definition.graph.by_id.get(link.target_id) if link is not None else None
    if node is None:
        return None
    definition.budget.search(len(node.inputs))
    return node.widget(boundary.name)


def spread(instance: Node, rules: FrontendRules) -> None:
    """Write the values of the promoted widgets of an instance into all widgets they lead to."""
    definition = instance.definition
    for slot in instance.inputs:
        if definition is None or slot.boundary is None or slot.promoted is None:
            continue
        for inner, node in _indexed_targets(definition, slot.boundary.links):
            widget = node.widget_of(inner)
            if widget is not None:
                widget.set(slot.promoted.value, multiline_is_text=rules.multiline_is_text)


def take_values(instance: Node, rules: FrontendRules) -> None:
    """Give the promoted widgets of an instance the values that the file lists by position."""
    promoted = [slot.promoted for slot in instance.inputs if slot.promoted is not None]
    values = instance.saved.values
    if isinstance(values, Mapping):
        # The newer frontend walks an object as if it were a list and finds nothing at any place.
        for widget in promoted if rules.loses_named_values else ():
            widget.value = UNSET
        return
    aside: Mapping[str, Any] = {}
    if rules.migrates_proxy_widgets:
        aside = _quarantined(instance.properties.get("proxyWidgetErrorQuarantine"))
    for index, widget in enumerate(promoted):
        if widget.name in aside:
            widget.value = aside[widget.name]
        elif values is not None and index < len(values):
            widget.value = values[index]


def _quarantined(raw: object) -> dict[str, Any]:
    """Return the values that an earlier migration could not place, by input; the first counts."""
    found: dict[str, Any] = {}
    for entry in property_list(raw):
        if not isinstance(entry, Mapping):
            return {}
        original = texts(entry.get("originalEntry"))
        is_valid = (
            original is not None
            and entry.get("reason") in _QUARANTINE_REASONS
            and entry.get("attemptedAtVersion") == 1
        )
        if not is_valid or original is None:
            return {}
        if original[0] == "-1" and entry.get("hostValue") is not None:
            found.setdefault(original[1], entry["hostValue"])
    return found


def property_list(raw: object) -> list[Any]:
    """Return a property that is a list, or the text of one."""
    if isinstance(raw, str) and len(raw) <= _MAX_PROPERTY:
        try:
            raw = json.loads(raw)
        except (ValueError, RecursionError):
            return []
    return raw if isinstance(raw, list) else []


def texts(raw: object) -> tuple[str, ...] | None:
    """Return `[id, name]` or `[id, name, id]`, `None` for anything else."""
    if not isinstance(raw, list) or len(raw) not in (2, 3):
        return None
    return tuple(raw) if all(isinstance(part, str) for part in raw) else None
