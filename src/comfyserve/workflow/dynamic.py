"""Inputs that depend on what a prompt gives: dynamic combos, growing lists, dynamic slots.

ComfyUI turns them into plain inputs with dotted names before it checks a node (0.8 and later): choosing
`"scale width"` for `resize_type` brings `resize_type.width`; `images` brings `images.image0`, `images.image1`...
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfyserve.workflow.specs import DYNAMIC_TYPES, InputSpec, NodeClass, input_spec

COMBO, GROW, SLOT = "COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3", "COMFY_DYNAMICSLOT_V3"
_MAX_REMEMBERED = 256


@dataclass(frozen=True, slots=True)
class Expansion:
    """The plain inputs of one node."""

    specs: tuple[InputSpec, ...]
    is_nested: bool
    """Whether any came from a dynamic input: ComfyUI then names a missing one by its last part."""


@dataclass(slots=True)
class _Found:
    required: dict[str, InputSpec] = field(default_factory=dict)
    optional: dict[str, InputSpec] = field(default_factory=dict)
    is_nested: bool = False

    def add(self, name: str, section: str, raw: object) -> None:
        (self.required if section == "required" else self.optional)[name] = input_spec(
            name, section, raw
        )


class Expander:
    """Expands the inputs of one class, and remembers what it made of each set of choices."""

    def __init__(self, node: NodeClass) -> None:
        """Find out which inputs of the class decide about others."""
        self.node = node
        self._paths: dict[str, set[str]] = {}
        for spec in node.inputs:
            _find_paths(self._paths, spec.name, spec.raw)
        self._made: dict[tuple[tuple[str, str | None], ...], Expansion] = {}

    def expand(self, given: Mapping[str, Any]) -> Expansion:
        """Return the plain inputs of a node that was given these."""
        choices = tuple(
            (path, _choice(given[path], keys))
            for path, keys in self._paths.items()
            if path in given
        )
        made = self._made.get(choices)
        if made is None:
            made = _expand(self.node, dict(choices))
            if len(self._made) < _MAX_REMEMBERED:
                self._made[choices] = made
        return made


def option_keys(spec: InputSpec) -> list[str]:
    """Return the options of a dynamic combo."""
    options = spec.options.get("options")
    known = options if isinstance(options, list) else []
    return [str(each.get("key")) for each in known if isinstance(each, Mapping)]


def _choice(value: object, keys: set[str]) -> str | None:
    return value if isinstance(value, str) and value in keys else None


def _find_paths(paths: dict[str, set[str]], path: str, raw: object) -> None:
    """Collect the paths of all dynamic combos and slots, with the keys that a combo knows."""
    options = raw[1] if isinstance(raw, list) and len(raw) > 1 else None
    kind = raw[0] if isinstance(raw, list) and raw else None
    if kind not in (COMBO, SLOT) or not isinstance(options, Mapping):
        return
    keys = paths.setdefault(path, set())
    branches = [options.get("inputs")]
    if kind == COMBO:
        listed = options.get("options")
        known = (
            [each for each in listed if isinstance(each, Mapping)]
            if isinstance(listed, list)
            else []
        )
        keys.update(each["key"] for each in known if isinstance(each.get("key"), str))
        branches = [each.get("inputs") for each in known]
    for inputs in branches:
        for _, name, inner in _nested(inputs):
            _find_paths(paths, f"{path}.{name}", inner)


def _nested(inputs: object) -> Iterator[tuple[str, str, Any]]:
    """Go through section, name and spec of nested inputs."""
    if not isinstance(inputs, Mapping):
        return
    for section in ("required", "optional"):
        specs = inputs.get(section)
        for name, raw in specs.items() if isinstance(specs, Mapping) else ():
            yield section, name, raw


def _expand(node_class: NodeClass, given: Mapping[str, str | None]) -> Expansion:
    found = _Found()
    for spec in node_class.inputs:
        if spec.type in DYNAMIC_TYPES:
            _grow(found, spec.name, spec.section, spec.raw, given)
        else:
            found.add(spec.name, spec.section, spec.raw)
    optional = (spec for name, spec in found.optional.items() if name not in found.required)
    return Expansion((*found.required.values(), *optional), found.is_nested)


def _grow(
    found: _Found, path: str, section: str, raw: object, given: Mapping[str, str | None]
) -> None:
    options = raw[1] if isinstance(raw, list) and len(raw) > 1 else None
    if not isinstance(options, Mapping):
        return
    kind = raw[0] if isinstance(raw, list) else None
    if kind == GROW:
        _grow_list(found, path, options)
    elif path in given:
        inputs: object = options.get("inputs")
        if kind == COMBO:
            inputs = _chosen(options.get("options"), given[path])
        if isinstance(inputs, Mapping):
            _nest(found, path, inputs, given)
            found.is_nested = True
            found.add(path, section, raw)


def _chosen(options: object, key: str | None) -> object:
    """Return the inputs of the chosen option; an unknown one makes the whole input vanish."""
    for option in options if isinstance(options, list) else ():
        if isinstance(option, Mapping) and option.get("key") == key:
            return option.get("inputs")
    return None


def _nest(
    found: _Found, path: str, inputs: Mapping[str, Any], given: Mapping[str, str | None]
) -> None:
    for section, name, raw in _nested(inputs):
        if isinstance(raw, list) and raw and raw[0] in DYNAMIC_TYPES:
            _grow(found, f"{path}.{name}", section, raw, given)
        else:
            found.add(f"{path}.{name}", section, raw)


def _grow_list(found: _Found, path: str, options: Mapping[str, Any]) -> None:
    template = options.get("template")
    if not isinstance(template, Mapping):
        return
    least, most = template.get("min"), template.get("max")
    names: list[Any]
    if isinstance(template.get("names"), list):
        names = template["names"]
    elif isinstance(most, int):
        names = [f"{template.get('prefix', '')}{index}" for index in range(min(most, 1000))]
    else:
        return
    section, raw = _template_input(template.get("input"))
    if section is None:
        return
    is_required = section == "required"
    needed = least if isinstance(least, int) and is_required else 0
    for index, name in enumerate(names):
        found.add(f"{path}.{name}", "required" if index < needed else "optional", raw)
    found.is_nested = True


def _template_input(sections: object) -> tuple[str | None, object]:
    """Return section and spec of the first input that the template holds."""
    for section, specs in sections.items() if isinstance(sections, Mapping) else ():
        if isinstance(specs, Mapping) and specs:
            return str(section), next(iter(specs.values()))
    return None, None
