"""`apply`: values by name, type-checked, into the node inputs of a prompt."""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from comfyserve.workflow.interface.model import Interface, InterfaceInput, Kind
from comfyserve.workflow.nearest import Nearest
from comfyserve.workflow.problems import Code, Problem
from comfyserve.workflow.prompt_nodes import Place

_TRUE, _FALSE = frozenset({"true", "1", "yes", "on"}), frozenset({"false", "0", "no", "off"})
_SHOWN = 8
_MOST_DIGITS = 400


@dataclass(frozen=True, slots=True)
class Applied:
    """A prompt with values set, or why that cannot be."""

    prompt: Mapping[str, Any]
    values: Mapping[str, Any]
    """The values that were set, by name, converted to their types."""
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """Whether every value was good."""
        return not self.problems


class Refused(Exception):
    """A value that does not fit; the text says what would."""


def apply(prompt: Mapping[str, Any], values: Mapping[str, Any], interface: Interface) -> Applied:
    """Set values by their names; the prompt that is handed in stays as it was.

    Inputs that are not named keep what the prompt holds. Texts are taken for numbers and booleans
    where they read as such, as forms and command lines send them. All problems are reported at once.
    """
    problems = [_unknown(name, interface) for name in values if interface.input(str(name)) is None]
    taken: dict[str, Any] = {}
    edits: dict[str, dict[str, Any]] = {}
    for each in interface.inputs:
        if each.name not in values:
            if each.is_required:
                problems.append(_missing(each))
            continue
        try:
            value = converted(each, values[each.name])
        except Refused as refused:
            problems.append(_refused(each, values[each.name], str(refused)))
            continue
        taken[each.name] = value
        for place in each.places:
            if _holds_value(prompt, place):
                edits.setdefault(place.node_id, {})[place.input] = _written(value)
            else:
                problems.append(_gone(each, place))
    edited = {
        node_id: {**node, "inputs": {**node["inputs"], **edits[node_id]}}
        if node_id in edits
        else node
        for node_id, node in prompt.items()
    }
    return Applied(edited, taken, tuple(problems))


def converted(each: InterfaceInput, value: object) -> Any:  # noqa: ANN401 - any JSON
    """Return a value in the type of its input; raises `Refused`."""
    return _CONVERT[each.kind](each, value)


def _text(_each: InterfaceInput, value: object) -> str:
    if isinstance(value, str):
        return value
    raise Refused("a text")


def _file(each: InterfaceInput, value: object) -> str:
    if isinstance(value, str) and value:
        return value
    raise Refused(f"the name of an uploaded {each.kind.value} file")


def _integer(each: InterfaceInput, value: object) -> int:
    number = _parsed(each, value, int)
    if number != int(number):
        raise Refused(_range(each))
    return int(_within(each, int(number)))


def _float(each: InterfaceInput, value: object) -> float:
    return float(_within(each, _parsed(each, value, float)))


def _parsed(each: InterfaceInput, value: object, kind: Callable[[str], int | float]) -> int | float:
    """Return a finite number, out of a text where it has to be."""
    try:
        if isinstance(value, str) and len(value) <= _MOST_DIGITS:
            value = kind(value)
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if isinstance(value, int | float) and is_number and math.isfinite(value):
            return value
    except (ValueError, OverflowError):
        pass  # no number, or one that no float holds: said below
    raise Refused(_range(each))


def _within(each: InterfaceInput, number: int | float) -> int | float:
    is_low = each.minimum is not None and number < each.minimum
    if is_low or (each.maximum is not None and number > each.maximum):
        raise Refused(_range(each))
    return number


def _boolean(_each: InterfaceInput, value: object) -> bool:
    if isinstance(value, bool):
        return value
    text = str(value).lower() if isinstance(value, str | int) else ""
    if text in _TRUE or text in _FALSE:
        return text in _TRUE
    raise Refused("true or false")


def _choice(each: InterfaceInput, value: object) -> object:
    for choice in each.choices:
        if choice == value and isinstance(choice, bool) is isinstance(value, bool):
            return choice
    if isinstance(value, str):
        for choice in each.choices:
            if str(choice) == value:
                return choice
    shown = ", ".join(repr(choice) for choice in each.choices[:_SHOWN])
    more = len(each.choices) - _SHOWN
    raise Refused(f"one of {shown}{f' and {more} more' if more > 0 else ''}")


def _json(_each: InterfaceInput, value: object) -> object:
    return value


_CONVERT: Mapping[Kind, Callable[[InterfaceInput, object], object]] = {
    Kind.TEXT: _text,
    Kind.INTEGER: _integer,
    Kind.NUMBER: _float,
    Kind.BOOLEAN: _boolean,
    Kind.CHOICE: _choice,
    Kind.IMAGE: _file,
    Kind.VIDEO: _file,
    Kind.AUDIO: _file,
    Kind.MODEL: _file,
    Kind.JSON: _json,
}


def _range(each: InterfaceInput) -> str:
    what = "a whole number" if each.kind is Kind.INTEGER else "a number"
    low = f" from {each.minimum}" if each.minimum is not None else ""
    high = f" to {each.maximum}" if each.maximum is not None else ""
    return f"{what}{low}{high}"


def _written(value: object) -> object:
    """Return a value as a prompt holds it: a bare list would read as a link."""
    return {"__value__": value} if isinstance(value, list) else value


def _holds_value(prompt: Mapping[str, Any], place: Place) -> bool:
    node = prompt.get(place.node_id)
    inputs = node.get("inputs") if isinstance(node, Mapping) else None
    return isinstance(inputs, Mapping) and not isinstance(inputs.get(place.input), list)


def _unknown(name: object, interface: Interface) -> Problem:
    names = [each.name for each in interface.inputs]
    nearest = Nearest().of(name, names)
    listed = ", ".join(names) or "none"
    return Problem(
        Code.NO_SUCH_INPUT,
        f"There is no input {str(name)[:100]!r}",
        input_name=str(name)[:100],
        allowed=f"inputs: {listed}",
        nearest=nearest,
        hint=f"Did you mean '{nearest[0]}'?" if nearest else f"The inputs are: {listed}.",
    )


def _missing(each: InterfaceInput) -> Problem:
    return Problem(
        Code.VALUE_MISSING,
        f"Input '{each.name}' is required",
        input_name=each.name,
        allowed=each.kind.value,
        hint=f"Give '{each.name}' a value ({each.kind.value}).",
    )


def _refused(each: InterfaceInput, value: object, allowed: str) -> Problem:
    nearest = Nearest().of(value, each.choices)
    return Problem(
        Code.VALUE_REFUSED,
        f"The value of '{each.name}' does not fit",
        input_name=each.name,
        given=value,
        allowed=allowed,
        nearest=nearest,
        hint=f"Did you mean '{nearest[0]}'?" if nearest else f"Give '{each.name}' {allowed}.",
    )


def _gone(each: InterfaceInput, place: Place) -> Problem:
    return Problem(
        Code.PLACE_GONE,
        f"Input '{each.name}' sets '{place.input}' of node {place.node_id}, which holds no value",
        node_id=place.node_id,
        input_name=each.name,
        hint="The interface belongs to another workflow: infer it again, or mend its 'sets'.",
    )
