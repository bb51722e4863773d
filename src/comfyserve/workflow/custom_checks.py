"""What ComfyUI's own node classes check beyond their input specs, as far as it can be told without running them.

`/object_info` does not say which classes bring a validation function. This table holds those of ComfyUI
itself; a class of a custom node pack is judged by what was recorded with the catalog, else by its looks.
"""

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from comfyserve.workflow.input_files import exists, split_annotation, upload_kind
from comfyserve.workflow.rules import Rules
from comfyserve.workflow.specs import InputSpec, NodeClass


class Undecided(Exception):
    """Only the engine can tell."""


@dataclass(frozen=True, slots=True)
class Check:
    """One validation function: the inputs it takes, and what it says of them."""

    names: tuple[str, ...]
    """Inputs that ComfyUI leaves to it: their range and list are not checked."""
    judge: Callable[["Given"], str | bool]
    """`True`, or what is wrong. Raises what the function would raise, or `Undecided`."""
    owner: str = ""
    """The Python class, as its own errors name it; empty: all arguments are optional."""
    takes_all: bool = False
    """Whether it takes every input (`**kwargs`)."""
    is_v3_only: bool = False
    """Whether older releases of the class had no such function."""
    takes_types: bool = False
    """Whether it judges the types of links, so that ComfyUI does not."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a validation function gets."""

    values: Mapping[str, Any]
    """The declared inputs as they were given; `None` for a link."""
    types: Mapping[str, Any] = field(default_factory=dict)
    files: Collection[str] | None = None
    spec: InputSpec | None = None
    """The spec of the first name."""


def check_of(
    node: NodeClass, recorded: Mapping[str, Collection[str]] | None, rules: Rules
) -> Check | None:
    """Return the validation function of a class, or `None` where it has none."""
    if not node.is_custom:
        known = _BUILT_IN.get(node.name)
        if known is not None and _fits(node, known):
            inherits = node.name == "LoadImageMask" and rules.shares_mask_loader
            return _BUILT_IN["LoadImage"] if inherits else known
    if recorded is not None:
        names = recorded.get(node.name)
        return None if names is None else _unknown(names)
    if not node.is_custom:
        return None
    loads_files = any(upload_kind(spec) for spec in node.inputs)
    return _unknown(("**",)) if loads_files else None


def _fits(node: NodeClass, check: Check) -> bool:
    """Whether it is ComfyUI's own class of that name, in a release that has the function."""
    has_inputs = check.takes_types or all(node.input(name) is not None for name in check.names)
    return has_inputs and (node.is_v3 or not check.is_v3_only)


def _unknown(names: Collection[str]) -> Check:
    def judge(_given: Given) -> bool:
        raise Undecided

    return Check(
        names=tuple(names),
        judge=judge,
        takes_all="**" in names,
        takes_types="input_types" in names,
    )


def given_to(
    check: Check,
    specs: Sequence[InputSpec],
    values: Mapping[str, Any],
    types: Mapping[str, Any],
    files: Collection[str] | None,
) -> Given:
    """Return what the function of a class gets of a node's inputs: those it asks for."""
    known = {spec.name for spec in specs}
    asked = {
        name: None if _is_link(value) else value
        # `values` may be no object at all: then this raises what ComfyUI runs into.
        for name, value in ((name, values[name]) for name in values)
        if (check.takes_all or name in check.names) and (name in known or _is_link(value))
    }
    spec = next((spec for spec in specs if spec.name in check.names), None)
    return Given(asked, types, files, spec)


