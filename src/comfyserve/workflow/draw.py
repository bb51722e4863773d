"""Draw a workflow as SVG: nodes with title and class, connections, and where its problems are."""

import html
import re
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

from comfyserve.workflow.graph import Mode, SavedFrame, UiWorkflow
from comfyserve.workflow.picture import HEAD, ROW, Box, Look, Picture, Wire, of_prompt, of_workflow
from comfyserve.workflow.prepare import Prepared
from comfyserve.workflow.problems import Problem, Severity
from comfyserve.workflow.reader import parse_ui

_MARGIN: Final = 60.0
_MAX_PIXELS: Final = 2400.0
_MAX_TEXT: Final = 200
_MAX_PROBLEMS: Final = 12
_NOT_XML: Final = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_STYLE: Final = """
text{font-family:"Segoe UI","Helvetica Neue",Arial,"DejaVu Sans",sans-serif;fill:#1f2733}
.frame{fill:#dfe6ee;fill-opacity:.45;stroke:#b9c5d3}
.frame-title{font-size:24px;fill:#5b6b7d}
.box{fill:#fff;stroke:#8b98a8;stroke-width:1.5}
.head{fill:#e4eaf1}
.subgraph .head{fill:#cfe0fb}
.note .box{fill:#fff7d6}.note .head{fill:#f6e7a6}
.muted{opacity:.4}.muted .box{stroke-dasharray:7 5}
.bypassed .head{fill:#e6d7f5}.bypassed{opacity:.7}
.title{font-size:17px;font-weight:600}
.class{font-size:13px;fill:#5b6b7d}
.slot{font-size:12px;fill:#5b6b7d}
.wire{fill:none;stroke-width:2.5;stroke-opacity:.75}
.error .box{stroke:#d32f2f;stroke-width:5}.error .head{fill:#fbd5d5}
.warning .box{stroke:#e69500;stroke-width:4}.warning .head{fill:#fdeac4}
.badge{stroke:#fff;stroke-width:2}.error .badge{fill:#d32f2f}.warning .badge{fill:#e69500}
.count{font-size:17px;font-weight:700;fill:#fff;text-anchor:middle}
"""


def draw(prepared: Prepared) -> str:
    """Draw a prepared workflow: as it stands in the editor where that is known, else in columns."""
    if prepared.source is not None:
        return draw_workflow(parse_ui(prepared.source), prepared.problems)
    return draw_prompt(prepared.prompt, prepared.problems)


def draw_workflow(workflow: UiWorkflow, problems: Iterable[Problem] = ()) -> str:
    """Draw the root graph of a UI workflow; problems inside a subgraph are marked on its instance."""
    return _svg(of_workflow(workflow), problems)


def draw_prompt(prompt: Mapping[str, Any], problems: Iterable[Problem] = ()) -> str:
    """Draw a prompt in API format, arranged in columns from left to right."""
    return _svg(of_prompt(prompt), problems)


def _svg(picture: Picture, problems: Iterable[Problem]) -> str:
    found = _by_box(picture, problems)
    left, top, width, height = _bounds(picture)
    scale = min(1.0, _MAX_PIXELS / max(width, height))
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{width * scale:.0f}" '
            f'height="{height * scale:.0f}" viewBox="{left:.0f} {top:.0f} {width:.0f} {height:.0f}">'
        ),
        f"<style>{_STYLE}</style>",
        f'<rect x="{left:.0f}" y="{top:.0f}" width="{width:.0f}" height="{height:.0f}" fill="#f6f8fa"/>',
        *map(_frame, picture.frames),
        *(_wire(wire, picture) for wire in picture.wires),
        *(_box(box, found.get(box.node_id, ())) for box in picture.boxes.values()),
        *(_badge(picture.boxes[node_id], own) for node_id, own in found.items()),
    ]
    if picture.left_out:
        note = f"and {picture.left_out} more nodes"
        parts.append(_text(note, left + 20, top + height - 20, "frame-title", width))
    parts.append("</svg>")
    return "\n".join(parts)


def _by_box(picture: Picture, problems: Iterable[Problem]) -> dict[str, list[Problem]]:
    """Sort problems by the box that shows them: the node's own, or the outermost it is inside of."""
    found: dict[str, list[Problem]] = {}
    for problem in problems:
        node_id = problem.node_id or ""
        box = node_id if node_id in picture.boxes else node_id.partition(":")[0]
        if box in picture.boxes:
            found.setdefault(box, []).append(problem)
    return found


