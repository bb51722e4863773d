"""The parsed UI workflow: nodes, links, slots and subgraph definitions exactly as the file says them.

Nodes, slots and links are named tuples: a file has thousands, and a frozen dataclass takes three times as
long to make.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final, NamedTuple

SUBGRAPH_INPUT_ID: Final = "-10"
"""The node id by which links inside a subgraph name its input side."""
SUBGRAPH_OUTPUT_ID: Final = "-20"
"""The node id by which links inside a subgraph name its output side."""


class Mode(IntEnum):
    """What the editor does with a node; the two trigger modes count as active."""

    ALWAYS = 0
    ON_EVENT = 1
    MUTED = 2
    ON_TRIGGER = 3
    BYPASSED = 4


class SavedInput(NamedTuple):
    """An input slot of a saved node."""

    name: str
    type: str
    link: str | None
    widget: str | None
    """The widget that this slot stands for, where it stands for one."""
    label: str = ""


class SavedOutput(NamedTuple):
    """An output slot of a saved node."""

    name: str
    type: str
    links: tuple[str, ...]


class SavedLink(NamedTuple):
    """One link record."""

    id: str
    origin_id: str
    origin_slot: int
    target_id: str
    target_slot: int


class SavedNode(NamedTuple):
    """A node as the file has it; ids are strings whatever they were."""

    id: str
    type: str
    title: str
    mode: int
    inputs: tuple[SavedInput, ...]
    outputs: tuple[SavedOutput, ...]
    values: Sequence[Any] | Mapping[str, Any] | None
    """`widgets_values`: a list by position; some custom nodes write an object by name."""
    named_values: Mapping[str, Any] | None
    """`widgets_values_named`, which newer editors write beside `widgets_values`."""
    properties: Mapping[str, Any]
    raw_position: object
    raw_size: object
    is_collapsed: bool
    has_number_id: bool

    @property
    def position(self) -> tuple[float, float] | None:
        """The left upper corner, in the editor's pixels."""
        return pair_of(self.raw_position)

    @property
    def size(self) -> tuple[float, float] | None:
        """Width and height, in the editor's pixels."""
        return pair_of(self.raw_size)


@dataclass(frozen=True, slots=True)
class SavedGraph:
    """Nodes and links of the root graph or of one subgraph."""

    nodes: tuple[SavedNode, ...]
    links: Mapping[str, SavedLink]


@dataclass(frozen=True, slots=True)
class SavedBoundary:
    """An input or output of a subgraph definition."""

    name: str
    type: str
    links: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class SavedDefinition:
    """A subgraph definition; nodes whose type is its id are its instances."""

    id: str
    name: str
    graph: SavedGraph
    inputs: tuple[SavedBoundary, ...]
    outputs: tuple[SavedBoundary, ...]
    is_nested: bool
    """Whether it was defined inside another definition instead of beside it."""


@dataclass(frozen=True, slots=True)
class SavedFrame:
    """A titled frame that the editor draws behind nodes (it calls them groups)."""

    title: str
    position: tuple[float, float]
    size: tuple[float, float]


@dataclass(frozen=True, slots=True)
class UiWorkflow:
    """A whole UI export."""

    graph: SavedGraph
    definitions: tuple[SavedDefinition, ...]
    group_nodes: Mapping[str, Any]
    """`extra.groupNodes`: legacy group nodes by name, unparsed."""
    extra: Mapping[str, Any]
    version: str
    """The schema version as text, `"0.4"` or `"1"`; `""` where the file does not say."""
    last_node_id: int
    frames: tuple[SavedFrame, ...] = ()
    dropped: tuple[str, ...] = field(default=())
    """What could not be read, one sentence each, the first few."""


def pair_of(value: object) -> tuple[float, float] | None:
    """Return a position or size; it is a list, or an object with the keys 0 and 1."""
    if isinstance(value, dict):
        value = [value.get("0"), value.get("1")]
    if not isinstance(value, list) or len(value) < 2:
        return None
    x, y = value[0], value[1]
    if not isinstance(x, (int, float)) or not isinstance(y, (int, float)):
        return None
    if not (-1e9 < x < 1e9 and -1e9 < y < 1e9):
        return None
    return float(x), float(y)
