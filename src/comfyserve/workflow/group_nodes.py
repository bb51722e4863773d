"""Legacy group nodes: several nodes folded into one, described in `extra.groupNodes`.

A group node is a node class of its own, made up of what is open on its inner nodes. Here that class is
made (`GroupPlan`); `ungroup` puts the inner nodes in its place. Facts: `groupNode.ts` of ComfyUI's frontend,
whose newer versions turn group nodes into subgraphs on load, values shifted where inner combos are in
the old spelling.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.flavours import FrontendRules
from comfyserve.workflow.graph import SavedNode
from comfyserve.workflow.reader import read_node
from comfyserve.workflow.specs import InputSpec, NodeClass, input_spec
from comfyserve.workflow.widget_plans import is_widget_type, widget_type
from comfyserve.workflow.widgets import class_shape

_SEPARATORS: Final = (">", "/")
_KNOWN_VIRTUAL: Final = frozenset({"Reroute", "PrimitiveNode", "Note", "MarkdownNote"})
_MAX_INNER: Final = 1000
_MAX_LINKS: Final = 10_000


@dataclass(frozen=True, slots=True)
class InnerLink:
    """A connection between two inner nodes, by their places."""

    origin: int
    origin_slot: int
    target: int
    target_slot: int
    type: str


@dataclass(slots=True)
class GroupPlan:
    """A group node as a class, and how it maps onto its inner nodes."""

    name: str
    nodes: tuple[SavedNode, ...]
    links: tuple[InnerLink, ...]
    specs: list[InputSpec] = field(default_factory=list)
    widgets: dict[str, tuple[int, str]] = field(default_factory=dict)
    """For each widget of the group: place and input of the inner widget."""
    inputs: list[tuple[int, str]] = field(default_factory=list)
    """For each input slot of the group that can be connected: place and input inside."""
    outputs: list[tuple[int, int]] = field(default_factory=list)
    """For each output of the group: place and output inside."""
    output_types: list[Any] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)

    def node_class(self) -> NodeClass:
        """Return the class that nodes of this group have."""
        specs = {spec.name: spec for spec in self.specs}
        return NodeClass(
            name=f"workflow>{self.name}",
            display_name=self.name,
            category="group nodes",
            description="",
            python_module="nodes",
            inputs=tuple(specs.values()),
            hidden=(),
            output_types=tuple(self.output_types),
            output_names=tuple(map(str, self.output_types)),
            output_is_list=(False,) * len(self.output_types),
            is_output=False,
            is_v3=False,
        )

    def open_input(self, node: SavedNode, spec: InputSpec) -> str:
        """Add an inner input to the group's own, under a name that is free; return that name."""
        saved = next((entry for entry in node.inputs if entry.name == spec.name), None)
        name = key = (saved.label if saved is not None else "") or spec.name
        prefix = ""
        if (node.type == "PrimitiveNode" and node.title) or name in self._seen:
            prefix = f"{node.title or node.type} "
            name = key = f"{prefix}{spec.name}"
            if name in self._seen:
                name = f"{prefix}{self._seen[name]} {spec.name}"
        self._seen[key] = self._seen.get(key, 1) + 1
        options = dict(spec.options)
        if spec.name in ("seed", "noise_seed"):
            options["control_after_generate"] = f"{prefix}control_after_generate"
        declared = spec.raw[0] if isinstance(spec.raw, list) and spec.raw else spec.type
        self.specs.append(input_spec(name, "required", [declared, options]))
        return name


def plan_groups(
    groups: Mapping[str, Any], catalog: NodeCatalog, rules: FrontendRules
) -> dict[str, GroupPlan]:
    """Read `extra.groupNodes`: plans by node type. Groups with unknown inner classes are left out."""
    plans: dict[str, GroupPlan] = {}
    for name, raw in groups.items():
        nodes = tuple(_inner_nodes(raw))
        if not nodes or not all(
            node.type in catalog or node.type in _KNOWN_VIRTUAL for node in nodes
        ):
            continue
        plan = GroupPlan(name, nodes, tuple(_links(raw.get("links"))))
        _Planner(plan, raw, catalog, rules).run()
        for separator in _SEPARATORS:
            plans[f"workflow{separator}{name}"] = plan
    return plans


def _inner_nodes(raw: object) -> Iterator[SavedNode]:
    entries = raw.get("nodes") if isinstance(raw, Mapping) else None
    for index, entry in enumerate(entries if isinstance(entries, list) else ()):
        node = read_node({**entry, "id": index}) if isinstance(entry, Mapping) else None
        if node is None or index >= _MAX_INNER:
            return
        yield node


def _links(raw: object) -> Iterator[InnerLink]:
    for entry in raw[:_MAX_LINKS] if isinstance(raw, list) else ():
        parts = entry[:4] if isinstance(entry, list) else []
        if len(parts) == 4 and all(isinstance(part, int) for part in parts):
            origin, origin_slot, target, target_slot = parts
            kind = str(entry[5]) if len(entry) > 5 else "*"
            yield InnerLink(origin, origin_slot, target, target_slot, kind)


