"""A quick look at a prompt: most are plainly right, and need no walk to be told so.

What it passes, the walk passes with the same outputs and values and without a remark; a test holds it to that.
Whatever is not plain (inputs that depend on others, a missing input, a value that has to be converted, a cycle)
it leaves to the walk, which knows what ComfyUI says of it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter
from typing import Any

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.checks import types_fit
from comfyserve.workflow.custom_checks import Check, Undecided, given_to, run_check
from comfyserve.workflow.prompt_nodes import upstream
from comfyserve.workflow.quick_plan import QuickInput, QuickPlan
from comfyserve.workflow.rules import Rules
from comfyserve.workflow.specs import NodeClass
from comfyserve.workflow.walk import ENGINE_ERRORS, MAX_DEPTH

_MOST_NODES = MAX_DEPTH // 2
"""So few that no chain of links is too deep for ComfyUI."""
_LARGEST_WHOLE = 2**53
"""Whole numbers up to here are fractions without a loss."""


@dataclass(frozen=True, slots=True)
class PlainlyRight:
    """What is to be known of a prompt that is plainly right."""

    prompt: Mapping[str, Any]
    """With its values converted: a whole number where a fraction is declared."""
    outputs: tuple[str, ...]


class _NotPlain(Exception):
    """Only the walk can tell."""


def look(prompt: object, catalog: NodeCatalog) -> PlainlyRight | None:
    """Return what a prompt runs if it is plainly right, `None` where only the walk can tell."""
    if type(prompt) is not dict or len(prompt) > _MOST_NODES:
        return None
    try:
        plans = {node_id: _plan(node, catalog) for node_id, node in prompt.items()}
        inputs = {
            node_id: _judge(prompt[node_id]["inputs"], plan, plans, catalog)
            for node_id, plan in plans.items()
        }
    except _NotPlain:
        return None
    outputs = tuple([node_id for node_id, plan in plans.items() if plan.is_output])
    graph = {node_id: each.sources for node_id, each in inputs.items()}
    if not outputs or _has_cycle(graph):
        return None
    if not any(each.converted for each in inputs.values()):
        return PlainlyRight(prompt, outputs)
    # ComfyUI leaves the nodes as they are that do not run.
    needed = upstream(outputs, graph.__getitem__)
    return PlainlyRight(
        {
            node_id: _converted(node, inputs[node_id].converted) if node_id in needed else node
            for node_id, node in prompt.items()
        },
        outputs,
    )


def _converted(node: Mapping[str, Any], values: Mapping[str, float]) -> Mapping[str, Any]:
    return {**node, "inputs": {**node["inputs"], **values}} if values else node


def _plan(node: object, catalog: NodeCatalog) -> QuickPlan:
    if type(node) is dict and type(node.get("inputs")) is dict:
        plan = catalog.quick_plan(node.get("class_type"))
        if plan is not None:
            return plan
    raise _NotPlain


class _Judged:
    """What the inputs of one node turned out to be."""

    __slots__ = ("converted", "sources")

    def __init__(self) -> None:
        self.converted: dict[str, float] = {}
        self.sources: list[str] = []


def _judge(
    inputs: Mapping[str, Any],
    plan: QuickPlan,
    plans: Mapping[str, QuickPlan],
    catalog: NodeCatalog,
) -> _Judged:
    judged = _Judged()
    absent = 0
    for each in plan.inputs:
        if each.name not in inputs:
            absent += 1
            if each.is_required:
                raise _NotPlain
            continue
        value = inputs[each.name]
        if type(value) is list:
            judged.sources.append(_source(value, each, plans, catalog.rules))
            continue
        kept = _kept(value, each)
        if kept is not value:
            judged.converted[each.name] = kept
    # Beside an input that is absent, a strange one may be that one, misspelt.
    if absent and len(plan.inputs) - absent != len(inputs):
        raise _NotPlain
    if plan.check is not None:
        _ask(plan.check, plan.node_class, {**inputs, **judged.converted}, catalog)
    return judged


def _ask(
    check: Check, node_class: NodeClass, values: Mapping[str, Any], catalog: NodeCatalog
) -> None:
    """Have the class judge its inputs."""
    given = given_to(check, node_class.inputs, values, {}, catalog.input_files)
    try:
        is_right = run_check(check, node_class, given) is True
    except (Undecided, *ENGINE_ERRORS):
        is_right = False
    if not is_right:
        raise _NotPlain


def _kept(value: Any, wanted: QuickInput) -> Any:  # noqa: ANN401 - any JSON
    """Return a value as ComfyUI keeps it."""
    kind = type(value)
    if wanted.kind is None:
        choices = wanted.choices
        is_taken = kind is not dict if choices is None else kind is str and value in choices
        if not (is_taken and wanted.takes_values):
            raise _NotPlain
        return value
    if kind is not wanted.kind:
        if kind is not int or wanted.kind is not float or abs(value) > _LARGEST_WHOLE:
            raise _NotPlain
        value = float(value)
    is_small = wanted.minimum is not None and value < wanted.minimum
    if is_small or (wanted.maximum is not None and value > wanted.maximum):
        raise _NotPlain
    return value


def _source(
    link: list[Any], wanted: QuickInput, plans: Mapping[str, QuickPlan], rules: Rules
) -> str:
    """Return the node that a link leads to, if its output is there and fits."""
    if len(link) == 2:
        source, slot = link
        if type(source) is str and type(slot) is int and source in plans:
            types = plans[source].output_types
            if 0 <= slot < len(types) and (
                types[slot] == wanted.spec.type or types_fit(types[slot], wanted.spec, rules)
            ):
                return source
    raise _NotPlain


def _has_cycle(graph: Mapping[str, Sequence[str]]) -> bool:
    seen: set[str] = set()
    for node_id, sources in graph.items():
        if not seen.issuperset(sources):
            break
        seen.add(node_id)
    else:
        return False  # every link leads back
    try:
        TopologicalSorter(graph).prepare()
    except CycleError:
        return True
    return False
