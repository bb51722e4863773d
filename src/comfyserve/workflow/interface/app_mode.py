"""Inputs and outputs as the editor's app mode keeps them, in `extra.linearData`.

`inputs` holds `[node id, widget name]`, newer files `["graph:node:widget", widget name]`; `outputs` holds node ids. The
ids are those of the editor: a node may have moved into a subgraph since, or be one that only holds a value for
others.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from comfyserve.workflow.graph import SavedGraph, UiWorkflow
from comfyserve.workflow.interface.entries import Entry
from comfyserve.workflow.interface.marks import no_place
from comfyserve.workflow.problems import Problem
from comfyserve.workflow.prompt_nodes import Nodes, Place
from comfyserve.workflow.reader import node_id

Promoted = Mapping[tuple[str, str], Sequence[tuple[str, str]]]
_PRIMITIVE = "PrimitiveNode"
_REROUTE = "Reroute"


class Finder:
    """Finds where a widget of the editor ends up in the prompt."""

    def __init__(self, nodes: Nodes, workflow: UiWorkflow, promoted: Promoted) -> None:
        """`promoted`: by subgraph instance and input, the node inputs that get its value."""
        self._nodes = nodes
        self._promoted = promoted
        self._graphs = [workflow.graph, *(each.graph for each in workflow.definitions)]
        self._by_end: dict[str, list[str]] = {}
        for path in nodes.prompt:
            self._by_end.setdefault(path.rpartition(":")[2], []).append(path)

    def places(self, node: str, widget: str) -> tuple[Place, ...]:
        """Return the node inputs that a widget sets; none where it is not there."""
        found = self._promoted.get((node, widget))
        if found:
            return tuple(Place(*each) for each in found)
        here = self._set_inputs([node], widget)
        return here or self._set_inputs(self._by_end.get(node, []), widget) or self._held(node)

    def _set_inputs(self, paths: Sequence[str], widget: str) -> tuple[Place, ...]:
        places = (Place(path, widget) for path in paths)
        return tuple(place for place in places if self._nodes.is_set(place))

    def _held(self, node: str) -> tuple[Place, ...]:
        """Return what one of the editor's own primitives sets."""
        found: list[Place] = []
        for graph in self._graphs:
            if any(each.id == node and each.type == _PRIMITIVE for each in graph.nodes):
                found += self._targets(graph, node)
        return tuple(dict.fromkeys(found))

    def _targets(self, graph: SavedGraph, start: str) -> Iterator[Place]:
        """Follow the links of a primitive, through reroutes, to the inputs at their ends."""
        nodes = {each.id: each for each in graph.nodes}
        seen, left = {start}, [start]
        while left:
            origin = left.pop()
            for link in graph.links.values():
                target = nodes.get(link.target_id)
                if link.origin_id != origin or target is None:
                    continue
                if target.type == _REROUTE and target.id not in seen:
                    seen.add(target.id)
                    left.append(target.id)
                for slot in target.inputs:
                    if slot.link == link.id:
                        yield from self.places(target.id, slot.name)


def linear_data(workflow: UiWorkflow) -> Mapping[str, Any] | None:
    """Return what app mode keeps, if it keeps anything."""
    data = workflow.extra.get("linearData")
    if isinstance(data, Mapping) and (data.get("inputs") or data.get("outputs")):
        return data
    return None


def app_inputs(
    data: Mapping[str, Any], finder: Finder, nodes: Nodes, problems: list[Problem]
) -> Iterator[Entry]:
    """Go through the inputs of app mode; one that is not there is a problem."""
    listed = data.get("inputs")
    for entry in listed if isinstance(listed, list) else ():
        if not isinstance(entry, list) or len(entry) < 2 or not isinstance(entry[1], str):
            continue
        node = _node(entry[0])
        if node is None:
            continue
        places = finder.places(node, entry[1])
        if places:
            yield Entry(places)
        else:
            problems.append(no_place(Place(node, entry[1]), nodes))


def app_outputs(data: Mapping[str, Any], nodes: Nodes) -> Iterator[tuple[str, str]]:
    """Go through the output nodes of app mode."""
    listed = data.get("outputs")
    wanted = {node_id(each) for each in listed} if isinstance(listed, list) else set()
    for path in nodes.outputs:
        if path in wanted or path.rpartition(":")[2] in wanted:
            yield path, ""


def _node(value: object) -> str | None:
    """Read a node id, alone or between graph and widget."""
    text = node_id(value)
    if text is None or text.count(":") < 2:
        return text
    return text.split(":")[1]
