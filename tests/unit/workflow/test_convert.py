"""Single rules of the conversion, each on the smallest workflow that shows it."""

from datetime import UTC, datetime
from typing import Any

import pytest
from tests.unit.workflow.catalogs import RESIZE, entry
from tests.unit.workflow.ui import Ui, catalog, converted, inputs

from comfyserve.workflow.convert import convert
from comfyserve.workflow.flavours import Flavour
from comfyserve.workflow.problems import Code, Severity
from comfyserve.workflow.reader import parse_ui

SAMPLE = ("image:IMAGE", "*seed:INT", "*steps:INT", "*cfg:FLOAT")


def chain(*kinds: tuple[str, int]) -> Ui:
    """Return a loader, nodes of one image input in a row, and a saver."""
    ui = Ui()
    before = ui.add("Load", ["a"], outputs=["IMAGE", "MASK"])
    for kind, mode in kinds:
        node = ui.add(kind, inputs=["image:IMAGE"], outputs=["IMAGE"], mode=mode)
        ui.link(before, 0, node, "image")
        before = node
    saver = ui.add("SaveImage", ["x"], inputs=["images:IMAGE"])
    ui.link(before, 0, saver, "images")
    return ui


def test_values_go_to_widgets_by_position_and_the_control_value_is_skipped() -> None:
    ui = Ui()
    node = ui.add("Sample", [7, "fixed", 30, 5.5], inputs=SAMPLE)
    assert inputs(ui, node) == {"seed": 7, "steps": 30, "cfg": 5.5}


def test_a_seed_of_64_bits_stays_exact() -> None:
    ui = Ui()
    node = ui.add("Sample", [2**64 - 1, "randomize"], inputs=SAMPLE)
    assert inputs(ui, node)["seed"] == 18446744073709551615


def test_missing_values_are_defaults_and_surplus_ones_are_ignored() -> None:
    ui = Ui()
    few, many = ui.add("Sample", [7]), ui.add("Sample", [1, "fixed", 2, 3, "a", "b"])
    assert inputs(ui, few) == {"seed": 7, "steps": 20, "cfg": 8.0}
    assert inputs(ui, many) == {"seed": 1, "steps": 2, "cfg": 3}


def test_a_list_is_wrapped_so_that_it_is_not_taken_for_a_link() -> None:
    ui = Ui()
    node = ui.add("Number", [["1", 0]])
    assert inputs(ui, node) == {"value": {"__value__": ["1", 0]}}


@pytest.mark.parametrize("mode", [0, 1, 3])
def test_active_modes_run(mode: int) -> None:
    prompt = converted(chain(("Invert", mode))).prompt
    assert prompt["3"]["inputs"]["images"] == ["2", 0]


def test_a_muted_node_is_gone_and_so_is_what_it_fed() -> None:
    prompt = converted(chain(("Invert", 2))).prompt
    assert prompt.keys() == {"1", "3"}
    assert prompt["3"]["inputs"] == {"filename_prefix": "x"}


def test_a_bypassed_node_passes_on_by_type() -> None:
    prompt = converted(chain(("Invert", 4), ("Invert", 4))).prompt
    assert prompt["4"]["inputs"]["images"] == ["1", 0]


def test_a_bypassed_node_without_a_fitting_input_passes_nothing() -> None:
    ui = Ui()
    loader = ui.add("Load", ["a"], outputs=["IMAGE", "MASK"])
    mask = ui.add("ToMask", inputs=["image:IMAGE"], outputs=["MASK"], mode=4)
    ui.link(loader, 0, mask, "image")
    taker = ui.add("Any", inputs=["source:*"])
    ui.link(mask, 0, taker, "source")
    strict = ui.add("Invert", inputs=["image:IMAGE"])
    ui.link(mask, 0, strict, "image")
    prompt = converted(ui).prompt
    assert prompt[str(taker)]["inputs"] == {"source": ["1", 0]}, "any type takes the same slot"
    assert prompt[str(strict)]["inputs"] == {"image": ["1", 0]}, "the consumer's type decides"


def test_the_input_says_what_is_connected_not_the_list_of_links() -> None:
    ui = chain()
    ui.node(2)["inputs"][0]["link"] = None
    assert inputs(ui, 2) == {"filename_prefix": "x"}


def test_links_may_be_objects_and_ids_may_be_texts() -> None:
    body = chain(("Invert", 0)).json()
    keys = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    body["links"] = [dict(zip(keys, link, strict=True)) for link in body["links"]]
    body["version"] = 1
    for node in body["nodes"]:
        node["id"] = str(node["id"])
    prompt = convert(parse_ui(body), catalog()).prompt
    assert prompt["3"]["inputs"]["images"] == ["2", 0]


