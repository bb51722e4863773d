"""Checks of single inputs: a literal against its spec, a link against the output it names.

Both do what ComfyUI does, down to the words. Where it runs into a Python exception (`"abc" < 0`, a slot that
does not exist), so do they: the walk turns it into ComfyUI's answer to that.
"""

from collections.abc import Mapping
from typing import Any

from comfyserve.workflow.problems import Code, Problem
from comfyserve.workflow.rules import Rules
from comfyserve.workflow.specs import InputSpec, NodeClass

COERCE: Mapping[str, type] = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}
"""The Python type that ComfyUI converts values of a declared type to."""
_LONG_LIST = 20


def missing(name: str, *, is_nested: bool) -> Problem:
    """Say that a required input is not there; of a dotted name ComfyUI shows the last part."""
    return Problem(
        Code.REQUIRED_INPUT_MISSING,
        "Required input is missing",
        details=name.rpartition(".")[2] if is_nested else name,
        extra_info={"input_name": name},
        input_name=name,
    )


def bad_link(spec: InputSpec, value: list[Any]) -> Problem:
    """Say that a list is no link."""
    return Problem(
        Code.BAD_LINKED_INPUT,
        "Bad linked input, must be a length-2 list of [node_id, slot_index]",
        details=spec.name,
        extra_info=_about(spec, value),
        input_name=spec.name,
        given=value,
    )


def output_type(source: NodeClass, slot: Any) -> Any:  # noqa: ANN401 - a slot is whatever a user wrote
    """Return the type of an output; a wrong slot raises what it raises in ComfyUI."""
    # Its schema classes keep them in a list, all others in a tuple: the messages differ.
    return list(source.output_types)[slot] if source.is_v3 else source.output_types[slot]


def type_mismatch(spec: InputSpec, received: object, link: list[Any]) -> Problem:
    """Say that an output does not fit the input."""
    return Problem(
        Code.RETURN_TYPE_MISMATCH,
        "Return type mismatch between linked nodes",
        details=(
            f"{spec.name}, received_type({received}) mismatch input_type({spec.declared_type})"
        ),
        extra_info={
            "input_name": spec.name,
            "input_config": spec.config,
            "received_type": received,
            "linked_node": link,
        },
        input_name=spec.name,
        given=received,
    )


def types_fit(received: object, spec: InputSpec, rules: Rules) -> bool:
    """Whether an output of that type may go into the input."""
    wanted = spec.declared_type
    if received == wanted or "*" in (received, wanted):
        return True
    if rules.matches_template_types and "COMFY_MATCHTYPE_V3" in (received, wanted):
        return True
    if rules.matches_any_type and isinstance(received, list) and wanted == "COMBO":
        return True
    if not isinstance(received, str) or not isinstance(wanted, str):
        return False
    outputs = {part.strip() for part in received.split(",")}
    inputs = {part.strip() for part in wanted.split(",")}
    if rules.matches_any_type and "*" in outputs | inputs:
        return True
    return not outputs.isdisjoint(inputs)


def literal(
    spec: InputSpec,
    value: Any,  # noqa: ANN401 - any JSON
    rules: Rules,
    *,
    is_left: bool,
) -> tuple[Any, Problem | None]:
    """Check a value; return it as ComfyUI keeps it, and what is wrong with it.

    `is_left`: its range and choices are left to the class' own validation function.
    """
    if isinstance(value, dict) and "__value__" in value:
        # The frontend's way to write a list that is no link.
        value = value["__value__"]
    convert = COERCE.get(spec.type)
    if convert is not None and type(value) is not convert:
        try:
            value = convert(value)
        except (TypeError, ValueError, OverflowError, RecursionError) as error:
            return value, _not_converted(spec, value, error)
    if is_left:
        return value, None
    if spec.minimum is not None and value < spec.minimum:
        said = f"smaller than min of {spec.minimum}"
        return value, _out_of_range(spec, value, Code.VALUE_SMALLER_THAN_MIN, said)
    if spec.maximum is not None and value > spec.maximum:
        said = f"bigger than max of {spec.maximum}"
        return value, _out_of_range(spec, value, Code.VALUE_BIGGER_THAN_MAX, said)
    if spec.choices is not None and (spec.is_listed or rules.checks_combo_type):
        return value, _choice(spec, value, rules)
    return value, None


def _not_converted(spec: InputSpec, value: object, error: Exception) -> Problem:
    return Problem(
        Code.INVALID_INPUT_TYPE,
        f"Failed to convert an input value to a {spec.type} value",
        details=f"{spec.name}, {value}, {error}",
        extra_info={**_about(spec, value), "exception_message": str(error)},
        input_name=spec.name,
        given=value,
    )


def _out_of_range(spec: InputSpec, value: object, code: Code, said: str) -> Problem:
    return Problem(
        code,
        f"Value {value} {said}",
        details=spec.name,
        extra_info=_about(spec, value),
        input_name=spec.name,
        given=value,
    )


def _choice(spec: InputSpec, value: object, rules: Rules) -> Problem | None:
    choices = spec.choices or ()
    strange: list[Any]
    if isinstance(value, str):
        strange = [] if value in spec.choice_set else [value]
    elif rules.checks_each_choice and isinstance(value, list) and spec.options.get("multiselect"):
        strange = [each for each in value if each not in choices]
    else:
        strange = [] if value in choices else [value]
    if not strange:
        return None
    is_long = len(choices) > _LONG_LIST
    shown = ", ".join(map(repr, strange)) if rules.checks_each_choice else f"'{value}'"
    listed = f"(list of length {len(choices)})" if is_long else str(list(choices))
    return Problem(
        Code.VALUE_NOT_IN_LIST,
        "Value not in list",
        details=f"{spec.name}: {shown} not in {listed}",
        extra_info={
            "input_name": spec.name,
            "input_config": None if is_long else spec.config,
            "received_value": value,
        },
        input_name=spec.name,
        given=value,
    )


def _about(spec: InputSpec, value: object) -> dict[str, Any]:
    return {"input_name": spec.name, "input_config": spec.config, "received_value": value}
