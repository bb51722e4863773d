"""How nodes of one class can be judged quickly; see `quick_look`."""

from dataclasses import dataclass
from typing import Any

from comfyserve.workflow.checks import COERCE
from comfyserve.workflow.custom_checks import Check
from comfyserve.workflow.rules import Rules
from comfyserve.workflow.specs import LINK_ONLY, InputSpec, NodeClass


@dataclass(slots=True)
class QuickInput:
    """One declared input. Not frozen, as all that is read for every node: that is quicker to read."""

    name: str
    spec: InputSpec
    is_required: bool
    kind: type | None
    """The Python type that its values have; `None`: any."""
    minimum: int | float | None
    maximum: int | float | None
    choices: frozenset[str] | None
    """The texts that it takes; `None`: any."""
    takes_values: bool
    """Whether a value can do where there is no link."""


@dataclass(slots=True)
class QuickPlan:
    """What nodes of one class take and give."""

    inputs: tuple[QuickInput, ...]
    output_types: tuple[Any, ...]
    is_output: bool
    node_class: NodeClass
    check: Check | None
    """What the class checks itself."""


def plan_of(node_class: NodeClass, check: Check | None, rules: Rules) -> QuickPlan | None:
    """Return how to judge nodes of a class; `None` where that takes the walk."""
    if node_class.is_dynamic or (check is not None and (check.takes_all or check.takes_types)):
        return None
    inputs = []
    for spec in node_class.inputs:
        kind = COERCE.get(spec.type)
        is_left = check is not None and spec.name in check.names
        bounds = [bound for bound in (spec.minimum, spec.maximum) if bound is not None]
        if bounds and (kind not in {int, float} or not all(map(_is_number, bounds))):
            return None
        if spec.choices is not None and kind is not None:
            return None
        lists = spec.choices is not None and (spec.is_listed or rules.checks_combo_type)
        inputs.append(
            QuickInput(
                name=spec.name,
                spec=spec,
                is_required=spec.is_required,
                kind=kind,
                minimum=None if is_left else spec.minimum,
                maximum=None if is_left else spec.maximum,
                choices=spec.choice_set if lists and not is_left else None,
                takes_values=spec.type not in LINK_ONLY,
            )
        )
    return QuickPlan(
        tuple(inputs), node_class.output_types, node_class.is_output, node_class, check
    )


def _is_number(value: object) -> bool:
    return type(value) in {int, float}
