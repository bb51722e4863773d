"""From an image spec to the steps of its build, each with the key of its layer. Pure."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.image import ImageSpec
from comfyserve.domain.image_json import write_step
from comfyserve.domain.image_steps import (
    BuildSecrets,
    ComfyUIDir,
    ComfyUISource,
    Command,
    CustomNodes,
    Env,
    ImageStep,
    LocalFiles,
    Models,
    Packages,
)

LAYOUT = 1
"""What a tree looks like; another number makes every layer another."""


@dataclass(frozen=True, slots=True)
class Facts:
    """What a plan depends on besides the spec.

    `python` identifies the interpreter and the machine, `secret_marks` the values of secrets
    (without telling them), `directories` the contents of directories that steps copy from.
    """

    python: str
    torch: str = ""
    secret_marks: Mapping[str, str] = field(default_factory=dict)
    directories: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PlannedStep:
    """One step that changes the tree, with the environment that earlier steps gave it."""

    number: int
    step: ImageStep
    title: str
    key: str
    env: Mapping[str, str]
    secrets: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a build does: the key of the bare environment, then steps, then how the result runs."""

    base_key: str
    steps: tuple[PlannedStep, ...]
    env: Mapping[str, str]
    installation: ComfyUIDir | None = None

    @property
    def keys(self) -> tuple[str, ...]:
        """The key of each layer, in order."""
        return (self.base_key, *(step.key for step in self.steps))


def check_buildable(spec: ImageSpec) -> None:
    """Raise InvalidInput for what the embedded builder cannot build."""
    spec.check()
    if spec.needs_container_engine:
        what = "from_dockerfile" if spec.dockerfile is not None else "base_image"
        raise InvalidInput(
            f"the image uses {what}, which needs a container engine; the embedded builder makes "
            "environments without one. Use Image(python_version=...) with add_python_packages and "
            "add_commands, or Image.comfyui(...)",
            code="needs_container_engine",
        )


def secrets_of(spec: ImageSpec) -> tuple[str, ...]:
    """The names of all secrets that a build of the spec needs."""
    names: dict[str, None] = {}
    for step in spec.steps:
        match step:
            case BuildSecrets():
                names |= dict.fromkeys(step.names)
            case Models():
                names |= {file.secret: None for file in step.files if file.secret}
            case _:
                pass
    return tuple(names)


def make_plan(spec: ImageSpec, facts: Facts) -> Plan:
    """Plan the build. Each key says all that went before; equal keys are equal trees."""
    check_buildable(spec)
    key = base_key = _hash(LAYOUT, facts.python)
    env: dict[str, str] = {}
    names: tuple[str, ...] = ()
    steps: list[PlannedStep] = []
    installation = None
    for step in spec.steps:
        match step:
            case Env():
                env |= step.values
                key = _hash(key, "env", sorted(step.values.items()))
            case BuildSecrets():
                names += tuple(name for name in step.names if name not in names)
                # A secret with another value may give another result.
                key = _hash(key, "secrets", [[n, facts.secret_marks.get(n, "")] for n in names])
            case ComfyUIDir():
                installation = step
            case _:
                key = _hash(key, write_step(step), *_facts_of(step, facts))
                number = len(steps) + 1
                steps.append(PlannedStep(number, step, title_of(step), key, dict(env), names))
    return Plan(base_key, tuple(steps), env, installation)


def title_of(step: ImageStep) -> str:
    """The step in a few words."""
    title = step.kind
    match step:
        case Packages():
            title = f"install {_few(step.packages)}"
        case Command():
            title = f"run {step.command.strip().splitlines()[0][:100]}"
        case Env():
            title = f"set {_few(tuple(step.values))}"
        case BuildSecrets():
            title = f"use {_few(step.names)}"
        case LocalFiles():
            title = f"copy local files to {step.target}"
        case CustomNodes():
            title = f"add custom nodes {_few(step.nodes)}"
        case Models():
            title = f"fetch {_few(tuple(file.file_name for file in step.files))}"
        case ComfyUISource():
            title = f"install ComfyUI {step.version or ''}".rstrip()
        case ComfyUIDir():
            title = f"use {step.path}"
    return title


def _facts_of(step: ImageStep, facts: Facts) -> tuple[str, ...]:
    match step:
        case ComfyUISource(source=str(source)):
            return (facts.torch, facts.directories.get(source, ""))
        case ComfyUISource() | CustomNodes():
            return (facts.torch,)
        case _:
            return ()


def _few(names: tuple[str, ...]) -> str:
    shown = ", ".join(name[:60] for name in names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"


def _hash(*parts: object) -> str:
    text = json.dumps(parts, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