def test_reroutes_are_seen_through_and_notes_dropped() -> None:
    ui = chain(("Reroute", 0), ("Reroute", 4))
    for node in ui.nodes[1:3]:
        node["inputs"][0].update(name="image", type="*")
    ui.add("Note", ["hello"])
    ui.add("MarkdownNote", ["# hello"])
    prompt = converted(ui).prompt
    assert prompt.keys() == {"1", "4"}
    assert prompt["4"]["inputs"]["images"] == ["1", 0]


def test_a_primitive_fills_its_targets_and_keeps_to_their_range() -> None:
    ui = Ui()
    primitive = ui.add("PrimitiveNode", [5000, "fixed"], outputs=["INT"], mode=2)
    node = ui.add("Number", [3], inputs=["*value:INT"])
    ui.link(primitive, 0, node, "value")
    assert inputs(ui, node) == {"value": 1000}


def test_set_and_get_nodes_are_connections_by_name() -> None:
    ui = Ui()
    loader = ui.add("Load", ["a"], outputs=["IMAGE", "MASK"])
    setter = ui.add("SetNode", ["pic"], inputs=["IMAGE:IMAGE"], outputs=["*"])
    ui.link(loader, 0, setter, "IMAGE")
    getter = ui.add("GetNode", ["pic"], outputs=["IMAGE"])
    lost = ui.add("GetNode", ["nothing"], outputs=["IMAGE"])
    node = ui.add("Join", inputs=["image1:IMAGE", "image2:IMAGE"])
    ui.link(getter, 0, node, "image1")
    ui.link(lost, 0, node, "image2")
    found = converted(ui)
    assert found.prompt[str(node)]["inputs"] == {"image1": ["1", 0]}
    assert [problem.code for problem in found.problems] == [Code.LINK_DROPPED]
    assert "named connection" in found.problems[0].message


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("a {red|green} cat", "a red cat"),
        ("{a|{b|c}} {x}", "a x"),
        ("{|a}b // comment\nc /* d */ e", "b \nc  e"),
        (r"\{kept\} \| \x", r"{kept} | \x"),
        ("{open|never", "open"),
    ],
)
def test_dynamic_prompts_take_the_first_alternative(text: str, chosen: str) -> None:
    ui = Ui()
    node = ui.add("Text", [text])
    assert inputs(ui, node) == {"text": chosen}


def test_dynamic_prompts_take_what_the_caller_chooses() -> None:
    ui = Ui()
    node = ui.add("Text", ["{a|b|{c|d}} {e|f}"])
    asked: list[int] = []

    def last(count: int) -> int:
        asked.append(count)
        return count - 1

    assert inputs(ui, node, choose=last) == {"text": "d f"}
    assert asked == [3, 2, 2]


def test_file_names_take_values_and_the_date() -> None:
    ui = Ui()
    ui.add("Number", [12], title="Frame: 1")
    node = ui.add("SaveImage", ["%Number.value%/%Frame: 1.value%_%date:yyyy-MM-dd hhmmss%_%width%"])
    at = datetime(2026, 3, 4, 5, 6, 7, tzinfo=UTC)
    assert inputs(ui, node, now=at)["filename_prefix"] == "12/12_2026-03-04 050607_%width%"
    assert "%date:" in inputs(ui, node)["filename_prefix"], "nobody said what time it is"


def test_an_unknown_class_is_kept_with_what_the_file_names() -> None:
    ui = Ui()
    loader = ui.add("Load", ["a"], outputs=["IMAGE", "MASK"])
    slots = ("image:IMAGE", "*seed:INT", "*mode:COMBO")
    listed = ui.add("FancyNode", [5, "randomize", "hard"], inputs=slots, outputs=["IMAGE"])
    ui.link(loader, 0, listed, "image")
    named = ui.add("FancyNode", [1, 2], widgets_values_named={"strength": 0.5, "on": True})
    written = ui.add("VHS_Thing", {"frame_rate": 8, "format": "mp4"})
    found = converted(ui)
    assert found.prompt[str(listed)] == {
        "class_type": "FancyNode",
        "inputs": {"seed": 5, "mode": "hard", "image": ["1", 0]},
        "_meta": {"title": "FancyNode"},
    }
    assert found.prompt[str(named)]["inputs"] == {"strength": 0.5, "on": True}
    assert found.prompt[str(written)]["inputs"] == {"frame_rate": 8, "format": "mp4"}
    assert [p.code for p in found.problems] == [Code.UNKNOWN_CLASS] * 3
    assert {p.class_type for p in found.problems} == {"FancyNode", "VHS_Thing"}
    assert "'seed', 'mode'" in found.problems[0].details
    assert all(p.severity is Severity.WARNING for p in found.problems)


