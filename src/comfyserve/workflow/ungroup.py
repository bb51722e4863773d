"""Put the inner nodes of legacy group nodes in their place, with their values and connections."""

from collections.abc import Mapping

from comfyserve.workflow.editor import Graph, Link, Node, Role
from comfyserve.workflow.graph import Mode, SavedNode
from comfyserve.workflow.group_nodes import GroupPlan
from comfyserve.workflow.loading import Loaded, number_of
from comfyserve.workflow.resolve import are_compatible


def ungroup(loaded: Loaded, plans: Mapping[str, GroupPlan]) -> None:
    """Replace every group node of the root graph, in the order of the file."""
    counters = loaded.counters
    for graph in loaded.graphs:
        counters.node = max(counters.node, *(number_of(node.id) for node in graph.nodes), 0)
    root = loaded.root
    groups = [node for node in root.nodes if node.role is Role.GROUP]
    for group in groups:
        loaded.maker.budget.make(len(plans[group.type].nodes))
        _Unpacking(loaded, root, group, plans[group.type]).run()
    root.nodes = [node for node in root.nodes if node.role is not Role.GROUP]
    for group in groups:
        if root.by_id.get(group.id) is group:
            del root.by_id[group.id]
    for node in root.nodes:  # one that had the id of a group was not found by it until now
        root.by_id.setdefault(node.id, node)


class _Unpacking:
    """Replaces one group node."""

    def __init__(self, loaded: Loaded, graph: Graph, group: Node, plan: GroupPlan) -> None:
        self.loaded, self.graph, self.group, self.plan = loaded, graph, group, plan
        self.nodes: list[Node] = []
        self.becomes_subgraph = loaded.maker.rules.converts_group_nodes

    def run(self) -> None:
        values = self._values()
        ids = self._ids()
        for index, saved in enumerate(self.plan.nodes):
            self.nodes.append(self._add(ids[index], saved, values.get(index, {})))
        for link in self.plan.links:
            if 0 <= link.origin < len(self.nodes) and 0 <= link.target < len(self.nodes):
                origin, target = self.nodes[link.origin], self.nodes[link.target]
                self._feed(origin, link.origin_slot, target, link.target_slot)
        if not self.becomes_subgraph:
            self._apply_primitives()
        self._reconnect_inputs()
        self._reconnect_outputs()

    def _ids(self) -> list[str]:
        """Return the ids of the inner nodes in the prompt.

        Newer editors make the inner nodes first and the subgraph around them after.
        """
        count = len(self.plan.nodes)
        if not self.becomes_subgraph:
            return [f"{self.group.id}:{index}" for index in range(count)]
        inner = [self.loaded.counters.next_node() for _ in range(count)]
        outer = self.loaded.counters.next_node()
        return [f"{outer}:{each}" for each in inner]

    def _values(self) -> dict[int, dict[str, object]]:
        """Return what the group's widgets say about those inside, by place and input."""
        found: dict[int, dict[str, object]] = {}
        for widget in self.group.widgets:
            if widget.name in self.plan.widgets:
                index, name = self.plan.widgets[widget.name]
                found.setdefault(index, {})[name] = widget.value
        return found

    def _add(self, node_id: str, saved: SavedNode, values: Mapping[str, object]) -> Node:
        maker = self.loaded.maker
        if saved.type == "PrimitiveNode":
            # Becoming a subgraph costs a primitive its value: it takes that of its target.
            saved = saved._replace(values=None)
        node = maker.make(saved, node_id)
        maker.fill(node, self.graph)
        for slot in node.inputs:
            slot.link = None
        for output in node.outputs:
            output.links = []
        for name, value in values.items():
            widget = node.widget(name)
            if widget is not None:
                maker.assign(node, self.graph, widget, value)
        self.graph.add(node)
        return node

    def _apply_primitives(self) -> None:
        """Put the values of inner primitives where they belong."""
        maker = self.loaded.maker
        for widget in self.group.widgets:
            primitive, name = self.plan.widgets.get(widget.name, (-1, ""))
            for place, target in self.plan.primitives.get(primitive, ()):
                inner = self.nodes[place].widget(target) if name == "value" else None
                if inner is not None:
                    maker.assign(self.nodes[place], self.graph, inner, widget.value)

    def _feed(self, origin: Node, slot: int, inner: Node, target_slot: int) -> None:
        """Connect an inner input; the older editor sees no further than the node that feeds it."""
        if self.becomes_subgraph:
            self._connect(origin, slot, inner, target_slot)
        elif 0 <= target_slot < len(inner.inputs):
            runs = origin.role in (Role.CLASS, Role.UNKNOWN) and origin.is_active
            inner.inputs[target_slot].link = (
                self._link(origin, slot, inner, target_slot) if runs else None
            )

    def _connect(self, origin: Node, slot: int, target: Node, target_slot: int) -> None:
        """Connect two nodes in place of what was there; the editor lets types of a subgraph decide."""
        if not (0 <= slot < len(origin.outputs) and 0 <= target_slot < len(target.inputs)):
            return
        output, entry = origin.outputs[slot], target.inputs[target_slot]
        if self.becomes_subgraph and not are_compatible(output.type, entry.type):
            return
        self.graph.disconnect(entry)
        entry.link = self._link(origin, slot, target, target_slot)
        output.links.append(entry.link)

    def _link(self, origin: Node, slot: int, target: Node, target_slot: int) -> str:
        link = Link(self.loaded.counters.next_link(), origin.id, slot, target.id, target_slot)
        self.graph.links[link.id] = link
        return link.id

    def _reconnect_inputs(self) -> None:
        for slot, (index, at, name) in zip(self.group.inputs, self.plan.inputs, strict=False):
            link = self.graph.links.get(slot.link) if slot.link is not None else None
            origin = self.graph.by_id.get(link.origin_id) if link is not None else None
            node = self.nodes[index]
            if self.becomes_subgraph:
                at = next((i for i, each in enumerate(node.inputs) if each.name == name), -1)
            if link is not None and origin is not None:
                self._feed(origin, link.origin_slot, node, at)

    def _reconnect_outputs(self) -> None:
        for output, (index, slot) in zip(self.group.outputs, self.plan.outputs, strict=False):
            for link_id in list(output.links):
                link = self.graph.links.get(link_id)
                target = self.graph.by_id.get(link.target_id) if link is not None else None
                if link is None or target is None or not self._is_held(link, target):
                    continue
                if self._is_passed_by():
                    self._pass_by(target, link)
                else:
                    self._connect(self.nodes[index], slot, target, link.target_slot)

    def _is_held(self, link: Link, target: Node) -> bool:
        """Whether a link is there: newer editors ask the output that lists it, older ones the input."""
        return self.becomes_subgraph or target.slot_with(link.id) is not None

    def _is_passed_by(self) -> bool:
        return self.group.mode == Mode.BYPASSED and not self.becomes_subgraph

    def _pass_by(self, target: Node, link: Link) -> None:
        """Lead a link of a bypassed group to its input of the very same type."""
        if not 0 <= link.target_slot < len(target.inputs):
            return
        wanted = target.inputs[link.target_slot].type
        inputs = self.group.inputs
        for index in (link.origin_slot, *range(len(inputs))):
            if index < len(inputs) and inputs[index].type == wanted:
                before = self.graph.links.get(inputs[index].link or "")
                origin = self.graph.by_id.get(before.origin_id) if before is not None else None
                if before is not None and origin is not None:
                    self._connect(origin, before.origin_slot, target, link.target_slot)
                    return
                break
        self.graph.disconnect(target.inputs[link.target_slot])
