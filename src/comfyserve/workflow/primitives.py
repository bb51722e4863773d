"""Primitive nodes: frontend-only nodes whose value goes into the widgets they are connected to.

Facts: `PrimitiveNode` (`widgetInputs.ts`), `mergeInputSpec` and the number widgets of ComfyUI's frontend.
"""

import math
from collections import ChainMap
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from comfyserve.workflow.editor import Graph, Kind, Link, Node, Role, Slot, Widget
from comfyserve.workflow.nodes import NodeMaker
from comfyserve.workflow.specs import InputSpec, input_spec
from comfyserve.workflow.values import UNSET, as_number, round_to_precision, round_to_step
from comfyserve.workflow.widget_plans import plain_kind

_REPLACES: Final = "Run widget replace on values"
_IGNORED_IN_MERGE: Final = frozenset(
    {
        *("default", "forceInput", "defaultInput", "control_after_generate", "multiline"),
        *("tooltip", "dynamicPrompts", "min", "max", "step"),
    }
)


@dataclass(frozen=True, slots=True)
class _Number:
    """How a number widget keeps to its range and step."""

    is_int: bool
    minimum: float
    maximum: float
    step: float
    unit: float
    """What a FLOAT is rounded to; 0: not at all."""
    precision: int

    @classmethod
    def of(cls, options: Mapping[str, Any], *, is_int: bool) -> "_Number":
        """Read the options of an INT or FLOAT input with the frontend's defaults."""
        step = _number(options.get("step"), 1 if is_int else 0.5)
        precision = max(0, -math.floor(math.log10(step))) if step > 0 else 0
        unit = _number(options.get("round"), 0)
        return cls(
            is_int=is_int,
            minimum=_number(options.get("min"), 0),
            maximum=_number(options.get("max"), 2048),
            step=step or 1,
            unit=10.0**-precision if precision and not unit else unit,
            precision=precision,
        )

    def settle(self, value: object) -> object:
        """Return what the widget makes of a value that is put into it."""
        if self.is_int:
            return round_to_step(value, step=self.step, minimum=self.minimum)
        if not self.unit:
            return value
        return self.clamp(round_to_precision(value, unit=self.unit, precision=self.precision))

    def clamp(self, value: object) -> object:
        """Return a value moved into the range; what is not a number stays."""
        number = as_number(value)
        if number is None:
            return value
        if number < self.minimum:
            return _whole(self.minimum)
        return _whole(self.maximum) if number > self.maximum else value


def prepare_primitives(graph: Graph, maker: NodeMaker) -> None:
    """Give the primitives of a graph their value, by the first widget they are connected to."""
    for node in graph.nodes:
        is_new = node.role is Role.PRIMITIVE and not node.widgets
        if is_new and node.outputs and node.outputs[0].links:
            _prepare(node, graph, maker)


def _prepare(node: Node, graph: Graph, maker: NodeMaker) -> None:
    first = next(_targets(node, graph, graph.links), None)
    if first is None or first[0] != node.outputs[0].links[0]:
        return
    _, target, slot = first
    spec = _spec_of(target, slot)
    if spec is None:
        return
    theirs = target.widget_of(slot)
    kind = theirs.kind if theirs is not None else plain_kind(spec)
    if kind is None:
        return
    value = theirs.value if theirs is not None else UNSET
    widget = Widget("value", kind, value, spec, is_saved=True, is_sent=False)
    saved = node.saved.values
    if isinstance(saved, list) and saved:
        widget.set(saved[0], multiline_is_text=maker.rules.multiline_is_text)
    node.widgets = [widget]
    if kind in (Kind.INT, Kind.FLOAT):
        _merge_ranges(node, graph, widget, spec)


def _merge_ranges(node: Node, graph: Graph, widget: Widget, spec: InputSpec) -> None:
    """Narrow the value to what all targets allow; one that does not fit the others is left out."""
    merged: Mapping[str, Any] = spec.options
    for _, target, slot in _targets(node, graph, graph.links):
        other = _spec_of(target, slot)
        if slot.widget is None or other is None or other.type != spec.type:
            continue
        narrowed = _merged(merged, other.options)
        if narrowed is not None:
            merged = narrowed
            number = _Number.of(merged, is_int=widget.kind is Kind.INT)
            widget.value = number.settle(number.clamp(widget.value))


def _merged(one: Mapping[str, Any], other: Mapping[str, Any]) -> Mapping[str, Any] | None:
    low = max(_number(one.get("min"), -math.inf), _number(other.get("min"), -math.inf))
    high = min(_number(one.get("max"), math.inf), _number(other.get("max"), math.inf))
    keys = (one.keys() | other.keys()) - _IGNORED_IN_MERGE
    if low > high or any(one.get(key) != other.get(key) for key in keys):
        return None
    step = _least_common_multiple(_number(one.get("step"), 1), _number(other.get("step"), 1))
    return {**one, **other, "min": low, "max": high, "step": step}


def apply_primitives(
    graph: Graph, root: Graph, maker: NodeMaker, replaced: Callable[[str], str]
) -> None:
    """Put the values of the primitives of a graph into their targets, whatever their mode is."""
    links: Mapping[str, Link] = graph.links
    if maker.rules.primitives_use_root_links:
        links = ChainMap(root.links, graph.links)
    for node in graph.nodes:
        if node.role is not Role.PRIMITIVE or not node.widgets:
            continue
        value = node.widgets[0].value
        if value and isinstance(value, str) and node.properties.get(_REPLACES):
            value = replaced(value)
        for _, target, slot in list(_targets(node, graph, links)):
            widget = target.widget(slot.widget) if slot.widget is not None else None
            if widget is not None:
                maker.assign(target, graph, widget, value)
                _settle(target, widget)


def _settle(node: Node, widget: Widget) -> None:
    """Let a number widget round what was put into it; promoted widgets take it as it is."""
    if node.role is Role.CLASS and widget.kind in (Kind.INT, Kind.FLOAT):
        options = widget.spec.options if widget.spec is not None else {}
        widget.value = _Number.of(options, is_int=widget.kind is Kind.INT).settle(widget.value)


def _targets(
    node: Node, graph: Graph, links: Mapping[str, Link]
) -> Iterator[tuple[str, Node, Slot]]:
    """Go through what the primitive's output is connected to, by its own list of links."""
    for link_id in node.outputs[0].links if node.outputs else ():
        link = links.get(link_id)
        target = graph.by_id.get(link.target_id) if link is not None else None
        if link is not None and target is not None and 0 <= link.target_slot < len(target.inputs):
            yield link_id, target, target.inputs[link.target_slot]


def _spec_of(node: Node, slot: Slot) -> InputSpec | None:
    """Return the spec of the widget behind a slot; a socket of a widget's type is as good."""
    if slot.widget is None:
        bare = input_spec(slot.name, "required", [slot.type, {}])
        return bare if plain_kind(bare) is not None else None
    widget = node.widget_of(slot)
    return widget.spec if widget is not None else None


def _number(value: object, default: float) -> float:
    if isinstance(value, (int, float)) and not isinstance(value, bool) and not math.isnan(value):
        return value
    return default


def _whole(number: float) -> float | int:
    return int(number) if math.isfinite(number) and float(number).is_integer() else number


def _least_common_multiple(one: float, other: float) -> float:
    """Return it for steps, which may be fractions; rounding errors end the search."""
    a, b = one, other
    for _ in range(64):
        if not b:
            break
        a, b = b, math.fmod(a, b)
    return abs(one * other) / a if a else one