def test_values_written_as_an_object_reach_classes_of_custom_packs() -> None:
    packs = catalog(
        Pack=entry({"rate": ["INT", {"default": 1}]}, python_module="custom_nodes.pack"),
        Core=entry({"rate": ["INT", {"default": 1}]}),
    )
    ui = Ui()
    pack, core = ui.add("Pack", {"rate": 9}), ui.add("Core", {"rate": 9})
    prompt = convert(parse_ui(ui.json()), packs).prompt
    assert prompt[str(pack)]["inputs"] == {"rate": 9}
    assert prompt[str(core)]["inputs"] == {}, "the editor on its own loses them"


def test_links_that_lead_nowhere_are_dropped_and_said() -> None:
    ui = chain(("Invert", 0))
    ui.node(3)["inputs"][0]["link"] = 99
    ui.links[0][1] = 55
    found = converted(ui)
    assert found.prompt["2"]["inputs"] == {}
    assert "images" not in found.prompt["3"]["inputs"]
    said = {(p.node_id, p.input_name): p.message for p in found.problems}
    assert "does not exist" in said["2", "image"]
    assert "no record" in said["3", "images"]


def test_a_circle_of_bypassed_nodes_ends() -> None:
    ui = Ui()
    one = ui.add("Invert", inputs=["image:IMAGE"], outputs=["IMAGE"], mode=4)
    two = ui.add("Invert", inputs=["image:IMAGE"], outputs=["IMAGE"], mode=4)
    three = ui.add("Invert", inputs=["image:IMAGE"], outputs=["IMAGE"])
    ui.link(one, 0, two, "image")
    ui.link(two, 0, one, "image")
    ui.link(two, 0, three, "image")
    found = converted(ui)
    assert found.prompt == {
        "3": {"inputs": {}, "class_type": "Invert", "_meta": {"title": "Invert"}}
    }
    assert "circle" in found.problems[0].message


def test_a_circle_of_nodes_that_run_is_left_to_the_validator() -> None:
    ui = Ui()
    one = ui.add("Invert", inputs=["image:IMAGE"], outputs=["IMAGE"])
    two = ui.add("Invert", inputs=["image:IMAGE"], outputs=["IMAGE"])
    ui.link(one, 0, two, "image")
    ui.link(two, 0, one, "image")
    assert inputs(ui, one) == {"image": ["2", 0]}


def test_the_first_of_two_nodes_with_one_id_runs() -> None:
    ui = chain(("Invert", 0))
    ui.add("Number", [4], node_id=3)
    found = converted(ui)
    assert found.prompt["3"]["class_type"] == "SaveImage"
    assert [p.code for p in found.problems] == [Code.DUPLICATE_NODE_ID]


def test_titles_are_those_of_the_editor() -> None:
    ui = Ui()
    ui.add("Load", ["a"], title="Mine")
    ui.add("Load", ["a"], title="")
    titles = [node["_meta"]["title"] for node in converted(ui).prompt.values()]
    assert titles == ["Mine", "Load It"]


def scaler() -> Ui:
    """Return the inside of a subgraph with a promoted number and an image in and out."""
    inner = Ui()
    node = inner.add("Sample", [1, "fixed", 10, 2.0], inputs=SAMPLE, outputs=["IMAGE"])
    for link, (slot, name) in enumerate([(0, "image"), (1, "steps")], start=1):
        index = [each["name"] for each in inner.node(node)["inputs"]].index(name)
        inner.node(node)["inputs"][index]["link"] = link
        inner.links.append([link, -10, slot, node, index, "*"])
    inner.links.append([3, node, 0, -20, 0, "IMAGE"])
    return inner


SIDES: dict[str, Any] = {
    "inputs": {"picture": ("IMAGE", [1]), "count": ("INT", [2])},
    "outputs": {"IMAGE": ("IMAGE", [3])},
}


def with_subgraph(values: Any = None, *, mode: int = 0, **more: Any) -> Ui:
    ui = Ui()
    ui.definitions.append(scaler().definition("scaler", **SIDES))
    loader = ui.add("Load", ["a"], outputs=["IMAGE", "MASK"], node_id=10)
    node = ui.add(
        "scaler", values, inputs=["picture:IMAGE"], outputs=["IMAGE"], mode=mode, node_id=11, **more
    )
    ui.link(loader, 0, node, "picture")
    saver = ui.add("SaveImage", ["x"], inputs=["images:IMAGE"], node_id=12)
    ui.link(node, 0, saver, "images")
    return ui


