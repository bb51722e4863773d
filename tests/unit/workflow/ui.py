"""Write UI workflows in few words."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tests.unit.workflow.catalogs import entry

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.convert import Conversion, convert
from comfyserve.workflow.reader import parse_ui

SEEDED = {
    "seed": ["INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}],
    "steps": ["INT", {"default": 20, "min": 1, "max": 100}],
    "cfg": ["FLOAT", {"default": 8.0, "min": 0.0, "max": 100.0, "step": 0.1}],
}
INFO: dict[str, Any] = {
    "Load": entry({"file": [["a", "b"], {}]}, output=["IMAGE", "MASK"], display_name="Load It"),
    "Invert": entry({"image": ["IMAGE", {}]}, output=["IMAGE"]),
    "ToMask": entry({"image": ["IMAGE", {}]}, output=["MASK"]),
    "Sample": entry({"image": ["IMAGE", {}], **SEEDED}, output=["IMAGE"]),
    "Text": entry(
        {"text": ["STRING", {"multiline": True, "dynamicPrompts": True}]}, output=["STRING"]
    ),
    "Number": entry({"value": ["INT", {"default": 1, "min": -10, "max": 1000}]}, output=["INT"]),
    "Join": entry({"image1": ["IMAGE", {}], "image2": ["IMAGE", {}]}, output=["IMAGE"]),
    "Any": entry({"source": ["*", {}]}, output=["*"]),
    "SaveImage": entry(
        {"images": ["IMAGE", {}], "filename_prefix": ["STRING", {"default": "ComfyUI"}]},
        is_output=True,
    ),
}


def catalog(**more: Any) -> NodeCatalog:
    """Return a catalog with a handful of classes, and `more` of them."""
    return NodeCatalog.from_object_info({**INFO, **more})


@dataclass
class Ui:
    """A graph being written; `add` returns the node's id, `link` connects."""

    nodes: list[dict[str, Any]] = field(default_factory=list)
    links: list[Any] = field(default_factory=list)
    definitions: list[dict[str, Any]] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)

    def add(
        self,
        kind: str,
        values: Any = None,
        *,
        inputs: Sequence[str] = (),
        outputs: Sequence[str] = (),
        mode: int = 0,
        node_id: Any = None,
        **more: Any,
    ) -> Any:
        """Add a node. `inputs`: `name:TYPE`, with a `*` in front where it feeds a widget."""
        made = len(self.nodes) + 1 if node_id is None else node_id
        node = {
            "id": made,
            "type": kind,
            "mode": mode,
            "pos": [300 * len(self.nodes), 0],
            "size": [200, 100],
            "inputs": [_input(text) for text in inputs],
            "outputs": [_output(text) for text in outputs],
            "properties": {},
            **more,
        }
        if values is not None:
            node["widgets_values"] = values
        self.nodes.append(node)
        return made

    def node(self, node_id: Any) -> dict[str, Any]:
        """Return a node by its id."""
        return next(node for node in self.nodes if node["id"] == node_id)

    def link(self, origin: Any, slot: int, target: Any, name: str) -> int:
        """Connect an output to the input of that name."""
        made = len(self.links) + 1
        entries = self.node(target)["inputs"]
        index = next(i for i, each in enumerate(entries) if each["name"] == name)
        entries[index]["link"] = made
        outputs = self.node(origin)["outputs"]
        kind = outputs[slot]["type"] if slot < len(outputs) else "*"
        if slot < len(outputs):
            outputs[slot]["links"].append(made)
        self.links.append([made, origin, slot, target, index, kind])
        return made

    def json(self) -> dict[str, Any]:
        """Return the UI export."""
        numbers = [node["id"] for node in self.nodes if isinstance(node["id"], int)]
        made: dict[str, Any] = {
            "last_node_id": max(numbers, default=0),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "extra": self.extra,
            "version": 0.4,
        }
        if self.definitions:
            made["definitions"] = {"subgraphs": self.definitions}
        return made

    def definition(
        self,
        name: str,
        inputs: Mapping[str, tuple[str, Sequence[int]]],
        outputs: Mapping[str, tuple[str, Sequence[int]]],
    ) -> dict[str, Any]:
        """Return this graph as the inside of a subgraph; sides are `name: (TYPE, link ids)`."""
        keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
        return {
            "id": name,
            "name": f"The {name}",
            "version": 1,
            "nodes": self.nodes,
            "links": [dict(zip(keys, link, strict=True)) for link in self.links],
            "inputs": [_side(each, *inputs[each]) for each in inputs],
            "outputs": [_side(each, *outputs[each]) for each in outputs],
        }


def _side(name: str, kind: str, links: Sequence[int]) -> dict[str, Any]:
    return {"id": f"side-{name}", "name": name, "type": kind, "linkIds": list(links)}


def _input(text: str) -> dict[str, Any]:
    name, _, kind = text.lstrip("*").partition(":")
    entry = {"name": name, "type": kind or "*", "link": None}
    return {**entry, "widget": {"name": name}} if text.startswith("*") else entry


def _output(text: str) -> dict[str, Any]:
    name, _, kind = text.partition(":")
    return {"name": name, "type": kind or name, "links": []}


def converted(ui: Ui, **more: Any) -> Conversion:
    """Convert what was written, by the small catalog."""
    return convert(parse_ui(ui.json()), catalog(), **more)


def inputs(ui: Ui, node_id: Any, **more: Any) -> dict[str, Any]:
    """Return the inputs that a node has in the prompt."""
    found: dict[str, Any] = converted(ui, **more).prompt[str(node_id)]["inputs"]
    return found
