"""Drawings: well-formed whatever the texts are, every node and link there, problems marked."""

import re
from itertools import pairwise
from typing import Any
from xml.etree import ElementTree as ET

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.workflow.test_graph import JSON
from tests.unit.workflow.ui import Ui, catalog

from comfyserve.workflow import prepare
from comfyserve.workflow.draw import draw, draw_prompt, draw_workflow
from comfyserve.workflow.layers import columns
from comfyserve.workflow.picture import MAX_BOXES, Picture, of_prompt, of_workflow
from comfyserve.workflow.problems import Code, Problem, Severity
from comfyserve.workflow.reader import parse_ui

SVG = "{http://www.w3.org/2000/svg}"
HOSTILE = "</text><script>alert('1')</script> & \"x\" ]]> \x00\x0b\ud800 <!-- \u202e"


def parsed(svg: str) -> ET.Element:
    """Return the drawing's root; it is well-formed, and as UTF-8 too."""
    return ET.fromstring(svg.encode())


def boxes(svg: str) -> dict[str, ET.Element]:
    """Return the boxes by what stands in their tooltip between parentheses."""
    found = {}
    for group in parsed(svg).iter(f"{SVG}g"):
        tooltip = group.find(f"{SVG}title")
        if tooltip is not None:
            found[re.findall(r"\(([^()]*)\): ", tooltip.text or "")[0]] = group
    return found


def texts(svg: str) -> list[str]:
    return [each.text or "" for each in parsed(svg).iter(f"{SVG}text")]


def wires(svg: str) -> int:
    return len(list(parsed(svg).iter(f"{SVG}path")))


def chain() -> Ui:
    ui = Ui()
    loader = ui.add("Load", ["a"], outputs=["IMAGE"], title="My picture")
    invert = ui.add("Invert", inputs=["image:IMAGE"], outputs=["IMAGE"])
    save = ui.add("SaveImage", ["x"], inputs=["images:IMAGE"])
    ui.link(loader, 0, invert, "image")
    ui.link(invert, 0, save, "images")
    return ui


def test_a_workflow_shows_titles_classes_links_and_frames() -> None:
    ui = {**chain().json(), "groups": [{"title": "Step 1", "bounding": [-20, -60, 900, 300]}]}
    svg = draw_workflow(parse_ui(ui))
    assert boxes(svg).keys() == {"1", "2", "3"}
    assert {"My picture", "Load #1", "Invert", "#2", "images", "Step 1"} <= set(texts(svg))
    assert wires(svg) == 2


def test_saved_places_are_kept() -> None:
    picture = of_workflow(parse_ui(chain().json()))
    assert [(box.x, box.y) for box in picture.boxes.values()] == [(0, 0), (300, 0), (600, 0)]


@pytest.mark.parametrize(
    "position", [None, [0, 0], "here", [10**15, 0]], ids=["missing", "same", "text", "far"]
)
def test_without_useful_places_nodes_stand_in_columns(position: Any) -> None:
    ui = chain()
    for node in ui.nodes[1:]:
        node["pos"] = position
    picture = of_workflow(parse_ui(ui.json()))
    lefts = [box.x for box in picture.boxes.values()]
    assert lefts == sorted(set(lefts))
    assert lefts[-1] < 2000


def test_modes_subgraphs_notes_and_reroutes_look_different() -> None:
    ui = chain()
    ui.nodes[0]["mode"], ui.nodes[1]["mode"] = 2, 4
    ui.add("MarkdownNote", ["read me"])
    ui.add("Reroute", inputs=[":*"], outputs=["*"])
    ui.add("inner")
    ui.definitions.append(Ui().definition("inner", {}, {}))
    drawn = boxes(draw_workflow(parse_ui(ui.json())))
    looks = {node_id: group.get("class") for node_id, group in drawn.items()}
    assert looks == {
        "1": "node muted",
        "2": "node bypassed",
        "3": "node",
        "4": "note",
        "5": "reroute",
        "6": "subgraph",
    }


def test_a_collapsed_node_is_small() -> None:
    ui = chain()
    ui.nodes[2].update(flags={"collapsed": True}, size=[900, 900])
    box = of_workflow(parse_ui(ui.json())).boxes["3"]
    assert (box.width, box.height) < (300, 60)


def test_problems_are_marked_where_they_are() -> None:
    problems = [
        Problem(Code.VALUE_NOT_IN_LIST, "No such file.", node_id="1", hint="Choose b."),
        Problem(Code.LINK_DROPPED, "Odd.", node_id="1", severity=Severity.WARNING),
        Problem(Code.LINK_DROPPED, "Odd.", node_id="2:7:1", severity=Severity.WARNING),
        Problem(Code.PROMPT_NO_OUTPUTS, "About all."),
        Problem(Code.PROMPT_NO_OUTPUTS, "Elsewhere.", node_id="99"),
    ]
    svg = draw_workflow(parse_ui(chain().json()), problems)
    drawn = boxes(svg)
    classes = {node_id: group.get("class") for node_id, group in drawn.items()}
    assert classes == {"1": "node error", "2": "node warning", "3": "node"}
    assert "No such file. Choose b." in (drawn["1"].findtext(f"{SVG}title") or "")
    counts = [each.text for each in parsed(svg).iter(f"{SVG}text") if each.get("class") == "count"]
    assert counts == ["2", "1"]


