"""What a drawing of a workflow shows: boxes and wires with their places, from either format."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from enum import Enum, auto
from typing import Any, Final

from comfyserve.workflow.graph import Mode, SavedFrame, SavedNode, UiWorkflow
from comfyserve.workflow.layers import columns

MAX_BOXES: Final = 2000
"""Nodes that are drawn; nobody sees more at a glance."""
_MAX_WIRES: Final = 20_000
_MAX_EXTENT: Final = 50_000.0
"""Pixels between saved places, beyond which nobody could read a drawing to scale."""
HEAD: Final = 46.0
"""Height of a box above its slots."""
ROW: Final = 20.0
"""Height of a slot."""
_WIDTH: Final = 240.0
_COLUMN_GAP: Final = 110.0
_ROW_GAP: Final = 36.0
_MOST_ROWS: Final = 40


class Look(Enum):
    """How a box is drawn."""

    NODE = auto()
    SUBGRAPH = auto()
    NOTE = auto()
    REROUTE = auto()


@dataclass(frozen=True, slots=True)
class Box:
    """A node."""

    node_id: str
    title: str
    class_type: str
    look: Look
    mode: int
    inputs: tuple[str, ...]
    """Names of the inputs that a wire can lead to."""
    outputs: int
    x: float = 0.0
    y: float = 0.0
    width: float = _WIDTH
    height: float = HEAD
    is_placed: bool = False

    def input_at(self, slot: int) -> tuple[float, float]:
        """Return where a wire ends."""
        return self.x, self._row(slot)

    def output_at(self, slot: int) -> tuple[float, float]:
        """Return where a wire begins."""
        return self.x + self.width, self._row(slot)

    def _row(self, slot: int) -> float:
        if self.look is Look.REROUTE:
            return self.y + self.height / 2
        row = min(max(slot, 0), _MOST_ROWS)  # a file may say any number
        return self.y + min(HEAD + ROW * (row + 0.5), max(self.height - 4, 4))


@dataclass(frozen=True, slots=True)
class Wire:
    """A connection."""

    origin: str
    origin_slot: int
    target: str
    target_slot: int
    type: str


@dataclass(frozen=True, slots=True)
class Picture:
    """Everything that is drawn."""

    boxes: Mapping[str, Box]
    wires: Sequence[Wire]
    frames: Sequence[SavedFrame] = ()
    left_out: int = 0
    """Nodes that there was no room for."""


_NOTES: Final = frozenset({"Note", "MarkdownNote"})
_REROUTES: Final = frozenset({"Reroute", "Reroute (rgthree)"})


def of_workflow(workflow: UiWorkflow) -> Picture:
    """Return the root graph of a UI workflow, where its nodes stand in the editor."""
    nodes = workflow.graph.nodes[:MAX_BOXES]
    names = {definition.id: definition.name for definition in workflow.definitions}
    boxes = {node.id: _box_of(node, names) for node in reversed(nodes)}
    boxes = dict(reversed(boxes.items()))
    wires = list(_wires_of(workflow, nodes, boxes))[:_MAX_WIRES]
    picture = Picture(boxes, wires, workflow.frames, len(workflow.graph.nodes) - len(nodes))
    return picture if _is_placed(picture) else arranged(replace(picture, frames=()))


def _is_placed(picture: Picture) -> bool:
    """Whether the saved places can be used: all known, few on top of each other, none far off."""
    boxes = picture.boxes.values()
    points = [(box.x, box.y) for box in boxes]
    points += [frame.position for frame in picture.frames]
    points += [
        (frame.position[0] + frame.size[0], frame.position[1] + frame.size[1])
        for frame in picture.frames
    ]
    return (
        all(box.is_placed for box in boxes)
        and len({(box.x, box.y) for box in boxes}) > len(boxes) // 2
        and all(max(side) - min(side) <= _MAX_EXTENT for side in zip(*points, strict=True))
    )


def _box_of(node: SavedNode, names: Mapping[str, str]) -> Box:
    place, size = node.position, node.size
    look = Look.NODE
    if node.type in names:
        look = Look.SUBGRAPH
    elif node.type in _NOTES:
        look = Look.NOTE
    elif node.type in _REROUTES:
        look = Look.REROUTE
    width, height = size or (_WIDTH, HEAD)
    rows = max(len(node.inputs), len(node.outputs))
    if look is Look.REROUTE:
        width, height = min(width, 80.0), 26.0
    elif node.is_collapsed:
        width, height = _WIDTH, HEAD
    else:
        height = max(height, HEAD + ROW * min(rows, 3))
    return Box(
        node_id=node.id,
        title=node.title or names.get(node.type, "") or node.type,
        class_type="subgraph" if look is Look.SUBGRAPH else node.type,
        look=look,
        mode=node.mode,
        inputs=tuple(slot.name for slot in node.inputs),
        outputs=len(node.outputs),
        x=place[0] if place else 0.0,
        y=place[1] if place else 0.0,
        width=min(max(width, 30.0 if look is Look.REROUTE else 140.0), 3000.0),
        height=min(height, 3000.0),
        is_placed=place is not None,
    )


def _wires_of(
    workflow: UiWorkflow, nodes: Iterable[SavedNode], boxes: Mapping[str, Box]
) -> Iterable[Wire]:
    for node in nodes:
        for index, slot in enumerate(node.inputs):
            link = workflow.graph.links.get(slot.link or "")
            if link is not None and link.origin_id in boxes:
                yield Wire(link.origin_id, link.origin_slot, node.id, index, slot.type)


def of_prompt(prompt: Mapping[str, Any]) -> Picture:
    """Return a prompt in API format, arranged in columns."""
    entries = {
        node_id: node
        for node_id, node in list(prompt.items())[:MAX_BOXES]
        if isinstance(node, Mapping)
    }
    boxes: dict[str, Box] = {}
    wires: list[Wire] = []
    outputs: dict[str, int] = {}
    for node_id, node in entries.items():
        inputs = node.get("inputs")
        links = _links(inputs) if isinstance(inputs, Mapping) else {}
        for index, (origin, slot) in enumerate(links.values()):
            if origin in entries and len(wires) < _MAX_WIRES:
                wires.append(Wire(origin, slot, node_id, index, str(slot)))
                outputs[origin] = max(outputs.get(origin, 0), min(slot, 30) + 1)
        boxes[node_id] = _prompt_box(node_id, node, tuple(links))
    boxes = {key: replace(box, outputs=outputs.get(key, 0)) for key, box in boxes.items()}
    return arranged(Picture(boxes, wires, left_out=len(prompt) - len(entries)))


def _links(inputs: Mapping[str, Any]) -> dict[str, tuple[str, int]]:
    return {
        name: (value[0], value[1])
        for name, value in inputs.items()
        if isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and value[1] >= 0
    }


def _prompt_box(node_id: str, node: Mapping[str, Any], inputs: tuple[str, ...]) -> Box:
    class_type, meta = node.get("class_type"), node.get("_meta")
    kind = class_type if isinstance(class_type, str) else "?"
    title = meta.get("title") if isinstance(meta, Mapping) else None
    return Box(
        node_id=node_id,
        title=title if isinstance(title, str) and title else kind,
        class_type=kind,
        look=Look.NODE,
        mode=Mode.ALWAYS,
        inputs=inputs,
        outputs=0,
    )


def arranged(picture: Picture) -> Picture:
    """Return the picture with its boxes in columns."""
    edges = [(wire.origin, wire.target) for wire in picture.wires]
    placed: dict[str, Box] = {}
    x = 0.0
    for column in columns(list(picture.boxes), edges):
        boxes = [_fitted(picture.boxes[node_id]) for node_id in column]
        y = -sum(box.height + _ROW_GAP for box in boxes) / 2
        for box in boxes:
            placed[box.node_id] = replace(box, x=x, y=y)
            y += box.height + _ROW_GAP
        x += max(box.width for box in boxes) + _COLUMN_GAP
    boxes_in_order = {node_id: placed[node_id] for node_id in picture.boxes}
    return replace(picture, boxes=boxes_in_order)


def _fitted(box: Box) -> Box:
    if box.look is Look.REROUTE:
        return replace(box, width=80.0, height=26.0)
    rows = min(max(len(box.inputs), box.outputs), _MOST_ROWS)
    return replace(box, width=_WIDTH, height=HEAD + ROW * rows + 6)
