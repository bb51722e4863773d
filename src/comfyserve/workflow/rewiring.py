"""What the editor changes once a workflow is loaded: slots that take the type of what they are connected to.

Reroutes and matching inputs (`COMFY_MATCHTYPE_V3`) pass their type on, and connections that do not fit are
dropped. Facts: `rerouteNode.ts` and `dynamicWidgets.ts` of ComfyUI's frontend.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from comfyserve.workflow.bounds import Budget
from comfyserve.workflow.editor import Definition, Graph, Link, Node, Output, Role, Slot
from comfyserve.workflow.graph import SUBGRAPH_INPUT_ID, SUBGRAPH_OUTPUT_ID
from comfyserve.workflow.resolve import are_compatible

_ANY: Final = "*"
_STEPS_PER_NODE: Final = 50


@dataclass(slots=True)
class Rewiring:
    """Settles the types of one graph."""

    graph: Graph
    definition: Definition | None
    """The subgraph definition that the graph is the inside of."""
    entries: Mapping[str, Mapping[str, Any]]
    """The catalog's entries: they say which outputs follow which inputs."""
    budget: Budget
    dropped: list[tuple[Node, Slot, str]] = field(default_factory=list)
    """Connections that did not fit: node, input and the id of the link."""

    def settle(self, *, matches_types: bool) -> None:
        """Pass types on, first through matching inputs, then through reroutes."""
        if matches_types:
            for node in self.graph.nodes:
                for slot in node.inputs:
                    if slot.match is not None:
                        self._match(node, slot)
        settled: set[int] = set()
        for node in self.graph.nodes:
            if node.role is Role.REROUTE and node.outputs and id(node) not in settled:
                settled.update(map(id, self._reroute(node)))

    def _match(self, node: Node, slot: Slot) -> None:
        """Settle the group of one matching input, then those that hang on its outputs."""
        pending = [(node, slot)]
        for _ in range(_STEPS_PER_NODE * (len(self.graph.nodes) + 1)):
            if not pending:
                return
            self.budget.search(len(pending[-1][0].inputs))
            node, slot = pending.pop()
            key = slot.match
            group = [each for each in node.inputs if each.match == key]
            types = [self._incoming_type(each) for each in group]
            for index, each in enumerate(group):
                common = common_type([*types[:index], *types[index + 1 :], each.allowed])
                if common is None:
                    break
                each.type = common
            else:
                made = common_type(types)
                if made is not None:
                    pending += self._spread(node, key or "", made)

    def _spread(self, node: Node, key: str, made: str) -> list[tuple[Node, Slot]]:
        """Give the outputs of a group their type; return matching inputs further on."""
        keys = self.entries.get(node.type, {}).get("output_matchtypes")
        keys = keys if isinstance(keys, list) else []
        further: list[tuple[Node, Slot]] = []
        for output, output_key in zip(node.outputs, keys, strict=False):
            if output_key != key or output.type == made:
                continue
            output.type = made
            for _, target, slot in list(self._targets(output)):
                if not are_compatible(made, slot.type):
                    self._drop(target, slot)
                if slot.match is not None:
                    further.append((target, slot))
            self._drop_from_boundary(output)
        return further

    def _incoming_type(self, slot: Slot) -> str:
        link = self.graph.links.get(slot.link) if slot.link is not None else None
        if link is None:
            return _ANY
        if link.origin_id == SUBGRAPH_INPUT_ID and self.definition is not None:
            sides = self.definition.inputs
            return sides[link.origin_slot].type if 0 <= link.origin_slot < len(sides) else _ANY
        origin = self.graph.by_id.get(link.origin_id)
        if origin is None or not 0 <= link.origin_slot < len(origin.outputs):
            return _ANY
        return origin.outputs[link.origin_slot].type

    def _reroute(self, node: Node) -> list[Node]:
        """Drop what hangs on a net of reroutes and does not take what comes into it; return the net."""
        first, made = self._upstream(node)
        if made is None:
            return [node]
        net = [first, *self._downstream(first)]
        for each in net:
            for output in each.outputs[:1]:
                output.type = made
                for _, target, slot in list(self._targets(output)):
                    if target.role is not Role.REROUTE and not are_compatible(made, slot.type):
                        self._drop(target, slot)
        return net

    def _upstream(self, node: Node) -> tuple[Node, str | None]:
        """Return the first reroute of a chain and the type that comes in; `None`: nobody knows."""
        seen = {id(node)}
        while True:
            self.budget.search(1)
            slot = node.inputs[0] if node.inputs else None
            if slot is None or slot.link is None:
                return node, _ANY
            link = self.graph.links.get(slot.link)
            origin = self.graph.by_id.get(link.origin_id) if link is not None else None
            if link is None or origin is None or id(origin) in seen:
                return node, None
            if origin.role is not Role.REROUTE:
                known = 0 <= link.origin_slot < len(origin.outputs)
                return node, (origin.outputs[link.origin_slot].type if known else "") or _ANY
            seen.add(id(origin))
            node = origin

    def _downstream(self, node: Node) -> Iterator[Node]:
        pending, seen = [node], {id(node)}
        while pending:
            for output in pending.pop().outputs[:1]:
                for _, target, _slot in self._targets(output):
                    if target.role is Role.REROUTE and id(target) not in seen:
                        seen.add(id(target))
                        pending.append(target)
                        yield target

    def _targets(self, output: Output) -> Iterator[tuple[Link, Node, Slot]]:
        self.budget.search(len(output.links))
        for link_id in output.links:
            link = self.graph.links.get(link_id)
            target = self.graph.by_id.get(link.target_id) if link is not None else None
            if (
                link is not None
                and target is not None
                and 0 <= link.target_slot < len(target.inputs)
            ):
                yield link, target, target.inputs[link.target_slot]

    def _drop(self, node: Node, slot: Slot) -> None:
        if slot.link is not None:
            self.dropped.append((node, slot, slot.link))
            self.graph.disconnect(slot)

    def _drop_from_boundary(self, output: Output) -> None:
        """Disconnect an output of the subgraph that does not take the new type."""
        if self.definition is None:
            return
        for link_id in list(output.links):
            link = self.graph.links.get(link_id)
            if link is None or link.target_id != SUBGRAPH_OUTPUT_ID:
                continue
            sides = self.definition.outputs
            if not 0 <= link.target_slot < len(sides):
                continue
            if not are_compatible(output.type, sides[link.target_slot].type):
                sides[link.target_slot].links.clear()
                del self.graph.links[link_id]


def common_type(types: list[str]) -> str | None:
    """Return what all types share, `"*"` where none is particular, `None` where nothing fits all."""
    lists = [kind.split(",") for kind in types if kind != _ANY]
    if not lists:
        return _ANY
    shared = [kind for kind in dict.fromkeys(lists[0]) if all(kind in other for other in lists[1:])]
    return ",".join(shared) or None