def test_what_prepare_found_is_drawn() -> None:
    ui = chain()
    ui.nodes[0]["widgets_values"] = ["missing.png"]
    from_editor = prepare(ui.json(), catalog())
    from_api = prepare(dict(from_editor.prompt), catalog())
    for prepared in (from_editor, from_api):
        assert boxes(draw(prepared))["1"].get("class") == "node error"
    assert wires(draw(from_api)) == 2


def test_a_prompt_shows_inner_ids_and_its_titles() -> None:
    prompt = {
        "1:2": {"class_type": "Load", "inputs": {}, "_meta": {"title": "Inner"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["1:2", 0], "list": [1, 2]}},
    }
    svg = draw_prompt(prompt)
    assert boxes(svg).keys() == {"1:2", "3"}
    assert {"Inner", "Load #1:2", "SaveImage"} <= set(texts(svg))
    assert wires(svg) == 1


def test_hostile_texts_stay_texts() -> None:
    prompt = {HOSTILE: {"class_type": HOSTILE, "inputs": {HOSTILE: [HOSTILE, 0]}}}
    problem = Problem(Code.PROMPT_NO_OUTPUTS, HOSTILE, node_id=HOSTILE, hint=HOSTILE)
    ui = chain()
    ui.nodes[0].update(title=HOSTILE, type=HOSTILE, id=HOSTILE)
    ui.nodes[1]["inputs"][0]["name"] = HOSTILE
    frames = [{"title": HOSTILE, "bounding": [0, 0, 500, 500]}]
    for svg in (
        draw_prompt(prompt, [problem]),
        draw_workflow(parse_ui({**ui.json(), "groups": frames}), [problem]),
    ):
        tags = {each.tag.removeprefix(SVG) for each in parsed(svg).iter()}
        assert tags <= {"svg", "style", "rect", "path", "g", "title", "text", "circle"}
        assert "<script" not in svg


@settings(deadline=None, max_examples=60)
@given(JSON)
def test_anything_can_be_drawn(body: Any) -> None:
    parsed(draw(prepare(body, catalog())))
    if isinstance(body, dict):
        parsed(draw_workflow(parse_ui(body)))
        parsed(draw_prompt(body))
        parsed(draw_workflow(parse_ui({"nodes": [body], "groups": [body]})))


def test_an_empty_workflow_has_a_drawing() -> None:
    assert boxes(draw_prompt({})) == boxes(draw_workflow(parse_ui({}))) == {}


def test_a_huge_workflow_gives_a_bounded_drawing() -> None:
    many = MAX_BOXES + 500
    prompt = {
        str(number): {
            "class_type": "Long" * 1000,
            "inputs": {f"in{slot}": [str(max(number - slot, 0)), 0] for slot in range(50)},
        }
        for number in range(many)
    }
    svg = draw_prompt(prompt)
    assert len(boxes(svg)) == MAX_BOXES
    assert "and 500 more nodes" in texts(svg)
    assert len(svg) < 10_000_000


def test_columns_follow_the_links() -> None:
    edges = [("a", "b"), ("b", "c"), ("a", "c"), ("d", "c"), ("x", "nowhere")]
    assert columns(["c", "b", "a", "d", "x"], edges) == [["a", "d", "x"], ["b"], ["c"]]


def test_columns_survive_circles() -> None:
    edges = [("a", "b"), ("b", "a"), ("b", "c"), ("c", "c")]
    assert columns(["a", "b", "c"], edges) == [["a"], ["b"], ["c"]]


@given(
    st.lists(st.tuples(st.sampled_from("abcdefgh"), st.sampled_from("abcdefgh")), max_size=30),
    st.permutations("abcdefgh"),
)
def test_every_node_stands_in_one_column_and_none_is_empty(
    edges: list[tuple[str, str]], nodes: list[str]
) -> None:
    found = columns(nodes, edges)
    assert sorted(node for column in found for node in column) == sorted(nodes)
    assert all(found)


def test_boxes_in_a_column_do_not_touch() -> None:
    prompt = {str(number): {"class_type": "Load", "inputs": {}} for number in range(20)}
    picture: Picture = of_prompt(prompt)
    tops = sorted(box.y for box in picture.boxes.values())
    heights = {box.height for box in picture.boxes.values()}
    assert all(low + max(heights) < high for low, high in pairwise(tops))