def _is_link(value: object) -> bool:
    """Whether ComfyUI takes a value for a link where it gathers what a function gets."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int | float)
    )


def run_check(check: Check, node: NodeClass, given: Given) -> str | bool:
    """Call the function as ComfyUI does: with those of its arguments that the node was given."""
    missing = [name for name in check.names if name not in given.values] if check.owner else []
    if missing:
        function = "validate_inputs" if node.is_v3 else "VALIDATE_INPUTS"
        count = f"{len(missing)} required positional argument{'s' if len(missing) > 1 else ''}"
        raise TypeError(f"{check.owner}.{function}() missing {count}: {_and(missing)}")
    return check.judge(given)


def _and(names: list[str]) -> str:
    """Join names as Python does when it misses arguments."""
    quoted = [repr(name) for name in names]
    if len(quoted) < 3:
        return " and ".join(quoted)
    return f"{', '.join(quoted[:-1])}, and {quoted[-1]}"


def _file_check(name: str, kind: str, owner: str, *, may_be_none: bool = False) -> Check:
    def judge(given: Given) -> str | bool:
        value = given.values[name]
        if may_be_none and (not value or value == "none"):
            return True
        # ComfyUI asks for the annotation first, whatever the type: the same exception for a number.
        value.endswith("]")
        return True if _is_there(value, given) else f"Invalid {kind} file: {value}"

    return Check((name,), judge, owner=owner, takes_all=may_be_none, is_v3_only=may_be_none)


def _is_there(name: str, given: Given) -> bool:
    if given.files is not None:
        return exists(name, given.files)
    choices = given.spec.choice_set if given.spec is not None else frozenset()
    if name in choices:
        return True
    path, directory = split_annotation(name)
    if given.spec is None or given.spec.choices is None or "/" in path or directory != "input":
        raise Undecided
    return exists(name, choices)


def _judge_camera(given: Given) -> str | bool:
    if any(not math.isclose(given.values[name], 0.0) for name in _CAMERA):
        return True
    return "Invalid camera control configs: at least one of the values must be non-zero"


def _judge_task(given: Given) -> str | bool:
    types = ("MODEL_TASK_ID", "RIG_TASK_ID", "RETARGET_TASK_ID")
    if given.types["original_model_task_id"] in types:
        return True
    return f"original_model_task_id must be {', '.join(types[:2])} or {types[2]} type"


def _judge_anything(_given: Given) -> bool:
    return True


def _judge_ratio(given: Given) -> bool:
    """Pass `W:H` between 1:4 and 4:1; for all else the wording depends on the release."""
    parts = str(given.values["aspect_ratio"]).split(":")
    if len(parts) == 2 and all(part.isascii() and part.isdigit() for part in parts):
        width, height = (int(part) for part in parts)
        if width > 0 and height > 0 and 0.25 <= width / height <= 4:
            return True
    raise Undecided


_CAMERA = ("horizontal_movement", "vertical_movement", "pan", "tilt", "roll", "zoom")
_BUILT_IN: Mapping[str, Check] = {
    "LoadImage": _file_check("image", "image", "LoadImage"),
    "LoadImageMask": _file_check("image", "image", "LoadImageMask"),
    "LoadImageOutput": _file_check("image", "image", "LoadImage"),
    "WebcamCapture": _file_check("image", "image", "LoadImage"),
    "LoadLatent": _file_check("latent", "latent", "LoadLatent"),
    "LoadAudio": _file_check("audio", "audio", "LoadAudio"),
    "LoadVideo": _file_check("file", "video", "LoadVideo"),
    "Load3D": _file_check("model_file", "3D model", "Load3D", may_be_none=True),
    "Load3DAdvanced": _file_check("model_file", "3D model", "Load3DAdvanced", may_be_none=True),
    "CustomCombo": Check(("choice",), _judge_anything, owner="CustomComboNode", takes_all=True),
    "SelectModelDevice": Check(("device",), _judge_anything),
    "SelectCLIPDevice": Check(("device",), _judge_anything),
    "SelectVAEDevice": Check(("device",), _judge_anything),
    "KlingCameraControls": Check(_CAMERA, _judge_camera, owner="KlingCameraControls"),
    "FluxProUltraImageNode": Check(("aspect_ratio",), _judge_ratio, owner="FluxProUltraImageNode"),
    "TripoConversionNode": Check((), _judge_task, takes_types=True),
}
