"""Reading UI exports: every encoding, and whatever else comes."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.workflow.ui import Ui

from comfyserve.workflow.graph import Mode
from comfyserve.workflow.reader import node_id, parse_ui


def one_node(**more: Any) -> dict[str, Any]:
    return {"nodes": [{"id": 1, "type": "Load", **more}], "links": []}


def test_arrays_and_objects_of_links_are_the_same() -> None:
    ui = Ui()
    loader = ui.add("Load", outputs=["IMAGE"])
    ui.link(loader, 0, ui.add("Invert", inputs=["image:IMAGE"]), "image")
    arrays = ui.json()
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    objects = {**arrays, "links": [dict(zip(keys, link, strict=True)) for link in ui.links]}
    by_id = {**arrays, "links": {str(link[0]): link for link in ui.links}}
    assert parse_ui(arrays).graph == parse_ui(objects).graph == parse_ui(by_id).graph


def test_ids_are_texts_whatever_they_were() -> None:
    assert [node_id(each) for each in (7, "7", 7.0, "a b", -1)] == ["7", "7", "7", "a b", "-1"]
    nonsense: list[object] = [None, True, "", 1.5, [], {}, "x" * 201, 10**30]
    assert [node_id(each) for each in nonsense] == [None] * len(nonsense)


def test_both_ways_to_count_nodes_are_read() -> None:
    assert parse_ui({"nodes": [], "last_node_id": 9}).last_node_id == 9
    assert parse_ui({"nodes": [], "version": 1, "state": {"lastNodeId": 8}}).last_node_id == 8


def test_definitions_inside_definitions_are_found() -> None:
    inner = {"id": "b", "name": "B", "nodes": [], "links": []}
    outer = {"id": "a", "nodes": [], "links": [], "definitions": {"subgraphs": [inner]}}
    found = parse_ui({"nodes": [], "definitions": {"subgraphs": [outer]}}).definitions
    assert [(each.id, each.is_nested) for each in found] == [("a", False), ("b", True)]


def test_places_are_read_as_lists_and_as_objects() -> None:
    for place in ([3, 4.5], [3, 4.5, 0], {"0": 3, "1": 4.5}):
        assert parse_ui(one_node(pos=place)).graph.nodes[0].position == (3.0, 4.5)
    for nonsense in (None, [1], "here", [None, 2], [float("inf"), 0], [1e300, 1]):
        assert parse_ui(one_node(pos=nonsense)).graph.nodes[0].position is None


def test_what_cannot_be_a_node_or_a_link_is_left_out_and_said() -> None:
    ui = parse_ui(
        {
            "nodes": [None, 5, {"type": "x"}, {"id": 1}, {"id": 2, "type": "Load"}],
            "links": [None, [1], {"id": 3}, [1, 2, 0, 3, 0, "IMAGE"]],
        }
    )
    assert [node.id for node in ui.graph.nodes] == ["2"]
    assert list(ui.graph.links) == ["1"]
    assert len(ui.dropped) == 5


def test_slots_that_make_no_sense_keep_their_place() -> None:
    node = parse_ui(one_node(inputs=[None, {"name": "a", "link": 3}])).graph.nodes[0]
    assert [slot.name for slot in node.inputs] == ["", "a"]
    assert node.inputs[1].link == "3"


@pytest.mark.parametrize(("raw", "kind"), [(0, ""), (None, ""), ("*", "*"), (["a", "b"], "a,b")])
def test_slot_types(raw: object, kind: str) -> None:
    node = parse_ui(one_node(inputs=[{"name": "a", "type": raw}])).graph.nodes[0]
    assert node.inputs[0].type == kind


def test_a_mode_that_is_no_number_is_active() -> None:
    assert parse_ui(one_node(mode="bypass")).graph.nodes[0].mode == Mode.ALWAYS


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(max_size=8), inner),
    max_leaves=30,
)


@given(
    st.fixed_dictionaries(
        {"nodes": st.lists(JSON)},
        optional={
            "links": JSON,
            "extra": JSON,
            "state": JSON,
            "definitions": JSON,
            "version": JSON,
        },
    )
)
def test_reading_never_raises(body: dict[str, Any]) -> None:
    assert len(parse_ui(body).dropped) <= 20
