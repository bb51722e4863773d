"""Inputs and outputs that the author of a workflow marked.

By the title of a node:

* `$name` exposes the value of a node that holds one, or `name_input` for each value of one that holds several;
* `$name(width, height)` exposes just these inputs, as `name_width` and `name_height` (as `name` if it is one);
* `#name` names an output node.

By the node itself: one with an `input_id` beside a `default_value`, as the packs for deployment have them,
exposes the default under that id.
"""

import re
from collections.abc import Iterator

from comfyserve.workflow.interface.entries import Entry
from comfyserve.workflow.problems import Code, Problem, Severity
from comfyserve.workflow.prompt_nodes import Nodes, Place

_INPUT = re.compile(r"\$\s*([\w][\w .-]{0,60})\s*(?:\(([^()]{0,500})\))?\s*")
_OUTPUT = re.compile(r"#\s*([\w][\w .-]{0,60})\s*")


def marked_inputs(nodes: Nodes, problems: list[Problem]) -> Iterator[Entry]:
    """Go through the marked inputs; a mark that fits nothing is a problem."""
    for node_id in nodes.prompt:
        mark = _INPUT.fullmatch(nodes.title(node_id))
        if mark is not None:
            yield from _titled(nodes, node_id, mark, problems)
            continue
        inputs = nodes.inputs(node_id)
        name, place = inputs.get("input_id"), Place(node_id, "default_value")
        if isinstance(name, str) and name and nodes.is_set(place):
            label, description = inputs.get("display_name"), inputs.get("description")
            yield Entry(
                (place,),
                name=name,
                label=label if isinstance(label, str) else "",
                description=description if isinstance(description, str) else "",
            )


def marked_outputs(nodes: Nodes) -> Iterator[tuple[str, str]]:
    """Go through the marked output nodes: id and name."""
    for node_id in nodes.outputs:
        mark = _OUTPUT.fullmatch(nodes.title(node_id))
        if mark is not None:
            yield node_id, mark[1].strip()


def _titled(
    nodes: Nodes, node_id: str, mark: re.Match[str], problems: list[Problem]
) -> Iterator[Entry]:
    name = mark[1].strip()
    held = [place for place, _ in nodes.values(node_id)]
    wanted = [part.strip() for part in (mark[2] or "").split(",") if part.strip()]
    places = [Place(node_id, each) for each in wanted] or held
    for place in places:
        if not nodes.is_set(place):
            problems.append(no_place(place, nodes))
            continue
        yield Entry((place,), name=name if len(places) == 1 else f"{name}_{place.input}")
    if not places:
        problems.append(no_place(Place(node_id, ""), nodes))


def no_place(place: Place, nodes: Nodes) -> Problem:
    """Say that a named input is not there, or holds no value."""
    is_there = place.node_id in nodes.prompt
    what = "takes its value from a link" if nodes.source(place) else "is not there"
    return Problem(
        Code.PLACE_GONE,
        f"Input '{place.input}' of node {place.node_id} {what}",
        node_id=place.node_id,
        node_title=nodes.title(place.node_id) if is_there else None,
        input_name=place.input,
        hint="Mark an input that holds a value, or save the app again in the editor.",
        severity=Severity.WARNING,
    )
