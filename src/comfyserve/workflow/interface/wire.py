"""The JSON form of an interface: what a user saves, edits and hands in instead of the inferred one.

```json
{
  "comfyserve_interface": 1,
  "source": "guessed",
  "inputs": [
    {"name": "prompt", "type": "text", "label": "Prompt", "description": "", "role": "prompt",
     "default": "a cat", "required": false, "multiline": true, "sets": [{"node": "6", "input": "text"}]},
    {"name": "steps", "type": "integer", "min": 1, "max": 100, "step": 1, "default": 20,
     "sets": [{"node": "3", "input": "steps"}]}
  ],
  "outputs": [{"name": "image", "type": "image", "label": "Save Image", "node": "9"}]
}
```

`name`, `type` and `sets` are needed, all else has a default. Unknown keys are passed over.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from comfyserve.workflow.interface.model import (
    Interface,
    InterfaceInput,
    InterfaceOutput,
    Kind,
    Role,
    Source,
)
from comfyserve.workflow.interface.names import NAME, slug
from comfyserve.workflow.problems import Code, Problem, shortened
from comfyserve.workflow.prompt_nodes import Place

VERSION = 1
_MARK = "comfyserve_interface"
_MOST = 1_000


def to_json(interface: Interface) -> dict[str, Any]:
    """Return the JSON form."""
    return {
        _MARK: VERSION,
        "source": interface.source.value,
        "inputs": [_input_json(each) for each in interface.inputs],
        "outputs": [
            {"name": each.name, "type": each.kind.value, "label": each.label, "node": each.node_id}
            for each in interface.outputs
        ],
    }


def _input_json(each: InterfaceInput) -> dict[str, Any]:
    written: dict[str, Any] = {
        "name": each.name,
        "type": each.kind.value,
        "label": each.label,
        "description": each.description,
        "role": each.role.value if each.role is not None else None,
        "default": each.default,
        "required": each.is_required,
        "sets": [{"node": place.node_id, "input": place.input} for place in each.places],
    }
    limits = {"min": each.minimum, "max": each.maximum, "step": each.step}
    written.update({name: value for name, value in limits.items() if value is not None})
    if each.kind is Kind.CHOICE:
        written["choices"] = list(each.choices)
    if each.kind is Kind.TEXT:
        written["multiline"] = each.is_multiline
    return written


def read_interface(data: object) -> Interface:
    """Read the JSON form. What cannot be read is left out and named in `problems`, as an error."""
    problems: list[Problem] = []
    if not isinstance(data, Mapping) or data.get(_MARK) != VERSION:
        problems.append(_unreadable("", f"not an object with {_MARK!r}: {VERSION}"))
        return Interface(Source.GIVEN, (), (), tuple(problems))
    names: set[str] = set()
    inputs = []
    for where, entry in _entries(data, "inputs", problems):
        found = _read_input(where, entry, names, problems)
        if found is not None:
            inputs.append(found)
    names.clear()
    outputs = []
    for where, entry in _entries(data, "outputs", problems):
        name, kind = _name(where, entry, names, problems), _kind(where, entry, problems)
        node = entry.get("node")
        if name and kind is not None:
            if isinstance(node, str):
                outputs.append(InterfaceOutput(name, kind, node, _text(entry, "label")))
            else:
                problems.append(_unreadable(where, "'node' is no node id"))
    return Interface(Source.GIVEN, tuple(inputs), tuple(outputs), tuple(problems))


def _read_input(
    where: str, entry: Mapping[str, Any], names: set[str], problems: list[Problem]
) -> InterfaceInput | None:
    name, kind = _name(where, entry, names, problems), _kind(where, entry, problems)
    places = tuple(_places(where, entry, problems))
    if not name or kind is None or not places:
        return None
    choices = entry.get("choices")
    role = entry.get("role")
    return InterfaceInput(
        name=name,
        kind=kind,
        places=places,
        label=_text(entry, "label"),
        description=_text(entry, "description"),
        role=next((each for each in Role if each.value == role), None),
        default=entry.get("default"),
        is_required=entry.get("required") is True,
        minimum=_number(entry, "min"),
        maximum=_number(entry, "max"),
        step=_number(entry, "step"),
        choices=tuple(choices) if isinstance(choices, list) else (),
        is_multiline=entry.get("multiline") is True,
    )


def _entries(
    data: Mapping[str, Any], section: str, problems: list[Problem]
) -> Iterator[tuple[str, Mapping[str, Any]]]:
    listed = data.get(section, [])
    if not isinstance(listed, list) or len(listed) > _MOST:
        problems.append(_unreadable(section, f"not a list of at most {_MOST} entries"))
        return
    for at, entry in enumerate(listed):
        where = f"{section}[{at}]"
        if isinstance(entry, Mapping):
            yield where, entry
        else:
            problems.append(_unreadable(where, "not an object"))


def _name(
    where: str, entry: Mapping[str, Any], names: set[str], problems: list[Problem]
) -> str | None:
    name = entry.get("name")
    if not isinstance(name, str) or NAME.fullmatch(name) is None:
        like = slug(name) if isinstance(name, str) else ""
        hint = f", such as {like!r}" if like else ""
        problems.append(_unreadable(where, f"'name' is not in lower case with underscores{hint}"))
        return None
    if name in names:
        problems.append(_unreadable(where, f"the name {name!r} is taken"))
        return None
    names.add(name)
    return name


def _kind(where: str, entry: Mapping[str, Any], problems: list[Problem]) -> Kind | None:
    named = entry.get("type")
    found = next((kind for kind in Kind if kind.value == named), None)
    if found is None:
        known = ", ".join(kind.value for kind in Kind)
        problems.append(_unreadable(where, f"'type' is none of {known}"))
    return found


def _places(where: str, entry: Mapping[str, Any], problems: list[Problem]) -> Iterator[Place]:
    listed = entry.get("sets")
    for each in listed if isinstance(listed, list) else ():
        node, name = (each.get("node"), each.get("input")) if isinstance(each, Mapping) else (0, 0)
        if isinstance(node, str) and isinstance(name, str):
            yield Place(node, name)
        else:
            problems.append(_unreadable(where, "an entry of 'sets' lacks 'node' or 'input'"))
    if not isinstance(listed, list) or not listed:
        problems.append(_unreadable(where, "'sets' is no list of node inputs"))


def _text(entry: Mapping[str, Any], key: str) -> str:
    value = entry.get(key)
    return shortened(value, 2_000) if isinstance(value, str) else ""


def _number(entry: Mapping[str, Any], key: str) -> int | float | None:
    value = entry.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _unreadable(where: str, why: str) -> Problem:
    return Problem(
        Code.INTERFACE_UNREADABLE,
        f"The interface cannot be read{f' at {where}' if where else ''}: {why}",
        input_name=where or None,
        hint="Start from the interface that `comfyserve workflow inspect --json` shows.",
    )