def test_a_subgraph_is_expanded_with_ids_of_its_path() -> None:
    prompt = converted(with_subgraph([33])).prompt
    assert prompt.keys() == {"10", "11:1", "12"}
    assert prompt["11:1"]["inputs"] == {"seed": 1, "steps": 33, "cfg": 2.0, "image": ["10", 0]}
    assert prompt["12"]["inputs"]["images"] == ["11:1", 0]


def test_inner_ids_that_are_used_outside_are_given_anew() -> None:
    ui = with_subgraph([33])
    ui.add("Number", [1], node_id=1)
    assert "11:13" in converted(ui).prompt, "counting on from the last id"
    assert "11:1" in converted(ui, flavour=Flavour.OLD).prompt


def test_without_a_value_the_inner_widget_keeps_its_own() -> None:
    assert converted(with_subgraph()).prompt["11:1"]["inputs"]["steps"] == 10


def test_each_instance_has_its_own_promoted_values() -> None:
    ui = with_subgraph([33])
    ui.add("scaler", [44], outputs=["IMAGE"], node_id=20)
    prompt = converted(ui).prompt
    steps = {node_id: node["inputs"].get("steps") for node_id, node in prompt.items()}
    assert (steps["11:1"], steps["20:1"]) == (33, 44)


@pytest.mark.parametrize("values", [[None], {"id": 1}], ids=["empty", "nonsense"])
def test_an_empty_dynamic_combo_of_an_instance_is_its_first_choice(values: Any) -> None:
    inner = Ui()
    inner.add("Resize", ["by width", 30], inputs=["*how:COMFY_DYNAMICCOMBO_V3"])
    inner.nodes[0]["inputs"][0]["link"] = 1
    inner.links.append([1, -10, 0, 1, 0, "*"])
    ui = Ui()
    ui.definitions.append(inner.definition("resizer", {"how": ("*", [1])}, {}))
    ui.add("resizer", values, node_id=5)
    resize = entry({"how": RESIZE}, is_output=True)
    prompt = convert(parse_ui(ui.json()), catalog(Resize=resize)).prompt
    assert prompt["5:1"]["inputs"] == {"how": "by width", "how.width": 30}


def test_proxy_widgets_reach_widgets_that_no_input_leads_to() -> None:
    proxies = {"proxyWidgets": [["1", "cfg"], ["-1", "count"], ["1", "9: seed"]]}
    found = converted(with_subgraph([6.5, 21, 99], properties=proxies))
    assert found.prompt["11:1"]["inputs"] == {
        "seed": 99,
        "steps": 21,
        "cfg": 6.5,
        "image": ["10", 0],
    }


@pytest.mark.parametrize("mode", [2, 4])
def test_an_inactive_subgraph_hides_its_nodes(mode: int) -> None:
    prompt = converted(with_subgraph([33], mode=mode)).prompt
    assert prompt.keys() == {"10", "12"}
    assert prompt["12"]["inputs"].get("images") == (["10", 0] if mode == 4 else None)
    older = converted(with_subgraph([33], mode=mode), flavour=Flavour.OLD).prompt
    assert "11:1" in older, "frontend 1.27 runs them"


def test_a_subgraph_may_lead_straight_through() -> None:
    ui = with_subgraph()
    ui.definitions[0] = Ui(links=[[1, -10, 0, -20, 0, "IMAGE"]]).definition(
        "scaler", {"picture": ("IMAGE", [1])}, {"IMAGE": ("IMAGE", [1])}
    )
    assert converted(ui).prompt["12"]["inputs"]["images"] == ["10", 0]


def test_an_instance_without_a_definition_is_an_unknown_class() -> None:
    ui = with_subgraph([33])
    ui.definitions.clear()
    found = converted(ui)
    assert found.prompt["11"]["class_type"] == "scaler"
    assert found.problems[0].code is Code.UNKNOWN_CLASS


def test_a_subgraph_that_contains_itself_is_one_clear_problem() -> None:
    ui = with_subgraph()
    ui.definitions[0]["nodes"].append({"id": 7, "type": "scaler"})
    found = converted(ui)
    assert found.prompt == {}
    assert [problem.code for problem in found.problems] == [Code.SUBGRAPH_CIRCLE]
    assert "contains itself" in found.problems[0].message


def test_values_that_only_a_browser_makes_are_said() -> None:
    more = catalog(
        Load3D=entry({"model_file": [["none"], {}], "image": ["LOAD_3D", {}]}),
    )
    ui = Ui()
    node = ui.add("Load3D", ["none", "upload3dmodel", "uploadExtraResources", "clear", ""])
    found = convert(parse_ui(ui.json()), more)
    assert found.prompt[str(node)]["inputs"]["image"] == ""
    assert [problem.code for problem in found.problems] == [Code.NEEDS_EDITOR]
