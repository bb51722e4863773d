"""`Interface`: the typed, named inputs and outputs of a workflow."""

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from comfyserve.workflow.problems import Problem
from comfyserve.workflow.prompt_nodes import Place


class Kind(StrEnum):
    """What an input takes, or an output gives."""

    TEXT = "text"
    INTEGER = "integer"
    NUMBER = "number"
    BOOLEAN = "boolean"
    CHOICE = "choice"
    IMAGE = "image"
    VIDEO = "video"
    AUDIO = "audio"
    MODEL = "model"
    JSON = "json"

    @property
    def is_file(self) -> bool:
        """Whether a value is the name of an input file."""
        return self in (Kind.IMAGE, Kind.VIDEO, Kind.AUDIO, Kind.MODEL)


class Role(StrEnum):
    """What an input is for, where that can be told."""

    PROMPT = "prompt"
    NEGATIVE_PROMPT = "negative_prompt"
    WIDTH = "width"
    HEIGHT = "height"
    LENGTH = "length"
    STEPS = "steps"
    CFG = "cfg"
    GUIDANCE = "guidance"
    DENOISE = "denoise"
    SEED = "seed"


class Source(StrEnum):
    """Where an interface comes from."""

    APP_MODE = "app_mode"
    MARKED = "marked"
    PROMOTED = "promoted"
    GUESSED = "guessed"
    GIVEN = "given"


@dataclass(frozen=True, slots=True)
class InterfaceInput:
    """One named input: what may be given, and where it goes."""

    name: str
    kind: Kind
    places: tuple[Place, ...]
    label: str = ""
    description: str = ""
    role: Role | None = None
    default: Any = None
    """What the workflow holds; `None` where it has to be given."""
    is_required: bool = False
    minimum: int | float | None = None
    maximum: int | float | None = None
    step: int | float | None = None
    choices: tuple[Any, ...] = ()
    is_multiline: bool = False


@dataclass(frozen=True, slots=True)
class InterfaceOutput:
    """One named output: which node makes it, and what kind of thing it is."""

    name: str
    kind: Kind
    node_id: str
    label: str = ""


@dataclass(frozen=True, slots=True)
class Interface:
    """The inputs and outputs of a workflow, in the order in which a person would fill them in."""

    source: Source
    inputs: tuple[InterfaceInput, ...]
    outputs: tuple[InterfaceOutput, ...]
    problems: tuple[Problem, ...] = ()
    """What was named but is not there, or could not be read."""

    def input(self, name: str) -> InterfaceInput | None:
        """Return the input of that name."""
        return next((each for each in self.inputs if each.name == name), None)

    def file_inputs(self) -> Iterator[InterfaceInput]:
        """Go through the inputs that take files."""
        return (each for each in self.inputs if each.kind.is_file)
