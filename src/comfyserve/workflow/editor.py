"""A workflow as the editor holds it in memory once a file is loaded.

Loading is a sequence of changes to these objects (widgets get values, subgraph inputs appear, links are
dropped), so unlike everything around them they are mutable. They live for one conversion.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Any, Final

from comfyserve.workflow.bounds import Budget
from comfyserve.workflow.graph import Mode, SavedLink, SavedNode
from comfyserve.workflow.specs import InputSpec, NodeClass
from comfyserve.workflow.values import as_text_box

_MOST_TIDIED: Final = 1000


class Kind(Enum):
    """What kind of widget it is, as far as that decides values."""

    INT = auto()
    FLOAT = auto()
    TOGGLE = auto()
    TEXT = auto()
    MULTILINE = auto()
    MARKDOWN = auto()
    COMBO = auto()
    DYNAMIC_COMBO = auto()
    CURVE = auto()
    BUTTON = auto()
    CONTROL = auto()
    """A `control_after_generate` and its filter."""
    FIXED = auto()
    """A preview or player: it shows something and keeps the value it was made with."""
    OPTION = auto()
    """A choice of a `CustomCombo`; filling in the last one brings another."""
    OPTION_INDEX = auto()
    """Which option of a `CustomCombo` is chosen, worked out when the prompt is written."""
    OTHER = auto()


@dataclass(slots=True, eq=False)
class Widget:
    """A widget of one node."""

    name: str
    kind: Kind
    value: Any
    spec: InputSpec | None
    is_saved: bool
    """Whether it takes a place in `widgets_values`."""
    is_sent: bool
    """Whether its value goes into the prompt."""

    def set(self, value: object, *, multiline_is_text: bool = False) -> None:
        """Take a value; types are not checked, as in the editor."""
        if self.kind in (Kind.FIXED, Kind.OPTION_INDEX):
            return
        if (self.kind is Kind.MULTILINE and (multiline_is_text or value is None)) or (
            self.kind is Kind.MARKDOWN and not isinstance(value, str)
        ):
            value = as_text_box(value)
        self.value = value

    @property
    def choices(self) -> Sequence[Any]:
        """What a combo offers, nothing for other widgets."""
        if self.kind is Kind.COMBO and self.spec is not None:
            return self.spec.choices or ()
        if self.kind is Kind.DYNAMIC_COMBO and self.spec is not None:
            return tuple(dynamic_options(self.spec))
        return ()


@dataclass(slots=True, eq=False)
class Slot:
    """An input slot of one node."""

    name: str
    type: str
    link: str | None = None
    widget: str | None = None
    """Name of the widget that the slot feeds; on a subgraph instance that of the promoted one."""
    boundary: "Boundary | None" = None
    """On a subgraph instance: the input of the definition that it stands for."""
    promoted: Widget | None = None
    """On a subgraph instance: its own copy of the inner widget, while nothing is connected."""
    match: str | None = None
    """Of a matching input: the key of the inputs and outputs that take one type together."""
    allowed: str = ""
    """Of a matching input: the types that it can take."""


@dataclass(slots=True, eq=False)
class Output:
    """An output slot of one node."""

    name: str
    type: str
    links: list[str] = field(default_factory=list)


@dataclass(slots=True, eq=False)
class Link:
    """A connection inside one graph."""

    id: str
    origin_id: str
    origin_slot: int
    target_id: str
    target_slot: int

    @classmethod
    def of(cls, saved: SavedLink) -> "Link":
        """Return the record as a connection that can change."""
        return cls(saved.id, saved.origin_id, saved.origin_slot, saved.target_id, saved.target_slot)


class Role(Enum):
    """What a node is to the conversion."""

    CLASS = auto()
    """A node class of the catalog."""
    INSTANCE = auto()
    """A subgraph instance."""
    REROUTE = auto()
    PRIMITIVE = auto()
    NOTE = auto()
    SETTER = auto()
    """Names a connection (`SetNode` of the KJ pack and its kin)."""
    GETTER = auto()
    """Continues a named connection."""
    GROUP = auto()
    """A legacy group node."""
    UNKNOWN = auto()
    """A class that the catalog does not have."""


VIRTUAL = frozenset(
    {Role.INSTANCE, Role.REROUTE, Role.PRIMITIVE, Role.NOTE, Role.SETTER, Role.GETTER, Role.GROUP}
)
"""Roles that never reach the prompt themselves."""


@dataclass(frozen=True, slots=True)
class GrowingInput:
    """An input that offers one more socket whenever the last one is connected (`COMFY_AUTOGROW_V3`)."""

    name: str
    names: tuple[str, ...] | None
    """The names of its sockets, where they are not counted."""
    prefix: str
    least: int
    most: int
    inputs: tuple[InputSpec, ...]
    """What each step adds."""

    def socket_name(self, ordinal: int, spec: InputSpec) -> str:
        """Return the dotted name of a socket."""
        if self.names is not None:
            inner = self.names[ordinal] if 0 <= ordinal < len(self.names) else ""
        else:
            inner = f"{self.prefix if len(self.inputs) == 1 else spec.name}{ordinal}"
        return f"{self.name}.{inner}"

    def ordinal(self, socket_name: str) -> int | None:
        """Return which step a socket belongs to."""
        inner = socket_name[len(self.name) + 1 :]
        if self.names is not None:
            return self.names.index(inner) if inner in self.names else None
        digits = inner[len(inner.rstrip("0123456789")) :]
        return int(digits) if digits and len(digits) < 10 else None


@dataclass(slots=True, eq=False)
class Node:
    """A node of one graph."""

    id: str
    role: Role
    type: str
    title: str
    mode: int
    inputs: list[Slot]
    outputs: list[Output]
    widgets: list[Widget]
    properties: Mapping[str, Any]
    saved: SavedNode
    definition: "Definition | None" = None
    node_class: NodeClass | None = None
    growing: dict[str, "GrowingInput"] = field(default_factory=dict)
    """Growing inputs by name."""
    is_regular: bool = True
    """Whether it has the slots of its class and no others."""

    @property
    def is_active(self) -> bool:
        """Whether the node runs: neither muted nor bypassed."""
        return self.mode not in (Mode.MUTED, Mode.BYPASSED)

    def widget(self, name: str) -> Widget | None:
        """Return the first widget of that name; those of an instance are its promoted ones."""
        for widget in self.widgets:
            if widget.name == name:
                return widget
        if self.role is Role.INSTANCE:
            for slot in self.inputs:
                if slot.promoted is not None and slot.promoted.name == name:
                    return slot.promoted
        return None

    def widget_of(self, slot: Slot) -> Widget | None:
        """Return the widget that a slot feeds."""
        if slot.promoted is not None:
            return slot.promoted
        return None if slot.widget is None else self.widget(slot.widget)

    def slot_with(self, link_id: str) -> Slot | None:
        """Return the input that holds a link."""
        return next((slot for slot in self.inputs if slot.link == link_id), None)


@dataclass(slots=True, eq=False)
class Graph:
    """Nodes and links: the root graph, or the inside of a subgraph."""

    nodes: list[Node] = field(default_factory=list)
    by_id: dict[str, Node] = field(default_factory=dict)
    links: dict[str, Link] = field(default_factory=dict)

    def add(self, node: Node) -> None:
        """Add a node; of two with one id the first is found by it."""
        self.nodes.append(node)
        self.by_id.setdefault(node.id, node)

    def disconnect(self, slot: Slot) -> None:
        """Remove what is connected to an input."""
        link = self.links.pop(slot.link, None) if slot.link is not None else None
        slot.link = None
        origin = self.by_id.get(link.origin_id) if link is not None else None
        if link is not None and origin is not None and 0 <= link.origin_slot < len(origin.outputs):
            links = origin.outputs[link.origin_slot].links
            # A stale id does no harm; looking for it among thousands, thousands of times, would.
            if len(links) <= _MOST_TIDIED and link.id in links:
                links.remove(link.id)


@dataclass(slots=True, eq=False)
class Boundary:
    """An input or output of a subgraph definition; it is a slot on each instance."""

    name: str
    type: str
    links: list[str]


@dataclass(slots=True, eq=False)
class Definition:
    """A subgraph definition with what is inside it; all instances share it."""

    id: str
    name: str
    graph: Graph
    inputs: list[Boundary]
    outputs: list[Boundary]
    budget: Budget
    instances: list[Node] = field(default_factory=list)
    """Those built so far: they get new inputs as the definition does."""


@dataclass(slots=True)
class Counters:
    """The last ids that were given away; new ones count on from here."""

    node: int
    link: int = 0

    def next_node(self) -> str:
        """Return a fresh node id."""
        self.node += 1
        return str(self.node)

    def next_link(self) -> str:
        """Return a link id that no file can have."""
        self.link += 1
        return f"+{self.link}"


def dynamic_options(spec: InputSpec) -> Mapping[str, Mapping[str, Any]]:
    """Return the options of a dynamic combo: for each key the inputs that it brings."""
    options = spec.options.get("options")
    return {
        option["key"]: inputs if isinstance(inputs := option.get("inputs"), Mapping) else {}
        for option in (options if isinstance(options, list) else ())
        if isinstance(option, Mapping) and isinstance(option.get("key"), str)
    }
