"""Calls the function of a node: values in, list by list, and what comes back merged."""

from collections.abc import Callable, Mapping
from typing import Any

from comfyserve.engine.cache import Result, is_link
from comfyserve.engine.nodes.spec import NodeClass, Outcome, Returned

Inputs = Mapping[str, list[Any]]


def gather(
    node_class: NodeClass,
    given: Mapping[str, Any],
    linked: Callable[[list[Any]], list[Any] | None],
) -> dict[str, list[Any]]:
    """Return a list of values for each declared input that is given.

    A constant is a list of one; a link carries whatever its source put out.
    """
    declared = {each.name for each in node_class.inputs}
    gathered: dict[str, list[Any]] = {}
    for name, value in given.items():
        if is_link(value):
            carried = linked(value)
            gathered[name] = [None] if carried is None else carried
        elif name in declared:
            gathered[name] = [value]
    return gathered


def call_node(
    node_class: NodeClass, inputs: Inputs, hidden: Mapping[str, Any], before: Callable[[], None]
) -> Result:
    """Call the function once for each value of the longest list; shorter ones repeat their last.

    `before` runs before each call and may raise.
    """
    returned: list[Returned] = []
    for arguments in _argument_sets(node_class, inputs):
        before()
        returned.append(node_class.run(**arguments, **hidden))
    outcomes = [each if isinstance(each, Outcome) else Outcome(each) for each in returned]
    return Result(_merge_outputs(node_class, outcomes), _merge_ui(outcomes))


def _argument_sets(node_class: NodeClass, inputs: Inputs) -> list[dict[str, Any]]:
    if node_class.takes_lists:
        return [dict(inputs)]
    if not inputs:
        return [{}]
    longest = max(len(values) for values in inputs.values())
    return [
        {name: values[min(index, len(values) - 1)] for name, values in inputs.items()}
        for index in range(longest)
    ]


def _merge_outputs(node_class: NodeClass, outcomes: list[Outcome]) -> tuple[list[Any], ...]:
    merged: list[list[Any]] = []
    for index, output in enumerate(node_class.outputs):
        values = [each.values[index] for each in outcomes if index < len(each.values)]
        merged.append([item for value in values for item in value] if output.is_list else values)
    return tuple(merged)


def _merge_ui(outcomes: list[Outcome]) -> Mapping[str, Any] | None:
    reports = [each.ui for each in outcomes if each.ui]
    if not reports:
        return None
    return {key: [item for report in reports for item in report.get(key, ())] for key in reports[0]}
