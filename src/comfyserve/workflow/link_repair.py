"""Mend the root graph's lists of outgoing links, as the older frontend does before it loads a file.

Facts: `fixBadLinks` of frontend 1.27, which `Comfy.Validation.Workflows` switches on by default; 1.49 has it
switched off. Of what it does only the lists of links at outputs reach a prompt, by way of the primitives.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from comfyserve.workflow.graph import SavedGraph, SavedLink, SavedNode


class _GivesUp(Exception):
    """The frontend's repair finds itself in contradiction and leaves the file as it was."""


@dataclass(frozen=True, slots=True)
class _Repair:
    nodes: dict[str, SavedNode]
    outputs: dict[tuple[str, int], dict[str, None]] = field(default_factory=dict)
    """Links of the outputs that were looked at, in their order."""
    inputs: dict[str, dict[int, str | None]] = field(default_factory=dict)
    """What the repair believes to have set: 1.27 notes it and does not do it."""
    changed: set[tuple[str, int, str]] = field(default_factory=set)

    def run(self, links: Iterator[SavedLink]) -> None:
        for link in links:
            origin, target = self.nodes.get(link.origin_id), self.nodes.get(link.target_id)
            if origin is None and target is not None:
                if self._arrives(target, link):
                    self._note_input(target, link.target_slot, None)
            elif target is None and origin is not None:
                if link.id in self._outgoing(origin, link):
                    self._remove(origin, link)
            elif origin is not None and target is not None:
                self._agree(origin, target, link)

    def _agree(self, origin: SavedNode, target: SavedNode, link: SavedLink) -> None:
        """Let both ends of a link say the same."""
        arrives, leaves = self._arrives(target, link), link.id in self._outgoing(origin, link)
        if arrives and not leaves:
            self._change(origin, link)
            self._outgoing(origin, link)[link.id] = None
        elif leaves and not arrives:
            is_free = not self._has_any(target, link.target_slot)
            if not (is_free and self._note_input(target, link.target_slot, link.id)):
                self._remove(origin, link)

    def _outgoing(self, node: SavedNode, link: SavedLink) -> dict[str, None]:
        key = (node.id, link.origin_slot)
        if key not in self.outputs:
            is_there = 0 <= link.origin_slot < len(node.outputs)
            links = node.outputs[link.origin_slot].links if is_there else ()
            self.outputs[key] = dict.fromkeys(links)
        return self.outputs[key]

    def _remove(self, node: SavedNode, link: SavedLink) -> None:
        self._change(node, link)
        del self._outgoing(node, link)[link.id]

    def _change(self, node: SavedNode, link: SavedLink) -> None:
        key = (node.id, link.origin_slot, link.id)
        if key in self.changed:
            raise _GivesUp
        self.changed.add(key)

    def _arrives(self, node: SavedNode, link: SavedLink) -> bool:
        return self._incoming(node, link.target_slot, link.id) == link.id

    def _has_any(self, node: SavedNode, slot: int) -> bool:
        return self._incoming(node, slot, None) is not None

    def _incoming(self, node: SavedNode, slot: int, asked: str | None) -> str | None:
        held = node.inputs[slot].link if 0 <= slot < len(node.inputs) else None
        if node.id not in self.inputs:
            return held
        noted = self.inputs[node.id].get(slot)
        is_same = (held == asked) == (noted == asked) if asked else bool(held) == bool(noted)
        if not is_same:
            raise _GivesUp
        return noted

    def _note_input(self, node: SavedNode, slot: int, link_id: str | None) -> bool:
        noted = self.inputs.setdefault(node.id, {})
        if slot in noted:
            return False
        noted[slot] = link_id
        return True


def repaired(graph: SavedGraph) -> SavedGraph:
    """Return the graph with both ends of its links in agreement, as far as the frontend gets."""
    repair = _Repair({node.id: node for node in reversed(graph.nodes)})
    try:
        repair.run(reversed(tuple(graph.links.values())))
    except _GivesUp:
        return graph
    if not repair.changed:
        return graph
    touched = {node_id for node_id, _, _ in repair.changed}
    nodes = (
        _with_outputs(node, repair)
        if node.id in touched and node is repair.nodes[node.id]
        else node
        for node in graph.nodes
    )
    return replace(graph, nodes=tuple(nodes))


def _with_outputs(node: SavedNode, repair: _Repair) -> SavedNode:
    outputs = (
        slot._replace(links=tuple(repair.outputs.get((node.id, index), slot.links)))
        for index, slot in enumerate(node.outputs)
    )
    return node._replace(outputs=tuple(outputs))
