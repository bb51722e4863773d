"""How a node class is written down: its inputs and outputs as data, and the function that computes it.

The function takes its inputs by name and returns a tuple with one value per output, or an `Outcome` where
it also reports something to the client. Images are `float32` arrays of shape (batch, height, width,
channels) with values from 0 to 1, masks the same without channels: as in ComfyUI.
"""

from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from comfyserve.engine.folders import Folders
from comfyserve.engine.hub import Preview

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Array: TypeAlias = "NDArray[np.float32]"
Choices: TypeAlias = tuple[str, ...] | Callable[[Folders], tuple[str, ...]]


class Style(StrEnum):
    """ComfyUI has two ways to declare a class; `/object_info` shows which one was used."""

    CLASSIC = "classic"
    SCHEMA = "schema"


class Hidden(StrEnum):
    """What a function gets besides its inputs. All but the context are listed in `/object_info`."""

    PROMPT = "prompt"
    EXTRA_PNGINFO = "extra_pnginfo"
    UNIQUE_ID = "unique_id"
    CONTEXT = "context"


class Context(Protocol):
    """The run that a node is part of."""

    @property
    def folders(self) -> Folders:
        """Where files are."""
        ...

    @property
    def has_metadata(self) -> bool:
        """Whether saved files carry the prompt."""
        ...

    @property
    def temp_tag(self) -> str:
        """Five letters for names of temporary files, the same at each run of this node."""
        ...

    def check(self) -> None:
        """Raises `Interrupted` when the prompt is to stop."""
        ...

    def progress(self, value: float, maximum: float, preview: Preview | None = None) -> None:
        """Report progress. Raises `Interrupted` when the prompt is to stop."""
        ...

    def say(self, text: str) -> None:
        """Show a line of text at the node."""
        ...


@dataclass(frozen=True, slots=True)
class Outcome:
    """Values for the outputs, and what to report to the client by key (`images`, `text`, ...)."""

    values: Sequence[Any] = ()
    ui: Mapping[str, Sequence[Any]] = field(default_factory=dict)


Returned: TypeAlias = tuple[Any, ...] | Outcome


@dataclass(frozen=True, slots=True)
class Input:
    """One input. `options` are those of `/object_info` (`default`, `min`, `max`, `step`, ...)."""

    name: str
    type: str
    options: Mapping[str, Any] = field(default_factory=dict)
    choices: Choices | None = None
    is_optional: bool = False

    def describe(self, style: Style, folders: Folders) -> list[Any]:
        """Return the spec as `/object_info` gives it."""
        if self.choices is None:
            return [self.type, dict(self.options)] if self.options else [self.type]
        choices = list(self.choices(folders) if callable(self.choices) else self.choices)
        if style is Style.SCHEMA:
            return ["COMBO", {"multiselect": False, "options": choices, **self.options}]
        return [choices, dict(self.options)] if self.options else [choices]


@dataclass(frozen=True, slots=True)
class Output:
    """One output. A list output gives a list of values, each of which goes through what follows."""

    type: str
    name: str = ""
    is_list: bool = False


@dataclass(frozen=True, slots=True)
class NodeClass:
    """One node class."""

    name: str
    title: str
    category: str
    run: Callable[..., Returned]
    inputs: tuple[Input, ...] = ()
    outputs: tuple[Output, ...] = ()
    style: Style = Style.CLASSIC
    module: str = "nodes"
    hidden: tuple[Hidden, ...] = ()
    is_output: bool = False
    is_deprecated: bool = False
    takes_lists: bool = False
    """Whether the function gets whole lists, instead of being called for each of their values."""
    changed: Callable[..., Hashable] | None = None
    """ComfyUI's IS_CHANGED: takes the folders and the inputs; another answer means run again."""

    def describe(self, folders: Folders) -> dict[str, Any]:
        """Return the entry of `/object_info`."""
        sections = {
            "required": [each for each in self.inputs if not each.is_optional],
            "optional": [each for each in self.inputs if each.is_optional],
        }
        described: dict[str, dict[str, Any]] = {
            section: {each.name: each.describe(self.style, folders) for each in inputs}
            for section, inputs in sections.items()
            if inputs or section == "required"
        }
        hidden = {each.value: self._describe_hidden(each) for each in self._listed_hidden}
        if hidden:
            described["hidden"] = hidden
        entry = {
            "input": described,
            "input_order": {section: list(inputs) for section, inputs in described.items()},
            "is_input_list": self.takes_lists,
            "output": [output.type for output in self.outputs],
            "output_is_list": [output.is_list for output in self.outputs],
            "output_name": [output.name or output.type for output in self.outputs],
            "name": self.name,
            "display_name": self.title,
            "description": "",
            "python_module": self.module,
            "category": self.category,
            "output_node": self.is_output,
            "has_intermediate_output": False,
        }
        return entry | self._style_keys()

    @property
    def _listed_hidden(self) -> list[Hidden]:
        return [each for each in self.hidden if each is not Hidden.CONTEXT]

    def _describe_hidden(self, hidden: Hidden) -> str | list[str]:
        name = hidden.value.upper()
        return [name] if self.style is Style.SCHEMA else name

    def _style_keys(self) -> dict[str, Any]:
        if self.style is Style.CLASSIC:
            return {"deprecated": True} if self.is_deprecated else {}
        return {
            "output_tooltips": [None] * len(self.outputs),
            "output_matchtypes": None,
            "deprecated": self.is_deprecated,
            "experimental": False,
            "dev_only": False,
            "api_node": False,
            "price_badge": None,
            "search_aliases": [],
            "essentials_category": None,
        }


def image(name: str, *, optional: bool = False) -> Input:
    """An input for a batch of images."""
    return Input(name, "IMAGE", is_optional=optional)


def mask(name: str, *, optional: bool = False) -> Input:
    """An input for a batch of masks."""
    return Input(name, "MASK", is_optional=optional)


def integer(name: str, **options: object) -> Input:
    """A whole number: `default`, `min`, `max`, `step`."""
    return Input(name, "INT", MappingProxyType(options))


def number(name: str, **options: object) -> Input:
    """A number with a fraction."""
    return Input(name, "FLOAT", MappingProxyType(options))


def string(name: str, **options: object) -> Input:
    """A text."""
    return Input(name, "STRING", MappingProxyType(options))


def boolean(name: str, **options: object) -> Input:
    """A switch."""
    return Input(name, "BOOLEAN", MappingProxyType(options))


def choice(name: str, *choices: str, **options: object) -> Input:
    """One of several texts."""
    return Input(name, "COMBO", MappingProxyType(options), choices)


IMAGE = Output("IMAGE")
MASK = Output("MASK")