@dataclass(frozen=True, slots=True)
class _Planner:
    """Goes through the inner nodes in order, as the frontend does when it registers the class."""

    plan: GroupPlan
    raw: Mapping[str, Any]
    catalog: NodeCatalog
    rules: FrontendRules

    def run(self) -> None:
        converted: list[tuple[int, SavedNode, list[InputSpec], int]] = []
        for index, node in enumerate(self.plan.nodes):
            specs, outputs = self._declared(index, node)
            if specs:
                slots, late = self._widgets(index, node, specs)
                self._sockets(index, node, slots)
                converted.append((index, node, late, len(slots)))
            self._outputs(index, outputs)
        # Sockets of converted widgets stand behind everything else.
        for index, node, late, count in converted:
            self._converted(index, node, late, count)

    def _declared(self, index: int, node: SavedNode) -> tuple[Sequence[InputSpec], Sequence[Any]]:
        """Return inputs and output types of an inner node; frontend-only ones are what they carry."""
        if node.type == "PrimitiveNode":
            kind = next((link.type for link in self.plan.links if link.origin == index), None)
            return ([input_spec("value", "required", [kind, {}])], [kind]) if kind else ((), ())
        if node.type == "Reroute":
            return self._reroute(index)
        node_class = self.catalog.get(node.type)
        if node_class is None:
            return (), ()
        shape = class_shape(node_class, self.rules, is_ordered=False)
        return shape.specs, node_class.output_types

    def _reroute(self, index: int) -> tuple[Sequence[InputSpec], Sequence[Any]]:
        incoming = [link for link in self.plan.links if link.target == index]
        outgoing = [link for link in self.plan.links if link.origin == index]
        if incoming and outgoing and (index, 0) not in self._external():
            return (), ()
        kind = next((link.type for link in (*outgoing, *incoming)), "*")
        return [input_spec(kind, "required", [kind, {"forceInput": True}])], [kind]

    def _external(self) -> set[tuple[int, int]]:
        entries = self.raw.get("external")
        return {
            (entry[0], entry[1])
            for entry in (entries if isinstance(entries, list) else ())
            if isinstance(entry, list)
            and len(entry) > 2
            and entry[2] is not None
            and isinstance(entry[0], int)
            and isinstance(entry[1], int)
        }

    def _widgets(
        self, index: int, node: SavedNode, specs: Sequence[InputSpec]
    ) -> tuple[list[InputSpec], list[InputSpec]]:
        """Open the widgets of a node; return its plain sockets and its converted widgets."""
        slots: list[InputSpec] = []
        converted: dict[int, InputSpec] = {}
        places = {e.name: i for i, e in enumerate(node.inputs) if e.widget == e.name}
        for spec in specs:
            # Newer frontends take a combo in the old spelling for a socket here.
            is_socket = spec.is_listed and self.rules.converts_group_nodes
            if is_socket or not is_widget_type(widget_type(spec), self.rules):
                slots.append(spec)
            elif spec.name in places:
                converted[places[spec.name]] = spec
            else:
                self.plan.widgets[self.plan.open_input(node, spec)] = (index, spec.name)
        return slots, [converted[place] for place in sorted(converted, key=str)]

    def _sockets(self, index: int, node: SavedNode, slots: Sequence[InputSpec]) -> None:
        linked = {link.target_slot for link in self.plan.links if link.target == index}
        for place, spec in enumerate(slots):
            if place not in linked:
                self.plan.open_input(node, spec)
                self.plan.inputs.append((index, spec.name))

    def _converted(
        self, index: int, node: SavedNode, late: Sequence[InputSpec], first: int
    ) -> None:
        linked = {link.target_slot for link in self.plan.links if link.target == index}
        for place, spec in enumerate(late):
            if first + place not in linked:
                self.plan.widgets[self.plan.open_input(node, spec)] = (index, spec.name)
                self.plan.inputs.append((index, spec.name))

    def _outputs(self, index: int, outputs: Sequence[Any]) -> None:
        inner = {link.origin_slot for link in self.plan.links if link.origin == index}
        external = self._external()
        for slot, kind in enumerate(outputs):
            if self._is_visible(
                index, slot, default=slot not in inner or (index, slot) in external
            ):
                self.plan.outputs.append((index, slot))
                self.plan.output_types.append(kind)

    def _is_visible(self, index: int, slot: int, *, default: bool) -> bool:
        config = self.raw.get("config")
        entry = config.get(str(index)) if isinstance(config, Mapping) else None
        outputs = entry.get("output") if isinstance(entry, Mapping) else None
        chosen = outputs.get(str(slot)) if isinstance(outputs, Mapping) else None
        visible = chosen.get("visible") if isinstance(chosen, Mapping) else None
        return visible if isinstance(visible, bool) else default
