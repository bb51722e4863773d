"""A drawing of a workflow as PNG: what the SVG shows, painted with Pillow."""

import io
import math
from collections.abc import Sequence
from functools import cache
from typing import Final

from PIL import Image, ImageDraw, ImageFont

from comfyserve.workflow import Prepared, Problem
from comfyserve.workflow.draw import (
    MAX_PIXELS,
    bounds,
    by_box,
    gravity,
    pictured,
    wire_bend,
    wire_color,
)
from comfyserve.workflow.graph import Mode
from comfyserve.workflow.picture import HEAD, ROW, Box, Look, Wire

_FINER: Final = 2
"""Painted that much larger and then reduced: Pillow's lines have hard edges."""
_CURVE: Final = 24
_HEADS: Final = {Look.SUBGRAPH: "#cfe0fb", Look.NOTE: "#f6e7a6"}
_STRONG: Final = {"error": "#d32f2f", "warning": "#e69500"}
_PALE: Final = {"error": "#fbd5d5", "warning": "#fdeac4"}


@cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


class _Painter:
    """Paints in the coordinates of the editor."""

    def __init__(self, left: float, top: float, width: float, height: float) -> None:
        self.scale = min(1.0, MAX_PIXELS / max(width, height)) * _FINER
        self._left, self._top = left, top
        size = (max(round(width * self.scale), 1), max(round(height * self.scale), 1))
        self.image = Image.new("RGB", size, "#f6f8fa")
        self._on = ImageDraw.Draw(self.image)

    def _at(self, x: float, y: float) -> tuple[float, float]:
        return (x - self._left) * self.scale, (y - self._top) * self.scale

    def rectangle(
        self,
        place: tuple[float, float, float, float],
        fill: str,
        edge: str | None = None,
        line: float = 1.5,
    ) -> None:
        """Paint a rectangle with round corners: left, top, width, height."""
        x, y, width, height = place
        self._on.rounded_rectangle(
            (*self._at(x, y), *self._at(x + max(width, 1), y + max(height, 1))),
            radius=6 * self.scale,
            fill=fill,
            outline=edge,
            width=max(round(line * self.scale), 1),
        )

    def text(self, x: float, y: float, text: str, size: float, room: float) -> None:
        """Write one line with its base at `y`, cut to the room it has."""
        font = _font(max(round(size * self.scale), 1))
        line, most = " ".join(text[:400].split()), room * self.scale
        if font.getlength(line) > most:
            while line and font.getlength(f"{line}…") > most:
                line = line[:-1]
            line = f"{line}…"
        color = "#1f2733" if size > 15 else "#5b6b7d"
        self._on.text(self._at(x, y - size), line, fill=color, font=font)

    def curve(self, start: tuple[float, float], end: tuple[float, float], color: str) -> None:
        """Paint a wire."""
        (x1, y1), (x2, y2) = start, end
        bend = wire_bend(x1, x2)
        points = []
        for step in range(_CURVE + 1):
            t = step / _CURVE
            a, b, c, d = (1 - t) ** 3, 3 * t * (1 - t) ** 2, 3 * t * t * (1 - t), t**3
            x = a * x1 + b * (x1 + bend) + c * (x2 - bend) + d * x2
            points.append(self._at(x, a * y1 + b * y1 + c * y2 + d * y2))
        self._on.line(points, fill=color, width=max(round(2.5 * self.scale), 1), joint="curve")

    def badge(self, x: float, y: float, count: int, color: str) -> None:
        """Mark a corner with a number."""
        around = (*self._at(x - 16, y - 16), *self._at(x + 16, y + 16))
        self._on.ellipse(around, fill=color, outline="#ffffff", width=round(2 * self.scale) or 1)
        font = _font(max(round(17 * self.scale), 1))
        self._on.text(self._at(x, y), str(count), fill="#ffffff", font=font, anchor="mm")


def paint(prepared: Prepared) -> bytes:
    """Return the drawing of a prepared workflow, nodes with problems marked."""
    picture = pictured(prepared)
    found = by_box(picture, prepared.problems)
    left, top, width, height = bounds(picture)
    painter = _Painter(left, top, width, height)
    for frame in picture.frames:
        painter.rectangle((*frame.position, *frame.size), "#e9eef3", "#b9c5d3")
        x, y = frame.position
        painter.text(x + 12, y + 28, frame.title, 24, frame.size[0] - 24)
    for wire in picture.wires:
        _wire(painter, wire, picture.boxes[wire.origin], picture.boxes[wire.target])
    for box in picture.boxes.values():
        _box(painter, box, found.get(box.node_id, ()))
    for node_id, problems in found.items():
        box = picture.boxes[node_id]
        painter.badge(box.x + box.width, box.y, len(problems), _STRONG[gravity(problems)])
    if picture.left_out:
        painter.text(left + 20, top + height - 20, f"and {picture.left_out} more nodes", 24, width)
    size = tuple(math.ceil(side / _FINER) for side in painter.image.size)
    out = io.BytesIO()
    painter.image.resize((size[0], size[1]), Image.Resampling.BOX).save(out, "PNG")
    return out.getvalue()


def _wire(painter: _Painter, wire: Wire, origin: Box, target: Box) -> None:
    start, end = origin.output_at(wire.origin_slot), target.input_at(wire.target_slot)
    painter.curve(start, end, wire_color(wire))


def _box(painter: _Painter, box: Box, problems: Sequence[Problem]) -> None:
    fill, head, edge, line = "#ffffff", _HEADS.get(box.look, "#e4eaf1"), "#8b98a8", 1.5
    if box.mode in (Mode.MUTED, Mode.BYPASSED):
        fill, head = ("#e9ecef", "#dde1e5") if box.mode == Mode.MUTED else ("#f6f1fb", "#e6d7f5")
    elif box.look is Look.NOTE:
        fill = "#fff7d6"
    if problems:
        kind = gravity(problems)
        head, edge, line = _PALE[kind], _STRONG[kind], 5
    painter.rectangle((box.x, box.y, box.width, box.height), fill, edge, line)
    if box.look is Look.REROUTE:
        return
    top = min(HEAD, box.height) - 3
    painter.rectangle((box.x + 3, box.y + 3, box.width - 6, top), head)
    room = box.width - 24
    painter.text(box.x + 12, box.y + 22, box.title, 17, room)
    about = box.class_type if box.class_type != box.title else ""
    painter.text(box.x + 12, box.y + 39, f"{about} #{box.node_id}".strip(), 13, room)
    for index, name in enumerate(box.inputs):
        if HEAD + ROW * (index + 1) > box.height + 4:
            break
        x, y = box.input_at(index)
        painter.text(x + 12, y + 5, name, 12, room)
