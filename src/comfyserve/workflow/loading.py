"""Load a UI workflow the way the editor does: definitions first, innermost before outermost.

Facts: `LGraph.configure`, `subgraphDeduplication.ts` and `loadGraphData` of ComfyUI's frontend.
"""

from collections import deque
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

from comfyserve.workflow.bounds import Budget
from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.editor import (
    Boundary,
    Counters,
    Definition,
    Graph,
    Kind,
    Link,
    Node,
    Output,
    Role,
    Slot,
)
from comfyserve.workflow.flavours import FrontendRules
from comfyserve.workflow.graph import SavedBoundary, SavedDefinition, SavedGraph, UiWorkflow
from comfyserve.workflow.link_repair import repaired
from comfyserve.workflow.nodes import NodeMaker, drop_orphaned_slots, index_targets
from comfyserve.workflow.promotion import promote, promote_late, spread, take_values
from comfyserve.workflow.proxies import migrate, proxy_entries
from comfyserve.workflow.specs import NodeClass
from comfyserve.workflow.values import UNSET

_SAMPLERS: Final = frozenset({"KSampler", "KSamplerAdvanced"})
_OLD_SAMPLER_PREFIX: Final = "sample_"
_SAVES: Final = 3
"""Times that the editor saves a workflow between loading it and making its prompt."""


@dataclass(slots=True)
class Loaded:
    """A workflow in the editor."""

    root: Graph
    definitions: dict[str, Definition]
    order: list[Definition]
    """The definitions in the order of loading."""
    counters: Counters
    maker: NodeMaker

    @property
    def each(self) -> Iterable[tuple[Graph, Definition | None]]:
        """All graphs with the definition that they are the inside of."""
        yield from ((definition.graph, definition) for definition in self.order)
        yield self.root, None

    @property
    def graphs(self) -> Iterable[Graph]:
        """All graphs, inner ones first."""
        yield from (definition.graph for definition in self.order)
        yield self.root


@dataclass(slots=True)
class Renumbering:
    """New ids for nodes inside subgraphs whose ids are used elsewhere."""

    used: set[str]
    counters: Counters
    by_definition: dict[str, dict[str, str]] = field(default_factory=dict)
    ids: dict[str, list[str]] = field(default_factory=dict)
    """The final ids of each definition's nodes, in file order."""

    def add(self, definition: SavedDefinition) -> None:
        renamed: dict[str, str] = {}
        final: list[str] = []
        for node in definition.graph.nodes:
            new = node.id
            if node.id in self.used:
                new = self._fresh()
                renamed[node.id] = new
            else:
                self.counters.node = max(self.counters.node, number_of(node.id))
            self.used.add(new)
            final.append(new)
        self.by_definition[definition.id] = renamed
        self.ids[definition.id] = final

    def _fresh(self) -> str:
        while (new := self.counters.next_node()) in self.used:
            pass
        return new


def load(
    workflow: UiWorkflow,
    catalog: NodeCatalog,
    rules: FrontendRules,
    group_types: Mapping[str, NodeClass],
) -> Loaded:
    """Build the editor's state for a workflow.

    Raises `Unbounded` where a file asks for more than there is room for; nothing else makes it fail.
    `group_types`: legacy group nodes as classes, see `group_nodes`.
    """
    counters, budget = Counters(workflow.last_node_id), Budget()
    definitions = {
        saved.id: Definition(
            saved.id, saved.name, Graph(), _sides(saved.inputs), _sides(saved.outputs), budget
        )
        for saved in workflow.definitions
    }
    renumbering = renumber(workflow, counters, rules)
    maker = NodeMaker(catalog, rules, definitions, group_types, budget)
    order = workflow.definitions
    if rules.sorts_definitions:
        order = innermost_first(order)
    loaded = Loaded(Graph(), definitions, [definitions[s.id] for s in order], counters, maker)
    for saved in order:
        _load_graph(
            loaded, definitions[saved.id].graph, saved.graph, renumbering, definition_id=saved.id
        )
    root = repaired(workflow.graph) if rules.repairs_links else workflow.graph
    _load_graph(loaded, loaded.root, root, renumbering, definition_id=None)
    for graph in loaded.graphs:
        index_targets(graph)
    for graph in loaded.graphs:
        drop_orphaned_slots(graph)
    return loaded


def number_of(node_id: str) -> int:
    """Return a node id as a number, 0 where it is none."""
    is_number = node_id.isascii() and node_id.isdigit() and len(node_id) < 10
    return int(node_id) if is_number else 0


def _sides(saved: Iterable[SavedBoundary]) -> list[Boundary]:
    return [Boundary(side.name, side.type, list(side.links)) for side in saved]


def renumber(workflow: UiWorkflow, counters: Counters, rules: FrontendRules) -> Renumbering:
    used = {node.id for node in workflow.graph.nodes if node.has_number_id}
    renumbering = Renumbering(used, counters)
    if rules.renumbers_subgraph_nodes:
        for definition in workflow.definitions:
            if not definition.is_nested:
                renumbering.add(definition)
    return renumbering


