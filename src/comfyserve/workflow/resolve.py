"""Follow a connection back to the node that makes its value.

On the way lie reroutes, bypassed nodes, borders of subgraphs and named connections; at the end a
node's output, the value of a promoted widget, or nothing. Facts: `ExecutableNodeDTO` of ComfyUI's frontend.
Nothing here recurses: a chain may have as many links as the file has.
"""

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Final, TypeAlias

from comfyserve.workflow.bounds import Budget
from comfyserve.workflow.editor import Graph, Node, Role
from comfyserve.workflow.expansion import Scope
from comfyserve.workflow.flavours import FrontendRules
from comfyserve.workflow.graph import SUBGRAPH_INPUT_ID, Mode

_ANY: Final = frozenset({"*", ""})


@dataclass(frozen=True, slots=True)
class Origin:
    """The output that a connection comes from."""

    node_id: str
    slot: int


@dataclass(frozen=True, slots=True)
class Value:
    """The promoted widget that stands in for a connection."""

    value: Any
    instance_id: str
    """The subgraph instance that holds it."""
    name: str
    """The input of that instance."""


class Break(StrEnum):
    """Why a connection that the file has leads nowhere."""

    NO_RECORD = "the file has no record of the link"
    NO_NODE = "the node it comes from does not exist"
    NO_SLOT = "the slot it comes from does not exist"
    WRONG_TYPE = "what comes in is of another type"
    CIRCLE = "it leads in a circle"
    NO_NAME = "no node gives the named connection a value"


_Place: TypeAlias = tuple[int, int, int, str | None, bool]


@dataclass(slots=True)
class _Walk:
    """Where following a connection has got to: an input slot, or an output slot."""

    scope: Scope
    node: Node
    slot: int
    type: str | None
    """Type of the input that asks; `None`: that of the input at hand."""
    is_input: bool
    passed: dict[_Place, None] = field(default_factory=dict)

    def at_input(self, scope: Scope, node: Node, slot: int, kind: str | None) -> None:
        self.scope, self.node, self.slot, self.type, self.is_input = scope, node, slot, kind, True

    def at_output(self, scope: Scope, node: Node, slot: int, kind: str) -> None:
        self.scope, self.node, self.slot, self.type, self.is_input = scope, node, slot, kind, False

    @property
    def place(self) -> _Place:
        """Where it is, as a key."""
        return (id(self.scope), id(self.node), self.slot, self.type, self.is_input)


Found: TypeAlias = Origin | Value | Break | None