def _bounds(picture: Picture) -> tuple[float, float, float, float]:
    rectangles = [(box.x, box.y, box.width, box.height) for box in picture.boxes.values()]
    rectangles += [(*frame.position, *frame.size) for frame in picture.frames]
    rectangles = rectangles or [(0.0, 0.0, 400.0, 200.0)]
    left = min(x for x, *_ in rectangles) - _MARGIN
    top = min(y for _, y, *_ in rectangles) - _MARGIN
    right = max(x + width for x, _, width, _ in rectangles) + _MARGIN
    bottom = max(y + height for _, y, _, height in rectangles) + _MARGIN
    return left, top, right - left, bottom - top


def _frame(frame: SavedFrame) -> str:
    (x, y), (width, height) = frame.position, frame.size
    rectangle = (
        f'<rect class="frame" x="{x:.0f}" y="{y:.0f}" width="{max(width, 0):.0f}" '
        f'height="{max(height, 0):.0f}" rx="8"/>'
    )
    return rectangle + _text(frame.title, x + 12, y + 28, "frame-title", width - 24, 24)


def _wire(wire: Wire, picture: Picture) -> str:
    x1, y1 = picture.boxes[wire.origin].output_at(wire.origin_slot)
    x2, y2 = picture.boxes[wire.target].input_at(wire.target_slot)
    bend = max(40.0, min(abs(x2 - x1) / 2, 240.0))
    hue = zlib.crc32(wire.type.encode("utf-8", "replace")) % 360
    return (
        f'<path class="wire" stroke="hsl({hue},55%,50%)" d="M{x1:.0f} {y1:.0f} '
        f'C{x1 + bend:.0f} {y1:.0f} {x2 - bend:.0f} {y2:.0f} {x2:.0f} {y2:.0f}"/>'
    )


def _box(box: Box, problems: Sequence[Problem]) -> str:
    lines = [f'<g class="{" ".join(_classes(box, problems))}">', _tooltip(box, problems)]
    lines.append(
        f'<rect class="box" x="{box.x:.0f}" y="{box.y:.0f}" width="{box.width:.0f}" '
        f'height="{box.height:.0f}" rx="7"/>'
    )
    if box.look is not Look.REROUTE:
        lines += _label(box)
    return "\n".join((*lines, "</g>"))


def _badge(box: Box, problems: Sequence[Problem]) -> str:
    x, y = box.x + box.width, box.y
    return (
        f'<g class="{_gravity(problems)}"><circle class="badge" cx="{x:.0f}" cy="{y:.0f}" r="16"/>'
        f'<text class="count" x="{x:.0f}" y="{y + 6:.0f}">{len(problems)}</text></g>'
    )


def _classes(box: Box, problems: Sequence[Problem]) -> Iterator[str]:
    yield box.look.name.lower()
    if box.mode == Mode.MUTED:
        yield "muted"
    elif box.mode == Mode.BYPASSED:
        yield "bypassed"
    if problems:
        yield _gravity(problems)


def _gravity(problems: Sequence[Problem]) -> str:
    is_error = any(problem.severity is Severity.ERROR for problem in problems)
    return "error" if is_error else "warning"


def _tooltip(box: Box, problems: Sequence[Problem]) -> str:
    lines = [f"{box.title[:_MAX_TEXT]} ({box.node_id}): {box.class_type}"]
    lines += [f"{problem.message} {problem.hint}" for problem in problems[:_MAX_PROBLEMS]]
    return f"<title>{escaped(chr(10).join(line[:500] for line in lines))}</title>"


def _label(box: Box) -> Iterator[str]:
    head = min(HEAD, box.height) - 3
    yield (
        f'<rect class="head" x="{box.x + 3:.0f}" y="{box.y + 3:.0f}" '
        f'width="{box.width - 6:.0f}" height="{head:.0f}" rx="5"/>'
    )
    room = box.width - 24
    yield _text(box.title, box.x + 12, box.y + 22, "title", room, 17)
    about = box.class_type if box.class_type != box.title else ""
    yield _text(f"{about} #{box.node_id}".strip(), box.x + 12, box.y + 39, "class", room, 13)
    for index, name in enumerate(box.inputs):
        x, y = box.input_at(index)
        if HEAD + ROW * (index + 1) > box.height + 4:
            return
        yield _text(name, x + 12, y + 4, "slot", room, 12)


def _text(text: str, x: float, y: float, kind: str, room: float, size: float = 14) -> str:
    """Write a text, cut to the room it has; letters are a little more than half as wide as high."""
    most = max(int(room / (size * (0.62 if kind == "title" else 0.54))), 1)
    line = " ".join(text[: _MAX_TEXT * 2].split())[:_MAX_TEXT]
    if len(line) > most:
        line = f"{line[: max(most - 1, 1)]}…"
    return f'<text class="{kind}" x="{x:.0f}" y="{y:.0f}">{escaped(line)}</text>'


def escaped(text: str) -> str:
    """Return a text as it may stand in XML, without the characters that may not at all."""
    return html.escape(_NOT_XML.sub("�", text))
