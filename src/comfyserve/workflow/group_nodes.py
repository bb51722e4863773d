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
    specs: dict[str, InputSpec] = field(default_factory=dict)
    """The group's own inputs by name."""
    widgets: dict[str, tuple[int, str]] = field(default_factory=dict)
    """For each widget of the group: place and input of the inner widget."""
    inputs: list[tuple[int, int, str]] = field(default_factory=list)
    """For each input slot of the group that can be connected: place, slot and input inside."""
    outputs: list[tuple[int, int]] = field(default_factory=list)
    """For each output of the group: place and output inside."""
    primitives: dict[int, list[tuple[int, str]]] = field(default_factory=dict)
    """For each inner primitive by place: the places and inputs that it fills."""
    opened: dict[int, str] = field(default_factory=dict)
    """For each inner primitive by place: the widget of the group that holds its value."""
    output_types: list[Any] = field(default_factory=list)
    _seen: dict[str, int] = field(default_factory=dict)

    def node_class(self) -> NodeClass:
        """Return the class that nodes of this group have."""
        return NodeClass(
            name=f"workflow>{self.name}",
            display_name=self.name,
            category="group nodes",
            description="",
            python_module="nodes",
            inputs=tuple(self.specs.values()),
            hidden=(),
            output_types=tuple(self.output_types),
            output_names=tuple(map(str, self.output_types)),
            output_is_list=(False,) * len(self.output_types),
            is_output=False,
            is_v3=False,
        )

    def open_input(
        self, node: SavedNode, spec: InputSpec, own_name: str = "", *, is_hidden: bool = False
    ) -> str:
        """Add an inner input to the group's own, under a name that is free; return that name.

        `own_name`: what the group's settings call it; `is_hidden`: it takes a name and nothing else.
        """
        saved = next((entry for entry in node.inputs if entry.name == spec.name), None)
        name = key = own_name or (saved.label if saved is not None else "") or spec.name
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
        if not is_hidden:
            self.specs[name] = _like(spec, name, options)
        return name

    def fill(self, primitive: int, place: int, spec: InputSpec) -> None:
        """Let a primitive fill an inner input: it takes on the input's options and a control."""
        self.primitives.setdefault(primitive, []).append((place, spec.name))
        name = self.opened.get(primitive)
        if name is not None and name in self.specs:
            options = {**spec.options, "control_after_generate": True}
            self.specs[name] = _like(self.specs[name], name, options)


def _like(spec: InputSpec, name: str, options: Mapping[str, Any]) -> InputSpec:
    """Return an input of the same type with another name and other options."""
    declared = spec.raw[0] if isinstance(spec.raw, list) and spec.raw else spec.type
    return input_spec(name, "required", [declared, options])


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


def _external(raw: object) -> set[tuple[int, int]]:
    return {
        (entry[0], entry[1])
        for entry in (raw if isinstance(raw, list) else ())
        if isinstance(entry, list)
        and len(entry) > 2
        and entry[2] is not None
        and isinstance(entry[0], int)
        and isinstance(entry[1], int)
    }


@dataclass(frozen=True, slots=True)
class _Planner:
    """Goes through the inner nodes in order, as the frontend does when it registers the class."""

    plan: GroupPlan
    raw: Mapping[str, Any]
    catalog: NodeCatalog
    rules: FrontendRules
    fed: dict[tuple[int, int], int] = field(default_factory=dict)
    """For each inner slot that something inside feeds: the place of that."""
    incoming: dict[int, list[InnerLink]] = field(default_factory=dict)
    outgoing: dict[int, list[InnerLink]] = field(default_factory=dict)
    external: set[tuple[int, int]] = field(default_factory=set)
    """Outputs that lead out of the group although something inside uses them as well."""

    def run(self) -> None:
        self.external.update(_external(self.raw.get("external")))
        for link in self.plan.links:
            self.fed[link.target, link.target_slot] = link.origin
            self.incoming.setdefault(link.target, []).append(link)
            self.outgoing.setdefault(link.origin, []).append(link)
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
            kind = next((link.type for link in self.outgoing.get(index, ())), None)
            return ([input_spec("value", "required", [kind, {}])], [kind]) if kind else ((), ())
        if node.type == "Reroute":
            return self._reroute(index)
        node_class = self.catalog.get(node.type)
        if node_class is None:
            return (), ()
        shape = class_shape(node_class, self.rules, is_ordered=False)
        return shape.specs, node_class.output_types

    def _reroute(self, index: int) -> tuple[Sequence[InputSpec], Sequence[Any]]:
        incoming, outgoing = self.incoming.get(index, []), self.outgoing.get(index, [])
        if incoming and outgoing and (index, 0) not in self.external:
            return (), ()
        kind = next((link.type for link in (*outgoing, *incoming)), "*")
        return [input_spec(kind, "required", [kind, {"forceInput": True}])], [kind]

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
                self._open_widget(index, node, spec)
        return slots, [converted[place] for place in sorted(converted, key=str)]

    def _sockets(self, index: int, node: SavedNode, slots: Sequence[InputSpec]) -> None:
        for place, spec in enumerate(slots):
            if self._is_linked(index, place, spec):
                continue
            settings = self._settings(index, "input", spec.name)
            is_hidden = settings.get("visible") is False
            self.plan.open_input(node, spec, _text(settings.get("name")), is_hidden=is_hidden)
            if not is_hidden:
                self.plan.inputs.append((index, place, spec.name))

    def _converted(
        self, index: int, node: SavedNode, late: Sequence[InputSpec], first: int
    ) -> None:
        for place, spec in enumerate(late, first):
            if not self._is_linked(index, place, spec):
                self._open_widget(index, node, spec)
                self.plan.inputs.append((index, place, spec.name))

    def _open_widget(self, index: int, node: SavedNode, spec: InputSpec) -> None:
        name = _text(self._settings(index, "input", spec.name).get("name"))
        opened = self.plan.open_input(node, spec, name)
        self.plan.widgets[opened] = (index, spec.name)
        if node.type == "PrimitiveNode":
            self.plan.opened[index] = opened

    def _is_linked(self, index: int, place: int, spec: InputSpec) -> bool:
        """Whether something inside the group feeds an input; a primitive is noted."""
        origin = self.fed.get((index, place))
        if origin is None:
            return False
        if 0 <= origin < len(self.plan.nodes) and self.plan.nodes[origin].type == "PrimitiveNode":
            self.plan.fill(origin, index, spec)
        return True

    def _outputs(self, index: int, outputs: Sequence[Any]) -> None:
        inner = {link.origin_slot for link in self.outgoing.get(index, ())}
        for slot, kind in enumerate(outputs):
            if self._is_visible(
                index, slot, default=slot not in inner or (index, slot) in self.external
            ):
                self.plan.outputs.append((index, slot))
                self.plan.output_types.append(kind)

    def _is_visible(self, index: int, slot: int, *, default: bool) -> bool:
        visible = self._settings(index, "output", str(slot)).get("visible")
        return visible if isinstance(visible, bool) else default

    def _settings(self, index: int, side: str, name: str) -> Mapping[str, Any]:
        """Return what the group's settings say about an inner input or output."""
        found: Any = self.raw.get("config")
        for key in (str(index), side, name):
            found = found.get(key) if isinstance(found, Mapping) else None
        return found if isinstance(found, Mapping) else {}


def _text(value: object) -> str:
    return value if isinstance(value, str) else ""