@dataclass(frozen=True, slots=True)
class Resolver:
    """Follows connections by the rules of a flavour."""

    rules: FrontendRules
    budget: Budget
    known: dict[_Place, "Found"] = field(default_factory=dict)
    """Where the places that were passed lead: many inputs share the end of one chain."""

    def resolve(self, scope: Scope, node: Node, slot: int) -> Found:
        """Return what an input gets, `None` for nothing."""
        near = _next_door(scope, node, slot)
        if near is not None:
            return near
        walk = _Walk(scope, node, slot, None, is_input=True)
        found = self._follow(walk)
        for place in walk.passed:
            self.known[place] = found
        return found

    def _follow(self, walk: _Walk) -> "Found":
        while True:
            self.budget.search(1)
            place = walk.place
            if place in self.known:
                return self.known[place]
            if place in walk.passed:
                return Break.CIRCLE
            walk.passed[place] = None
            is_done, found = self._input(walk) if walk.is_input else self._output(walk)
            if is_done:
                return found

    def _input(self, walk: _Walk) -> tuple[bool, Found]:
        """Go from an input slot to what is connected to it."""
        if not 0 <= walk.slot < len(walk.node.inputs):
            return True, Break.NO_SLOT
        slot = walk.node.inputs[walk.slot]
        if slot.link is None:
            return True, None
        link = walk.scope.graph.links.get(slot.link)
        if link is None:
            return True, Break.NO_RECORD
        if link.origin_id == SUBGRAPH_INPUT_ID and walk.scope.instance is not None:
            return self._leave(walk, link.origin_slot)
        origin = walk.scope.graph.by_id.get(link.origin_id)
        if origin is None:
            return True, Break.NO_NODE
        kind = slot.type if walk.type is None else walk.type
        walk.at_output(walk.scope, origin, link.origin_slot, kind)
        return False, None

    def _leave(self, walk: _Walk, index: int) -> tuple[bool, Found]:
        """Go out of a subgraph through one of its inputs."""
        instance, parent = walk.scope.instance, walk.scope.parent
        if instance is None or parent is None or not 0 <= index < len(instance.inputs):
            return True, Break.NO_SLOT
        outer = instance.inputs[index]
        if outer.link is None:
            promoted = outer.promoted
            if promoted is None:
                return True, None
            return True, Value(promoted.value, parent.path(instance), outer.name)
        link = parent.graph.links.get(outer.link)
        if link is None:
            return True, Break.NO_RECORD
        # The slot in the link's record, not `index`: they differ where two inputs claim one link.
        walk.at_input(parent, instance, link.target_slot, None)
        return False, None

    def _output(self, walk: _Walk) -> tuple[bool, Found]:
        """Go from an output slot to where its value really comes from."""
        node = walk.node
        if node.mode == Mode.MUTED and self.rules.muted_blocks:
            return True, None
        if node.mode == Mode.BYPASSED:
            return _go_on(walk, node, bypass_index(node, walk.slot, walk.type or ""), None)
        return self._by_role(walk, node)

    def _by_role(self, walk: _Walk, node: Node) -> tuple[bool, Found]:
        match node.role:
            case Role.CLASS | Role.UNKNOWN:
                return True, Origin(walk.scope.path(node), walk.slot)
            case Role.INSTANCE:
                return self._enter(walk)
            case Role.GETTER:
                return self._named(walk)
            case Role.REROUTE:
                return self._reroute(walk, node)
            case Role.SETTER:
                return _go_on(walk, node, 0, walk.type)
            case Role.PRIMITIVE | Role.NOTE | Role.GROUP:
                return True, None

    def _reroute(self, walk: _Walk, node: Node) -> tuple[bool, Found]:
        """Go from a reroute's output to its input."""
        if self.rules.reroutes_by_record and 0 <= walk.slot < len(node.inputs):
            graph = walk.scope.graph
            link = graph.links.get(node.inputs[walk.slot].link or "")
            target = graph.by_id.get(link.target_id) if link is not None else None
            if link is not None and target is not None:
                return _go_on(walk, target, link.target_slot, walk.type)
        return _go_on(walk, node, walk.slot, walk.type)

    def _enter(self, walk: _Walk) -> tuple[bool, Found]:
        """Go into a subgraph through one of its outputs."""
        definition, inner = walk.node.definition, walk.scope.inner.get(id(walk.node))
        if definition is None or inner is None or not 0 <= walk.slot < len(definition.outputs):
            return True, Break.NO_SLOT
        links = definition.graph.links
        link = next(
            (links[key] for key in definition.outputs[walk.slot].links if key in links), None
        )
        if link is None:
            return True, None
        if link.origin_id == SUBGRAPH_INPUT_ID:  # an input wired straight to the output
            walk.at_input(walk.scope, walk.node, link.origin_slot, walk.type)
            return False, None
        origin = definition.graph.by_id.get(link.origin_id)
        if origin is None:
            return True, Break.NO_NODE
        walk.at_output(inner, origin, link.origin_slot, walk.type or "")
        return False, None

    def _named(self, walk: _Walk) -> tuple[bool, Found]:
        """Go from a getter to the setter of the same name, in this graph or one around it."""
        name = _connection_name(walk.node)
        scope: Scope | None = walk.scope
        while scope is not None and name:
            self.budget.search(len(scope.graph.nodes))
            setter = _setter(scope.graph, name)
            if setter is not None and setter.inputs:
                walk.at_input(scope, setter, 0, walk.type)
                return False, None
            scope = scope.parent
        return True, Break.NO_NAME


def _next_door(scope: Scope, node: Node, slot: int) -> Origin | None:
    """Return the origin where nothing lies between: the most frequent case by far."""
    graph = scope.graph
    link = graph.links.get(node.inputs[slot].link or "")
    origin = graph.by_id.get(link.origin_id) if link is not None else None
    if link is None or origin is None or origin.role is not Role.CLASS or not origin.is_active:
        return None
    return Origin(scope.prefix + origin.id, link.origin_slot)


def _go_on(walk: _Walk, node: Node, index: int | None, kind: str | None) -> tuple[bool, Found]:
    """Go from a node's output to one of its inputs, if it has that."""
    if index is None or not 0 <= index < len(node.inputs):
        return True, None
    walk.at_input(walk.scope, node, index, kind)
    return False, None


def bypass_index(node: Node, output: int, wanted: str) -> int | None:
    """Return which input of a bypassed node passes for an output; `wanted`: type of the final input."""
    inputs = node.inputs
    if not 0 <= output < len(node.outputs):
        return None
    if wanted in _ANY:
        return output if output < len(inputs) else 0
    made = node.outputs[output].type

    def fits(kind: str) -> bool:
        return are_compatible(kind, made) and are_compatible(kind, wanted)

    if output < len(inputs) and fits(inputs[output].type):
        return output
    for index, slot in enumerate(inputs):
        if slot.type == wanted:
            return index
    return next((index for index, slot in enumerate(inputs) if fits(slot.type)), None)


def are_compatible(one: str, other: str) -> bool:
    """Whether two slot types connect: any matches all, lists match where one pair does."""
    if one in _ANY or other in _ANY or one == other:
        return True
    left, right = one.lower(), other.lower()
    if "," not in left and "," not in right:
        return left == right
    rights = right.split(",")
    return any(a in _ANY or b in _ANY or a == b for a in left.split(",") for b in rights)


def _setter(graph: Graph, name: str) -> Node | None:
    return next(
        (n for n in graph.nodes if n.role is Role.SETTER and _connection_name(n) == name), None
    )


def _connection_name(node: Node) -> str:
    values = node.saved.values
    name = values[0] if isinstance(values, list) and values else None
    return name if isinstance(name, str) else ""
