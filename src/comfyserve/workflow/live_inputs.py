"""Inputs that come and go while a node is loaded: dynamic combos and growing inputs.

Choosing a key of a dynamic combo brings that key's inputs, connecting the last socket of a growing
input brings the next one. The order in which they appear decides which of the saved values each widget
gets, so this follows the frontend step by step (`dynamicWidgets.ts`).
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from comfyserve.workflow.editor import (
    Graph,
    GrowingInput,
    Kind,
    Node,
    Slot,
    Widget,
    dynamic_options,
)
from comfyserve.workflow.flavours import FrontendRules
from comfyserve.workflow.specs import InputSpec, input_spec
from comfyserve.workflow.widget_plans import plans
from comfyserve.workflow.widgets import AUTOGROW, MATCH_TYPE, is_widget

_MOST_SOCKETS: Final = 100
_MOST_OPTIONS: Final = 1000


def build_inputs(node: Node, specs: tuple[InputSpec, ...], rules: FrontendRules) -> None:
    """Give a fresh node its sockets and widgets."""
    nowhere = Graph()  # a node under construction is in no graph yet
    for spec in specs:
        _add_socket(node, nowhere, spec, rules)
    for spec in specs:
        _add_widget(node, nowhere, spec, rules)


def choose(node: Node, graph: Graph, widget: Widget, key: object, rules: FrontendRules) -> None:
    """Set a dynamic combo: the inputs of the old key leave, those of the new one come."""
    widget.value = key
    prefix = f"{widget.name}."
    removed = [slot for slot in node.inputs if slot.name.startswith(prefix)]
    node.inputs[:] = [slot for slot in node.inputs if not slot.name.startswith(prefix)]
    node.widgets[:] = [each for each in node.widgets if not each.name.startswith(prefix)]
    sections = (
        dynamic_options(widget.spec).get(key) if widget.spec and isinstance(key, str) else None
    )
    if not key or sections is None:
        return
    first_widget, first_input = len(node.widgets), len(node.inputs)
    for spec in _specs_of(sections, prefix):
        _add_socket(node, graph, spec, rules)
        _add_widget(node, graph, spec, rules)
    at = node.widgets.index(widget) + 1
    _move(node.widgets, first_widget, at)
    own = next((i for i, slot in enumerate(node.inputs) if slot.name == widget.name), None)
    if own is None:  # the combo itself is still being built
        return
    _move(node.inputs, first_input, own + 1)
    _index_links(node, graph, own + 1)
    _reconnect(node, graph, removed, rules)


def set_option(node: Node, widget: Widget, value: object) -> None:
    """Set an option of a `CustomCombo`: the last one is always empty and there for the next."""
    widget.value = value
    widgets = node.widgets
    if widgets[-1] is widget:
        if value and len(widgets) < _MOST_OPTIONS:
            name = f"option{len(widgets) - 1}"
            widgets.append(Widget(name, Kind.OPTION, "", None, is_saved=True, is_sent=True))
    elif not value and widgets[-2] is widget and not widgets[-1].value:
        widgets.pop()


def grow(node: Node, graph: Graph, rules: FrontendRules) -> None:
    """Add the sockets that follow those which the file has connected."""
    if not node.growing:
        return
    at = 0
    while at < len(node.inputs):
        slot = node.inputs[at]
        at += 1
        growing = node.growing.get(slot.name.rpartition(".")[0])
        if growing is None:
            continue
        if slot.widget is not None and node.widget(slot.widget) is None:
            node.widgets.append(_placeholder(slot.name))
        if slot.link in graph.links:
            _grow_after(node, graph, growing, slot, rules)


def _grow_after(
    node: Node, graph: Graph, growing: GrowingInput, slot: Slot, rules: FrontendRules
) -> None:
    ordinal = growing.ordinal(slot.name)
    if ordinal is not None:
        _add_step(node, graph, growing, ordinal + 1, rules)


def _reconnect(node: Node, graph: Graph, removed: list[Slot], rules: FrontendRules) -> None:
    """Hand the links of inputs that left to those of the same name that came."""
    for old in removed:
        new = next((slot for slot in node.inputs if slot.name == old.name), None)
        if new is None:
            graph.disconnect(old)
            continue
        new.link = old.link
        link = graph.links.get(new.link) if new.link is not None else None
        if link is not None:
            link.target_slot = node.inputs.index(new)
        growing = node.growing.get(new.name.rpartition(".")[0])
        if growing is not None and new.link in graph.links:
            _grow_after(node, graph, growing, new, rules)


def _add_socket(node: Node, graph: Graph, spec: InputSpec, rules: FrontendRules) -> None:
    if is_widget(spec, rules):
        return
    if spec.type == AUTOGROW:
        _start_growing(node, graph, spec, rules)
    elif spec.type == MATCH_TYPE:
        node.inputs.append(_matching_slot(spec))
    else:
        node.inputs.append(Slot(spec.name, spec.type))


def _add_widget(node: Node, graph: Graph, spec: InputSpec, rules: FrontendRules) -> None:
    if not is_widget(spec, rules) or node.node_class is None:
        return
    for plan in plans(spec, node.node_class, rules):
        widget = plan.build()
        node.widgets.append(widget)
        if widget.kind is Kind.DYNAMIC_COMBO:
            choose(node, graph, widget, widget.value, rules)
    node.inputs.append(Slot(spec.name, spec.type, None, spec.name))


def _start_growing(node: Node, graph: Graph, spec: InputSpec, rules: FrontendRules) -> None:
    template = spec.options.get("template")
    if not isinstance(template, Mapping):
        return
    names, least, most = template.get("names"), template.get("min"), template.get("max")
    prefix = template.get("prefix")
    listed = tuple(map(str, names)) if isinstance(names, list) else None
    growing = GrowingInput(
        name=spec.name,
        names=listed,
        prefix=prefix if isinstance(prefix, str) else "",
        least=least if isinstance(least, int) else 1,
        most=len(listed)
        if listed is not None
        else most
        if isinstance(most, int)
        else _MOST_SOCKETS,
        inputs=tuple(_specs_of(template.get("input"), "")),
    )
    if not growing.inputs:
        return
    node.growing[spec.name] = growing
    for ordinal in range(max(1, min(growing.least, _MOST_SOCKETS) + 1)):
        _add_step(node, graph, growing, ordinal, rules)


def _add_step(
    node: Node, graph: Graph, growing: GrowingInput, ordinal: int, rules: FrontendRules
) -> None:
    if ordinal >= growing.most:
        return
    fresh = [_grown_slot(node, graph, growing, ordinal, spec, rules) for spec in growing.inputs]
    for slot in fresh:
        for twin in [each for each in node.inputs if each.name == slot.name]:
            slot.link = slot.link if slot.link is not None else twin.link
            node.inputs.remove(twin)
    before = growing.socket_name(ordinal - 1, growing.inputs[-1])
    last = max(
        (i for i, slot in enumerate(node.inputs) if slot.name.startswith(before)),
        default=len(node.inputs) - 1,
    )
    node.inputs[last + 1 : last + 1] = fresh
    _index_links(node, graph, last + 1)


def _grown_slot(
    node: Node,
    graph: Graph,
    growing: GrowingInput,
    ordinal: int,
    spec: InputSpec,
    rules: FrontendRules,
) -> Slot:
    named = input_spec(growing.socket_name(ordinal, spec), spec.section, spec.raw)
    _add_socket(node, graph, named, rules)
    _add_widget(node, graph, named, rules)
    slot = node.inputs.pop()
    if len(growing.inputs) > 1 and (slot.widget is None or node.widget(slot.widget) is None):
        node.widgets.append(_placeholder(slot.name))
        slot.widget = slot.name
    return slot


def _placeholder(name: str) -> Widget:
    """Make the label that stands in for a widget: neither saved nor sent."""
    return Widget(name, Kind.FIXED, "", None, is_saved=False, is_sent=False)


def _specs_of(sections: object, prefix: str) -> Iterator[InputSpec]:
    """Go through the inputs that an option or template declares, required ones first."""
    if not isinstance(sections, Mapping):
        return
    for section in ("required", "optional"):
        specs = sections.get(section)
        for name, raw in specs.items() if isinstance(specs, Mapping) else ():
            yield input_spec(f"{prefix}{name}", section, raw)


def _matching_slot(spec: InputSpec) -> Slot:
    template = spec.options.get("template")
    template = template if isinstance(template, Mapping) else {}
    allowed, key = template.get("allowed_types"), template.get("template_id")
    kind = allowed if isinstance(allowed, str) else "*"
    return Slot(spec.name, kind, match=key if isinstance(key, str) else "", allowed=kind)


def _index_links(node: Node, graph: Graph, start: int) -> None:
    """Let the links of the inputs from `start` on know where these now are."""
    for index in range(start, len(node.inputs)):
        link = graph.links.get(node.inputs[index].link or "")
        if link is not None:
            link.target_slot = index


def _move(items: list[Any], start: int, to: int) -> None:
    """Move the tail that begins at `start` to position `to`."""
    tail = items[start:]
    del items[start:]
    items[to:to] = tail
