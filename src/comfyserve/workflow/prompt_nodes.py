"""A prompt seen through the catalog: what runs, which values can be set, where values come from."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cached_property
from typing import Any, NamedTuple

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.remarks import title_of
from comfyserve.workflow.specs import InputSpec, NodeClass


class Place(NamedTuple):
    """An input of a node of the prompt."""

    node_id: str
    input: str


_PLAIN = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"})

_HELD = frozenset({"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO"})


class Nodes:
    """The nodes of one prompt. Entries that are no nodes, and classes that nobody knows, are passed over."""

    def __init__(self, prompt: Mapping[str, Any], catalog: NodeCatalog) -> None:
        """Look at a prompt; nothing of it is checked."""
        self.prompt = prompt
        self.catalog = catalog
        self._specs: dict[str, Mapping[str, InputSpec]] = {}

    def inputs(self, node_id: str) -> Mapping[str, Any]:
        """Return what a node is given; nothing where there is no such node."""
        node = self.prompt.get(node_id)
        inputs = node.get("inputs") if isinstance(node, Mapping) else None
        return inputs if isinstance(inputs, Mapping) else {}

    def class_of(self, node_id: str) -> NodeClass | None:
        """Return the class of a node, if it is known."""
        node = self.prompt.get(node_id)
        return self.catalog.get(node.get("class_type")) if isinstance(node, Mapping) else None

    def title(self, node_id: str) -> str:
        """Return the title over a node: its own, or the name of its class."""
        node_class = self.class_of(node_id)
        own = title_of(self.prompt.get(node_id))
        return own or (node_class.display_name if node_class is not None else "")

    def own_title(self, node_id: str) -> str:
        """Return the title that somebody gave a node; `""` where it is the class' own."""
        node_class = self.class_of(node_id)
        title = title_of(self.prompt.get(node_id)) or ""
        is_default = node_class is not None and title in (node_class.display_name, node_class.name)
        return "" if is_default else title

    def specs(self, node_id: str) -> Mapping[str, InputSpec]:
        """Return the inputs that a node declares, by name, dynamic ones expanded."""
        if node_id not in self._specs:
            node_class = self.class_of(node_id)
            if node_class is None:
                self._specs[node_id] = {}
            elif node_class.is_dynamic:
                specs = self.catalog.expand(node_class, self.inputs(node_id)).specs
                self._specs[node_id] = {spec.name: spec for spec in specs}
            else:
                self._specs[node_id] = node_class.by_name
        return self._specs[node_id]

    def spec(self, place: Place) -> InputSpec | None:
        """Return what is declared for an input."""
        return self.specs(place.node_id).get(place.input)

    def is_set(self, place: Place) -> bool:
        """Whether the prompt holds a value there, and no link."""
        inputs = self.inputs(place.node_id)
        return place.input in inputs and not isinstance(inputs[place.input], list)

    def value(self, place: Place) -> Any:  # noqa: ANN401 - any JSON
        """Return the value that the prompt holds."""
        value = self.inputs(place.node_id).get(place.input)
        return value["__value__"] if isinstance(value, Mapping) and "__value__" in value else value

    def values(self, node_id: str) -> Iterator[tuple[Place, InputSpec]]:
        """Go through the declared inputs of a node that hold plain values."""
        for name, spec in self.specs(node_id).items():
            place = Place(node_id, name)
            if spec.type in _PLAIN and self.is_set(place):
                yield place, spec

    def source(self, place: Place) -> str | None:
        """Return the node that an input is linked to."""
        value = self.inputs(place.node_id).get(place.input)
        if isinstance(value, list) and len(value) == 2 and isinstance(value[0], str):
            return value[0] if value[0] in self.prompt else None
        return None

    def links(self, node_id: str) -> Iterator[tuple[str, str]]:
        """Go through the links of a node: input and source."""
        for name in self.inputs(node_id):
            source = self.source(Place(node_id, name))
            if source is not None:
                yield name, source

    def held(self, node_id: str) -> Place | None:
        """Return the value of a node that does nothing but hold it, as ComfyUI's primitives do."""
        node_class = self.class_of(node_id)
        values = [place for place, _ in self.values(node_id)]
        if node_class is None or len(values) != 1 or any(True for _ in self.links(node_id)):
            return None
        gives = set(map(str, node_class.output_types))
        return values[0] if gives and gives <= _HELD else None

    def settled(self, place: Place) -> Place | None:
        """Return where the value of an input is set: there, or at a node that does nothing but hold it."""
        if self.is_set(place):
            return place
        source = self.source(place)
        return self.held(source) if source is not None else None

    @cached_property
    def outputs(self) -> list[str]:
        """The output nodes."""
        return [
            node_id
            for node_id in self.prompt
            if (node_class := self.class_of(node_id)) is not None and node_class.is_output
        ]

    @cached_property
    def running(self) -> list[str]:
        """The nodes that some output needs, in the prompt's order."""
        needed = self.upstream(self.outputs)
        return [node_id for node_id in self.prompt if node_id in needed]

    def upstream(self, starts: Iterable[str]) -> set[str]:
        """Return the nodes and all that they need."""
        return upstream(starts, lambda node_id: (source for _, source in self.links(node_id)))


def upstream(starts: Iterable[str], sources: Callable[[str], Iterable[str]]) -> set[str]:
    """Return the nodes and all that they need; `sources`: those that a node is linked to."""
    seen = set(starts)
    left = list(seen)
    while left:
        for source in sources(left.pop()):
            if source not in seen:
                seen.add(source)
                left.append(source)
    return seen
