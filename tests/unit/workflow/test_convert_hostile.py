"""Hostile and absurd workflows: a problem list or one clear error, in bounded time and memory."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.workflow.pairs import committed
from tests.unit.workflow.test_graph import JSON
from tests.unit.workflow.ui import Ui, catalog

from comfyserve.workflow import Prepared, prepare, prepare_file
from comfyserve.workflow.bounds import MAX_NODES
from comfyserve.workflow.flavours import Flavour
from comfyserve.workflow.problems import Code

SLOTS = [{"name": "image", "type": "IMAGE", "link": None}]


def node(node_id: Any, kind: str, **more: Any) -> dict[str, Any]:
    return {"id": node_id, "type": kind, **more}


def definition(name: str, nodes: list[Any], **more: Any) -> dict[str, Any]:
    return {
        "id": name,
        "name": name,
        "nodes": nodes,
        "links": [],
        "inputs": [],
        "outputs": [],
        **more,
    }


def workflow(nodes: list[Any], links: Any = (), **more: Any) -> dict[str, Any]:
    return {"nodes": nodes, "links": list(links), "version": 0.4, **more}


def refused(prepared: Prepared) -> Code:
    """Return the code of the one error of a workflow that has no prompt."""
    assert (prepared.prompt, prepared.verdict) == ({}, None)
    (error,) = prepared.errors
    assert error.hint
    return error.code


def test_many_nodes_are_converted() -> None:
    ui = workflow([node(number, "Number", widgets_values=[number]) for number in range(20_000)])
    prepared = prepare(ui, catalog())
    assert len(prepared.prompt) == 20_000
    assert prepared.prompt["777"]["inputs"] == {"value": 777}


def test_more_nodes_than_the_bound_are_refused() -> None:
    ui = workflow([{"id": number, "type": "Note"} for number in range(MAX_NODES + 1)])
    assert refused(prepare(ui, catalog())) is Code.WORKFLOW_TOO_LARGE


def test_subgraphs_that_multiply_are_refused() -> None:
    levels = [definition("level0", [node(1, "Number")])]
    for level in range(1, 40):
        inner = [node(number, f"level{level - 1}") for number in (1, 2)]
        levels.append(definition(f"level{level}", inner))
    ui = workflow([node(1, "level39")], definitions={"subgraphs": levels})
    assert refused(prepare(ui, catalog())) is Code.WORKFLOW_TOO_LARGE


def test_subgraphs_nested_too_deep_are_refused() -> None:
    levels = [definition("level0", [node(1, "Number")])]
    levels += [definition(f"level{n}", [node(1, f"level{n - 1}")]) for n in range(1, 5000)]
    ui = workflow([node(1, "level4999")], definitions={"subgraphs": levels})
    assert refused(prepare(ui, catalog())) is Code.WORKFLOW_TOO_LARGE


def test_subgraphs_nested_in_each_others_definitions_are_read() -> None:
    inner: dict[str, Any] = definition("d0", [node(1, "Number")])
    for level in range(1, 300):
        inner = definition(f"d{level}", [], definitions={"subgraphs": [inner]})
    ui = workflow([node(1, "d0")], definitions={"subgraphs": [inner]})
    assert prepare(ui, catalog()).prompt.keys() == {"1:1"}


def test_a_circle_of_subgraphs_is_refused() -> None:
    one, two = definition("a", [node(1, "b")]), definition("b", [node(1, "a")])
    ui = workflow([node(1, "a")], definitions={"subgraphs": [one, two]})
    assert refused(prepare(ui, catalog())) is Code.SUBGRAPH_CIRCLE


def test_instances_with_thousands_of_inputs_are_refused() -> None:
    sides = [{"id": str(n), "name": str(n), "type": "*", "linkIds": []} for n in range(5000)]
    ui = workflow(
        [node(number, "wide") for number in range(2000)],
        definitions={"subgraphs": [definition("wide", [], inputs=sides)]},
    )
    assert refused(prepare(ui, catalog())) is Code.WORKFLOW_TOO_LARGE


def test_proxies_of_many_instances_are_bounded() -> None:
    proxies = {"proxyWidgets": [["1", "value"]] * 2000}
    sides = [{"id": str(n), "name": str(n), "type": "*", "linkIds": [n]} for n in range(2000)]
    ui = workflow(
        [node(number, "wide", properties=proxies) for number in range(300)],
        definitions={"subgraphs": [definition("wide", [node(1, "Number")], inputs=sides)]},
    )
    assert refused(prepare(ui, catalog())) is Code.WORKFLOW_TOO_LARGE


def test_a_long_chain_with_many_ends_is_followed_once() -> None:
    count = 6000
    nodes, links = [node(0, "Load", outputs=[{"name": "IMAGE", "type": "IMAGE"}])], []
    for number in range(1, count):
        slot = [{"name": "", "type": "*", "link": number}]
        output = [{"name": "", "type": "*", "links": [number + 1]}]
        nodes.append(node(number, "Reroute", inputs=slot, outputs=output))
        links.append([number, number - 1, 0, number, 0, "*"])
    for number in range(count, 2 * count):
        nodes.append(node(number, "Invert", inputs=[{**SLOTS[0], "link": number}]))
        links.append([number, count - 1, 0, number, 0, "IMAGE"])
    prepared = prepare(workflow(nodes, links), catalog())
    assert len(prepared.prompt) == count + 1
    assert prepared.prompt[str(2 * count - 1)]["inputs"] == {"image": ["0", 0]}


def test_texts_of_ten_megabytes_are_kept() -> None:
    text = "{a|b} " + "x" * 10_000_000
    ui = Ui()
    ui.add("Text", [text], title="t" * 10_000_000)
    ui.add("K" * 10_000_000, ["v"], inputs=["*" + "n" * 1000 + ":STRING"])
    prepared = prepare(ui.json(), catalog())
    assert prepared.prompt["1"]["inputs"]["text"] is text
    assert all(len(problem.message) < 1000 for problem in prepared.problems[:1])


def test_file_names_that_repeat_a_large_value_stay_small() -> None:
    ui = Ui()
    ui.add("Text", ["x" * 1_000_000], title="T")
    ui.add("SaveImage", ["%T.text%" * 5000], inputs=["images:IMAGE"])
    prefix = prepare(ui.json(), catalog()).prompt["2"]["inputs"]["filename_prefix"]
    assert len(prefix) < 11_000_000


@pytest.mark.parametrize(
    "value", [10**4000, float("nan"), float("inf"), -(10**400), "9" * 5000, [[[]]] * 1000]
)
def test_numbers_beyond_all_bounds_are_no_trouble(value: Any) -> None:
    ui = Ui()
    for kind in ("INT", "FLOAT"):
        primitive = ui.add("PrimitiveNode", [value], outputs=[kind])
        sample = ui.add("Sample", [value] * 4, inputs=["*steps:INT", "*cfg:FLOAT"])
        ui.link(primitive, 0, sample, "steps" if kind == "INT" else "cfg")
    assert len(prepare(ui.json(), catalog()).prompt) == 2


def test_nesting_beyond_the_stack_is_no_trouble() -> None:
    deep: Any = []
    for _ in range(100_000):
        deep = [deep]
    ui = workflow([node(1, "Number", widgets_values=[deep], properties=deep, inputs=deep)])
    ui["extra"] = deep
    assert prepare(ui, catalog()).prompt["1"]["class_type"] == "Number"
    assert prepare_file(b'{"nodes":' + b"[" * 200_000, catalog()).errors


def test_group_nodes_that_multiply_are_refused() -> None:
    inner = {"nodes": [{"type": "Number"}] * 1000, "links": [[0, 0, 1, 0]] * 1000}
    ui = workflow(
        [node(number, "workflow>G") for number in range(400)], extra={"groupNodes": {"G": inner}}
    )
    assert refused(prepare(ui, catalog())) is Code.WORKFLOW_TOO_LARGE


def test_thousands_of_dangling_links_are_not_thousands_of_problems() -> None:
    ui = workflow([node(n, "Invert", inputs=[{**SLOTS[0], "link": n}]) for n in range(5000)])
    prepared = prepare(ui, catalog())
    dropped = [p for p in prepared.problems if p.code is Code.LINK_DROPPED]
    assert 0 < len(dropped) <= 500


NAMES = st.sampled_from(
    ["image", "value", "steps", "text", "", "images", "file", "control_after_generate"]
)
IDS = st.sampled_from([0, 1, 2, 3, 4, "1", "x", -10, -20, -1, None, 1.0])
TYPES = st.sampled_from(
    [
        *("Load", "Invert", "Sample", "Text", "Number", "Join", "Any", "SaveImage", "Reroute"),
        *(
            "PrimitiveNode",
            "Note",
            "SetNode",
            "GetNode",
            "Unknown",
            "sub",
            "sub2",
            "workflow>G",
            "",
        ),
    ]
)
INPUT = st.fixed_dictionaries(
    {"name": NAMES, "type": st.sampled_from(["IMAGE", "*", "INT", 0, None, "A,B"])},
    optional={"link": st.integers(0, 6) | st.none(), "widget": st.just({"name": "value"})},
)
OUTPUT = st.fixed_dictionaries(
    {"name": NAMES, "type": st.sampled_from(["IMAGE", "*", "INT"])},
    optional={"links": st.lists(st.integers(0, 6), max_size=3) | st.none()},
)
PROXIES = st.lists(
    st.lists(st.sampled_from(["-1", "1", "2", "steps", "value", "3: value"]), max_size=3)
)
NODE = st.fixed_dictionaries(
    {"id": IDS, "type": TYPES},
    optional={
        "mode": st.sampled_from([0, 2, 4, 4, 7, "x"]),
        "inputs": st.lists(INPUT, max_size=4),
        "outputs": st.lists(OUTPUT, max_size=3),
        "widgets_values": st.lists(JSON, max_size=5) | JSON,
        "properties": st.fixed_dictionaries({}, optional={"proxyWidgets": PROXIES | JSON}),
        "title": st.sampled_from(["", "T", 5]),
    },
)
LINK = st.lists(st.integers(-20, 6), min_size=5, max_size=6) | st.fixed_dictionaries(
    {"id": st.integers(0, 6), "origin_id": IDS, "origin_slot": st.integers(-2, 3)},
    optional={"target_id": IDS, "target_slot": st.integers(-2, 3)},
)
SIDE = st.fixed_dictionaries(
    {"name": NAMES, "type": st.sampled_from(["IMAGE", "*", "INT"])},
    optional={"linkIds": st.lists(st.integers(0, 6), max_size=3)},
)
DEFINITION = st.fixed_dictionaries(
    {
        "id": st.sampled_from(["sub", "sub2", "other"]),
        "nodes": st.lists(NODE | JSON, max_size=4),
        "links": st.lists(LINK | JSON, max_size=5),
        "inputs": st.lists(SIDE, max_size=3),
        "outputs": st.lists(SIDE, max_size=3),
    }
)
GROUPS = st.fixed_dictionaries(
    {
        "groupNodes": st.dictionaries(
            st.just("G"),
            st.fixed_dictionaries(
                {
                    "nodes": st.lists(NODE | JSON, max_size=4),
                    "links": st.lists(LINK | JSON, max_size=4),
                },
                optional={"external": JSON, "config": JSON},
            )
            | JSON,
        )
    }
)
WORKFLOW = st.fixed_dictionaries(
    {
        "nodes": st.lists(NODE | JSON, max_size=7),
        "links": st.lists(LINK | JSON, max_size=8),
        "version": st.sampled_from([0.4, 1]),
    },
    optional={
        "extra": GROUPS | JSON,
        "definitions": st.fixed_dictionaries({"subgraphs": st.lists(DEFINITION, max_size=3)})
        | JSON,
        "last_node_id": st.integers(-5, 10),
    },
)


def check(body: Any, flavour: Flavour) -> None:
    """Whatever comes in: a prompt that is JSON, or a problem, and never an exception."""
    prepared = prepare(body, catalog(), flavour=flavour)
    json.dumps([dict(prepared.prompt), [problem.to_json() for problem in prepared.problems]])
    for label in prepared.labels():
        assert label.text
    for entry in prepared.prompt.values():
        for value in entry["inputs"].values():
            assert not isinstance(value, list) or value[0] in prepared.prompt


@settings(max_examples=150)
@given(WORKFLOW, st.sampled_from(Flavour))
def test_nothing_that_looks_like_a_workflow_raises(body: Any, flavour: Flavour) -> None:
    check(body, flavour)


def _damages(value: Any, draw: Callable[[st.SearchStrategy[Any]], Any]) -> Any:
    """Replace one thing somewhere inside a JSON value."""
    at: Any = value
    parents: list[tuple[Any, Any]] = []
    while isinstance(at, (dict, list)) and at and not (parents and draw(st.booleans())):
        key = draw(st.sampled_from(list(at) if isinstance(at, dict) else range(len(at))))
        parents.append((at, key))
        at = at[key]
    if parents:
        holder, key = parents[-1]
        holder[key] = draw(JSON | st.integers(-20, 300))
    return value


@settings(max_examples=50)
@given(st.data())
def test_damaged_official_workflows_never_raise(data: st.DataObject) -> None:
    known, pairs = committed(Flavour.NEW)
    body = json.loads(json.dumps(data.draw(st.sampled_from(pairs)).ui))
    for _ in range(data.draw(st.integers(1, 4))):
        body = _damages(body, data.draw)
    prepared = prepare(body, known)
    json.dumps([dict(prepared.prompt), [problem.to_json() for problem in prepared.problems]])