def innermost_first(definitions: tuple[SavedDefinition, ...]) -> tuple[SavedDefinition, ...]:
    """Sort definitions so that those inside others come before them.

    Where one holds another more than once, or they go in a circle, all stay in the order of the file: the
    frontend counts each instance but settles each definition once. Files depend on what follows from it.
    """
    by_id = {definition.id: definition for definition in definitions}
    users: dict[str, dict[str, None]] = {key: {} for key in by_id}
    waiting = dict.fromkeys(by_id, 0)
    for key, definition in by_id.items():
        for node in definition.graph.nodes:
            if node.type in by_id:
                waiting[key] += 1
                users[node.type][key] = None
    ready = deque(key for key, count in waiting.items() if not count)
    order: list[SavedDefinition] = []
    while ready:
        key = ready.popleft()
        order.append(by_id[key])
        for user in users[key]:
            waiting[user] -= 1
            if not waiting[user]:
                ready.append(user)
    return tuple(order if len(order) == len(by_id) else by_id.values())


def _load_graph(
    loaded: Loaded,
    graph: Graph,
    saved: SavedGraph,
    renumbering: Renumbering,
    *,
    definition_id: str | None,
) -> None:
    """Fill one graph: links, bare nodes, then their contents, then what old files promote."""
    renamed = renumbering.by_definition.get(definition_id, {}) if definition_id else {}
    final_ids = renumbering.ids.get(definition_id) if definition_id else None
    for link in saved.links.values():
        copy = Link.of(link)
        copy.origin_id = renamed.get(copy.origin_id, copy.origin_id)
        copy.target_id = renamed.get(copy.target_id, copy.target_id)
        graph.links[copy.id] = copy
    maker = loaded.maker
    for index, node in enumerate(saved.nodes):
        made = maker.make(node, final_ids[index] if final_ids else node.id)
        graph.add(made)
        if made.definition is not None:
            made.definition.instances.append(made)
            made.inputs = _fresh_slots(made.definition)
    for made in graph.nodes:
        if made.definition is None:
            maker.fill(made, graph)
        else:
            _fill_instance(made, maker.rules)
    if maker.rules.migrates_proxy_widgets:
        for made in graph.nodes:
            if made.definition is not None and "proxyWidgets" in made.properties:
                ids = renumbering.by_definition.get(made.definition.id, {})
                migrate(made, proxy_entries(made, ids), loaded.counters)
    if definition_id is not None:
        promote_late(loaded.definitions[definition_id], maker.rules)


def _fill_instance(instance: Node, rules: FrontendRules) -> None:
    """Give an instance the slots of its definition, its connections and promoted values."""
    definition = instance.definition
    if definition is None:
        return
    saved = {entry.name: entry for entry in instance.saved.inputs}
    instance.inputs = _fresh_slots(definition)
    for slot in instance.inputs:
        entry = saved.get(slot.name)
        slot.link = None if entry is None else entry.link
    instance.outputs = [Output(side.name, side.type) for side in definition.outputs]
    for output, saved_output in zip(instance.outputs, instance.saved.outputs, strict=False):
        output.links = list(saved_output.links)
    if rules.keeps_extra_instance_inputs:
        known = {slot.name for slot in instance.inputs}
        extra = [entry for entry in instance.saved.inputs if entry.name not in known]
        definition.budget.make(len(extra))
        instance.inputs += [Slot(entry.name, entry.type, entry.link) for entry in extra]
    for slot in instance.inputs:
        promote(definition, slot, rules)
    take_values(instance, rules)


def _fresh_slots(definition: Definition) -> list[Slot]:
    definition.budget.make(len(definition.inputs) + len(definition.outputs))
    return [Slot(side.name, side.type, boundary=side) for side in definition.inputs]


def spread_promoted(loaded: Loaded, rules: FrontendRules) -> None:
    """Write what instances promote into their definitions, as often as the editor saves on its way."""
    graphs = [loaded.root, *(definition.graph for definition in loaded.definitions.values())]
    for _ in range(_SAVES):
        for graph in graphs:
            for node in graph.nodes:
                if node.definition is not None:
                    spread(node, rules)


def mend_values(loaded: Loaded, rules: FrontendRules) -> None:
    """Apply the repairs that the editor makes to values of old files once all is loaded."""
    graphs = loaded.graphs if rules.fills_empty_combos else [loaded.root]
    for graph in graphs:
        for node in graph.nodes:
            _mend(node, graph, loaded.maker)


def _mend(node: Node, graph: Graph, maker: NodeMaker) -> None:
    if node.type in _SAMPLERS:
        sampler = node.widget("sampler_name")
        if sampler is not None and isinstance(sampler.value, str):
            sampler.value = sampler.value.removeprefix(_OLD_SAMPLER_PREFIX)
    if not maker.rules.fills_empty_combos:
        return
    widgets = node.widgets
    if node.role is Role.INSTANCE:
        widgets = [slot.promoted for slot in node.inputs if slot.promoted is not None]
    for widget in list(widgets):
        if widget.value is not None and widget.value is not UNSET:
            continue
        if widget.kind not in (Kind.COMBO, Kind.DYNAMIC_COMBO) or not widget.choices:
            continue
        if node.role is Role.INSTANCE:  # a copy of a dynamic combo changes no inputs
            widget.value = widget.choices[0]
        else:
            maker.assign(node, graph, widget, widget.choices[0])
