"""`InputSpec` and `NodeClass`: what one entry of `/object_info` declares."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from types import MappingProxyType
from typing import Any

_NO_OPTIONS: Mapping[str, Any] = MappingProxyType({})
DYNAMIC_TYPES = frozenset({"COMFY_DYNAMICCOMBO_V3", "COMFY_AUTOGROW_V3", "COMFY_DYNAMICSLOT_V3"})
"""Inputs that stand for others, depending on what a prompt gives; see `dynamic`."""
LINK_ONLY = frozenset(
    (
        *("MODEL", "CLIP", "VAE", "CONDITIONING", "LATENT", "IMAGE", "MASK", "CONTROL_NET"),
        *("STYLE_MODEL", "CLIP_VISION", "CLIP_VISION_OUTPUT", "GLIGEN", "UPSCALE_MODEL"),
        *("SAMPLER", "SIGMAS", "NOISE", "GUIDER", "AUDIO", "VIDEO"),
    )
)
"""Types of which a prompt cannot hold a value."""


@dataclass(frozen=True, slots=True)
class InputSpec:
    """One declared input of a node class."""

    name: str
    type: str
    """`"COMBO"` where the spec lists its values, else the declared type (`"INT"`, `"IMAGE"`, `"A,B"`)."""
    section: str
    """`"required"`, `"optional"` or `"hidden"`."""
    options: Mapping[str, Any]
    choices: tuple[Any, ...] | None
    """What a combo offers; `None` for every other type."""
    raw: Any
    """The spec as `/object_info` gives it."""
    is_listed: bool = False
    """Whether the values stand in place of the type (`[["a", "b"], {...}]`, the older spelling)."""
    minimum: Any = None
    maximum: Any = None
    choice_set: frozenset[str] = frozenset()
    """The choices that are texts, to look one up quickly."""

    @property
    def is_required(self) -> bool:
        """Whether a prompt must give this input."""
        return self.section == "required"

    @property
    def declared_type(self) -> str | list[Any]:
        """What stands in the place of the type: a name, or the list of values."""
        return list(self.choices or ()) if self.is_listed else self.type

    @property
    def config(self) -> list[Any]:
        """The spec as ComfyUI's errors show it: always with options."""
        return [self.declared_type, dict(self.options)]


@dataclass(frozen=True, eq=False)
class NodeClass:
    """One node class: what it takes and what it gives."""

    name: str
    display_name: str
    category: str
    description: str
    python_module: str
    inputs: tuple[InputSpec, ...]
    """In the frontend's order: required, optional, then those that `input_order` leaves out."""
    hidden: tuple[InputSpec, ...]
    output_types: tuple[Any, ...]
    """Type names; a list where an output offers the values of a combo."""
    output_names: tuple[str, ...]
    output_is_list: tuple[bool, ...]
    is_output: bool
    is_v3: bool
    """Whether it is written against ComfyUI's schema API, whose checks differ a little."""

    @cached_property
    def by_name(self) -> Mapping[str, InputSpec]:
        """The inputs by name, without the hidden ones."""
        return {spec.name: spec for spec in self.inputs}

    @cached_property
    def is_dynamic(self) -> bool:
        """Whether its inputs depend on what a prompt gives."""
        return any(spec.type in DYNAMIC_TYPES for spec in self.inputs)

    @property
    def is_custom(self) -> bool:
        """Whether it comes from a custom node pack."""
        return self.python_module.startswith("custom_nodes")

    def input(self, name: str) -> InputSpec | None:
        """Return the required or optional input of that name."""
        return self.by_name.get(name)


_V3_KEYS = {"deprecated", "experimental", "output_tooltips", "api_node"}
"""Keys that only classes of the schema API have all of."""


def node_class(name: str, entry: Mapping[str, Any]) -> NodeClass | None:
    """Parse one entry; `None` where its inputs or outputs make no sense."""
    sections, output = entry.get("input"), entry.get("output")
    if not isinstance(sections, Mapping) or not isinstance(output, list):
        return None
    order = entry.get("input_order")
    visible = [
        spec
        for section in ("required", "optional")
        for spec in _section(section, sections.get(section), order)
    ]
    by_name: dict[str, InputSpec] = {}
    for spec in visible:
        # An optional input never replaces a required one of the same name.
        by_name.setdefault(spec.name, spec)
    names = entry.get("output_name")
    return NodeClass(
        name=name,
        display_name=_text(entry.get("display_name"), name),
        category=_text(entry.get("category"), ""),
        description=_text(entry.get("description"), ""),
        python_module=_text(entry.get("python_module"), "nodes"),
        inputs=tuple(by_name.values()),
        hidden=tuple(_section("hidden", sections.get("hidden"), order)),
        output_types=tuple(output),
        output_names=tuple(map(str, names if isinstance(names, list) else output)),
        output_is_list=_flags(entry.get("output_is_list"), len(output)),
        is_output=entry.get("output_node") is True,
        is_v3=entry.keys() >= _V3_KEYS,
    )


def _text(value: object, default: str) -> str:
    return value if isinstance(value, str) and value else default


def _flags(value: object, count: int) -> tuple[bool, ...]:
    flags = [flag is True for flag in value] if isinstance(value, list) else []
    return tuple((flags + [False] * count)[:count])


def _section(section: str, specs: object, order: object) -> Iterator[InputSpec]:
    """Go through one section in `input_order`, then whatever that leaves out."""
    if not isinstance(specs, Mapping):
        return
    listed = order.get(section) if isinstance(order, Mapping) else None
    first = [name for name in listed if isinstance(name, str)] if isinstance(listed, list) else []
    for name in dict.fromkeys([*first, *specs]):
        if name in specs:
            yield input_spec(name, section, specs[name])


def input_spec(name: str, section: str, raw: object) -> InputSpec:
    """Read `[type]`, `[type, options]` or `[[value, ...], options]`; hidden ones are bare names."""
    parts = raw if isinstance(raw, list) else [raw]
    declared = parts[0] if parts else None
    options = parts[1] if len(parts) > 1 and isinstance(parts[1], Mapping) else _NO_OPTIONS
    is_listed = isinstance(declared, list)
    offered = declared if is_listed else options.get("options") if declared == "COMBO" else None
    choices = tuple(offered) if isinstance(offered, list) else () if declared == "COMBO" else None
    return InputSpec(
        name=name,
        type="COMBO" if is_listed else str(declared),
        section=section,
        options=options,
        choices=choices,
        raw=raw,
        is_listed=is_listed,
        minimum=options.get("min"),
        maximum=options.get("max"),
        choice_set=_texts(choices),
    )


def with_choices(spec: InputSpec, choices: tuple[str, ...]) -> InputSpec:
    """Return the spec of a combo offering other values."""
    return replace(spec, choices=choices, choice_set=frozenset(choices))


def _texts(choices: tuple[Any, ...] | None) -> frozenset[str]:
    return frozenset(choice for choice in choices or () if isinstance(choice, str))


def declared_with(spec: InputSpec, choices: list[Any]) -> list[Any]:
    """The spec of a combo as `/object_info` gives it, offering other choices."""
    if spec.is_listed:
        return [choices, *spec.raw[1:]]
    return [spec.raw[0], {**spec.options, "options": choices}, *spec.raw[2:]]
