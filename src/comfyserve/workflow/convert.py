"""Convert a UI workflow into a prompt as ComfyUI's own frontend does (`graphToPrompt`)."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final

from comfyserve.workflow.bounds import Unbounded
from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.editor import VIRTUAL, Kind, Node, Role
from comfyserve.workflow.expansion import Scope, expand
from comfyserve.workflow.flavours import RULES, Flavour, FrontendRules
from comfyserve.workflow.graph import SavedNode, UiWorkflow
from comfyserve.workflow.group_nodes import plan_groups
from comfyserve.workflow.loading import Loaded, load, mend_values, spread_promoted
from comfyserve.workflow.nodes import index_targets
from comfyserve.workflow.primitives import apply_primitives, prepare_primitives
from comfyserve.workflow.problems import Problem
from comfyserve.workflow.report import Report
from comfyserve.workflow.resolve import Break, Origin, Resolver, Value
from comfyserve.workflow.rewiring import Rewiring
from comfyserve.workflow.sending import Sender, wrapped
from comfyserve.workflow.ungroup import ungroup
from comfyserve.workflow.values import UNSET, Choose, first_choice

_MADE_IN_BROWSER: Final = {"Load3D": "image", "WebcamCapture": "image", "RecordAudio": "audio"}


@dataclass(frozen=True, slots=True)
class Conversion:
    """The prompt of a UI workflow, and what had to be assumed or left out on the way."""

    prompt: dict[str, Any]
    """Nodes by id in API format; those inside subgraphs are called `outer:inner`."""
    problems: tuple[Problem, ...]
    nodes: Mapping[str, SavedNode]
    """Where each node of the prompt comes from."""
    promoted: Mapping[tuple[str, str], Sequence[tuple[str, str]]] = field(default_factory=dict)
    """By subgraph instance and input: the node inputs of the prompt that get its value."""


def convert(
    workflow: UiWorkflow,
    catalog: NodeCatalog,
    *,
    flavour: Flavour = Flavour.NEW,
    choose: Choose = first_choice,
    now: datetime | None = None,
) -> Conversion:
    """Convert a UI workflow; what is wrong with it becomes a problem, nothing raises.

    `choose` picks an alternative of dynamic prompts (`{a|b}`), the first by default, where the editor
    throws dice. `now` fills `%date:...%` in file names, which stay as they are without it.
    """
    rules = RULES[flavour]
    report = Report()
    for sentence in workflow.dropped:
        report.part_left_out(sentence)
    try:
        loaded = _loaded(workflow, catalog, rules)
        sender = Sender(rules, tuple(loaded.graphs), choose, now)
        _settle(loaded, sender, report)
        scopes = expand(loaded.root, inactive_hides=rules.inactive_instance_hides_nodes)
        writer = _Writer(Resolver(rules, loaded.maker.budget), sender, report)
        prompt = writer.write(scopes)
    except Unbounded as unbounded:
        report.add(unbounded.problem)
        return Conversion({}, tuple(report.problems), {})
    return Conversion(prompt, tuple(report.problems), writer.nodes, writer.promoted)


def _settle(loaded: Loaded, sender: Sender, report: Report) -> None:
    """Let types and the values of primitives pass on."""
    maker = loaded.maker
    for graph, definition in loaded.each:
        rewiring = Rewiring(graph, definition, maker.catalog.entries, maker.budget)
        rewiring.settle(matches_types=maker.rules.matches_types)
        for node, slot, link in rewiring.dropped:
            report.link_dropped(node, node.id, slot.name, link, Break.WRONG_TYPE)
    for graph in loaded.graphs:
        apply_primitives(graph, loaded.root, maker, sender.replaced)
    if maker.rules.spreads_promoted:
        spread_promoted(loaded, maker.rules)


def _loaded(workflow: UiWorkflow, catalog: NodeCatalog, rules: FrontendRules) -> Loaded:
    """Load a workflow up to the point where the editor would show it."""
    plans = plan_groups(workflow.group_nodes, catalog, rules)
    group_types = {name: plan.node_class() for name, plan in plans.items()}
    loaded = load(workflow, catalog, rules, group_types)
    for graph in loaded.graphs:
        prepare_primitives(graph, loaded.maker)
    mend_values(loaded, rules)
    if plans:
        ungroup(loaded, plans)
        index_targets(loaded.root)
        prepare_primitives(loaded.root, loaded.maker)
    return loaded


@dataclass(frozen=True, slots=True)
class _Writer:
    """Writes the prompt node by node."""

    resolver: Resolver
    sender: Sender
    report: Report
    nodes: dict[str, SavedNode] = field(default_factory=dict)
    promoted: dict[tuple[str, str], list[tuple[str, str]]] = field(default_factory=dict)

    def write(self, scopes: list[Scope]) -> dict[str, Any]:
        prompt: dict[str, Any] = {}
        for scope in scopes:
            for node in scope.graph.nodes:
                if node.role in VIRTUAL or not node.is_active:
                    continue
                node_id = scope.path(node)
                if node_id in prompt and not self._replaces(scope, node):
                    self.report.duplicate_id(node, node_id)
                    continue
                prompt[node_id] = self._node(scope, node, node_id)
                self.nodes[node_id] = node.saved
        _drop_links_to_nowhere(prompt)
        return prompt

    def _replaces(self, scope: Scope, node: Node) -> bool:
        """Whether the later of two nodes with one id is the one that the editor runs."""
        first = scope.graph.by_id[node.id]
        return not any(slot.link is not None for each in (first, node) for slot in each.inputs)

    def _node(self, scope: Scope, node: Node, node_id: str) -> dict[str, Any]:
        inputs = self.sender.inputs(node, is_shown=scope.parent is None)
        for index, slot in enumerate(node.inputs):
            if slot.link is not None:
                self._connect(scope, node, index, inputs)
        if node.role is Role.UNKNOWN:
            self.report.unknown_class(node, node_id)
        elif node.type in _MADE_IN_BROWSER:
            self.report.needs_editor(node, node_id, _MADE_IN_BROWSER[node.type])
        return {"inputs": inputs, "class_type": node.type, "_meta": {"title": node.title}}

    def _connect(self, scope: Scope, node: Node, index: int, inputs: dict[str, Any]) -> None:
        slot = node.inputs[index]
        match self.resolver.resolve(scope, node, index):
            case Origin(node_id, output):
                inputs[slot.name] = [node_id, output]
            case Value(value, instance_id, name):
                inputs.pop(slot.name, None)
                place = (scope.path(node), slot.name)
                self.promoted.setdefault((instance_id, name), []).append(place)
                if value is not UNSET:
                    inputs[slot.name] = wrapped(value, Kind.OTHER)
            case Break() as why:
                path, link = scope.path(node), slot.link or ""
                self.report.link_dropped(node, path, slot.name, link, why)
            case None:
                pass


def _drop_links_to_nowhere(prompt: dict[str, Any]) -> None:
    """Remove connections to nodes that do not run."""
    for node in prompt.values():
        inputs = node["inputs"]
        gone = [k for k, v in inputs.items() if isinstance(v, list) and v[0] not in prompt]
        for name in gone:
            del inputs[name]
