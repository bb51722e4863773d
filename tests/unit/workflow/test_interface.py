"""The typed interface: where it comes from, and what its inputs are called."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.workflow.catalogs import INFO, entry
from tests.unit.workflow.interface_samples import (
    catalog,
    found,
    names,
    node,
    slot,
    text_to_image,
    ui,
    ui_node,
)

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.interface import (
    Kind,
    Place,
    Role,
    Source,
    interface,
)
from comfyserve.workflow.prepare import prepare
from comfyserve.workflow.problems import Code


def test_finds_what_a_plain_workflow_is_about() -> None:
    made = found(text_to_image())
    assert made.source is Source.GUESSED
    assert [(each.name, each.kind, each.role, each.default) for each in made.inputs] == [
        ("prompt", Kind.TEXT, Role.PROMPT, "a cat"),
        ("negative_prompt", Kind.TEXT, Role.NEGATIVE_PROMPT, "bad"),
        ("width", Kind.INTEGER, Role.WIDTH, 512),
        ("height", Kind.INTEGER, Role.HEIGHT, 768),
        ("steps", Kind.INTEGER, Role.STEPS, 20),
        ("cfg", Kind.NUMBER, Role.CFG, 8.0),
        ("seed", Kind.INTEGER, Role.SEED, 5),
    ]
    prompt = made.input("prompt")
    assert prompt is not None
    assert (prompt.places, prompt.is_multiline) == ((Place("6", "text"),), True)
    assert prompt.description == "What to show."
    width = made.input("width")
    assert width is not None
    assert (width.minimum, width.maximum, width.step) == (16, 8192, 8)
    assert [(each.name, each.kind, each.node_id) for each in made.outputs] == [
        ("image", Kind.IMAGE, "9")
    ]
    assert made.input("nope") is None


def test_the_role_of_a_text_is_traced_and_not_guessed_by_order() -> None:
    swapped = text_to_image()
    inputs = swapped["3"]["inputs"]
    inputs["positive"], inputs["negative"] = ["7", 0], ["6", 0]
    made = found(swapped)
    assert made.input("prompt").places == (Place("7", "text"),)  # type: ignore[union-attr]
    assert made.input("negative_prompt").places == (Place("6", "text"),)  # type: ignore[union-attr]


def test_each_side_of_a_node_with_both_is_followed_on_its_own() -> None:
    control = node("ControlNetApply", positive=["6", 0], negative=["7", 0], strength=1.0)
    prompt = text_to_image(**{"10": control})
    prompt["3"]["inputs"].update(positive=["10", 0], negative=["10", 1])
    made = found(prompt)
    assert made.input("prompt").default == "a cat"  # type: ignore[union-attr]
    assert made.input("negative_prompt").default == "bad"  # type: ignore[union-attr]


def test_a_negative_made_of_the_positive_is_no_text_of_its_own() -> None:
    prompt = text_to_image(**{"7": node("ConditioningZeroOut", conditioning=["6", 0])})
    assert "negative_prompt" not in names(prompt)
    assert "prompt" in names(prompt)


def test_a_text_is_found_behind_the_nodes_that_hold_or_rework_it() -> None:
    held = text_to_image(
        **{
            "6": node("CLIPTextEncode", text=["10", 0], clip=["4", 1]),
            "10": node("PrimitiveText", value="a dog"),
        }
    )
    assert found(held).input("prompt").places == (Place("10", "value"),)  # type: ignore[union-attr]
    joined = {
        **held,
        "6": node("CLIPTextEncode", text=["11", 0], clip=["4", 1]),
        "11": node("Concat", a=["10", 0], b=" in oil"),
    }
    assert found(joined).input("prompt").places == (Place("10", "value"),)  # type: ignore[union-attr]
    only_template = {**joined, "10": node("SomeModel")}
    assert found(only_template).input("prompt").places == (Place("11", "b"),)  # type: ignore[union-attr]


def test_a_seed_is_found_where_it_is_held() -> None:
    prompt = text_to_image(**{"10": node("PrimitiveInt", value=7)})
    prompt["3"]["inputs"]["seed"] = ["10", 0]
    made = found(prompt)
    assert made.input("seed").places == (Place("10", "value"),)  # type: ignore[union-attr]
    prompt["3"]["inputs"]["seed"] = ["4", 0]
    assert "seed" not in names(prompt), "what a loader gives cannot be set"
    prompt["3"]["inputs"]["seed"] = ["99", 0]
    assert "seed" not in names(prompt)
    loop = {
        "10": node("PrimitiveInt", value=["11", 0]),
        "11": node("PrimitiveInt", value=["10", 0]),
    }
    prompt = text_to_image(**loop)
    prompt["3"]["inputs"]["seed"] = ["10", 0]
    assert "seed" not in names(prompt)


def test_denoise_matters_only_below_one() -> None:
    prompt = text_to_image()
    prompt["3"]["inputs"]["denoise"] = 0.6
    assert found(prompt).input("denoise").default == 0.6  # type: ignore[union-attr]


def test_the_same_value_with_the_same_role_is_one_input() -> None:
    second = {**text_to_image()["3"]["inputs"], "latent_image": ["3", 0], "seed": 9, "steps": 4}
    prompt = text_to_image(**{"10": node("KSampler", "Second pass", **second)})
    prompt["8"]["inputs"]["samples"] = ["10", 0]
    made = found(prompt)
    assert made.input("cfg").places == (Place("3", "cfg"), Place("10", "cfg"))  # type: ignore[union-attr]
    assert [name for name in names(prompt) if "seed" in name or "steps" in name] == [
        *("steps", "second_pass_steps", "seed", "second_pass_seed")
    ]


def test_files_are_required_where_they_are_not_there() -> None:
    prompt = {
        "1": node("LoadImage", image="cat.png"),
        "2": node("LoadImage", "Style", image="gone.png"),
        "3": node("LoadVideo", file="a.mp4"),
        "4": node("SaveImage", images=["1", 0], filename_prefix="x"),
        "5": node("SaveImage", images=["2", 0], filename_prefix="x"),
        "6": node("SaveVideo", video=["3", 0]),
    }
    made = found(prompt)
    assert [(each.name, each.kind, each.is_required, each.default) for each in made.inputs] == [
        ("image", Kind.IMAGE, False, "cat.png"),
        ("style", Kind.IMAGE, True, None),
        ("file", Kind.VIDEO, False, "a.mp4"),
    ]
    assert [each.name for each in made.file_inputs()] == ["image", "style", "file"]
    assert [(each.name, each.kind) for each in made.outputs] == [
        ("image", Kind.IMAGE),
        ("image_2", Kind.IMAGE),
        ("video", Kind.VIDEO),
    ]


def test_texts_of_api_nodes_are_prompts_by_name() -> None:
    api = node("ApiImage", prompt="a", negative_prompt="b", expression="a*2")
    made = found({"1": api, "2": node("PreviewImage", images=["1", 0])})
    assert [(each.name, each.role) for each in made.inputs] == [
        ("prompt", Role.PROMPT),
        ("negative_prompt", Role.NEGATIVE_PROMPT),
    ]
    assert made.outputs[0].node_id == "2", "a preview counts where nothing is saved"
    linked = {
        "1": node("ApiImage", prompt=["9", 0], negative_prompt=["8", 0], expression=""),
        "2": node("PreviewImage", images=["1", 0]),
    }
    assert found(linked).inputs == ()


def test_previews_are_left_out_where_something_is_saved() -> None:
    prompt = text_to_image(**{"10": node("PreviewImage", images=["8", 0])})
    assert [each.node_id for each in found(prompt).outputs] == ["9"]


def test_a_titled_primitive_is_exposed() -> None:
    prompt = text_to_image(**{"10": node("PrimitiveInt", "Tile size", value=64)})
    prompt["5"]["inputs"]["width"] = ["10", 0]
    assert found(prompt).input("width").places == (Place("10", "value"),)  # type: ignore[union-attr]
    prompt["5"]["inputs"]["width"] = 64
    assert "tile_size" not in names(prompt), "nothing that runs needs it"
    more = {"11": node("Flag", "Use it", flag=True), "12": node("PreviewAny", source=["11", 0])}
    made = found(
        {**more, "13": node("Text", text="untitled"), "14": node("PreviewAny", source=["13", 0])}
    )
    assert [(each.name, each.kind, each.label) for each in made.inputs] == [
        ("prompt", Kind.TEXT, "Prompt"),
        ("use_it", Kind.BOOLEAN, "Use it"),
    ]
    assert found({**more, "11": node("Nope", "Use it", flag=True)}).inputs == ()


def test_what_an_output_shows_is_told_by_what_is_linked() -> None:
    def kind(source: str, slot: Any, maker: dict[str, Any]) -> Kind:
        return found({"1": maker, "2": node("PreviewAny", source=[source, slot])}).outputs[0].kind

    assert kind("1", 0, node("Text", text="x")) is Kind.TEXT
    assert kind("1", 1, node("LoadImage", image="cat.png")) is Kind.IMAGE
    assert kind("1", 0, node("LoadVideo", file="a.mp4")) is Kind.VIDEO
    assert kind("1", 0, node("Flag", flag=True)) is Kind.JSON
    assert kind("1", "x", node("Text", text="x")) is Kind.JSON
    assert kind("9", 0, node("Text", text="x")) is Kind.JSON


def test_marked_titles_decide() -> None:
    prompt = text_to_image(
        **{
            "6": node("CLIPTextEncode", "$subject", text="a cat", clip=["4", 1]),
            "5": node("EmptyLatentImage", "$size(width, height)", width=512, height=768),
            "3": {**text_to_image()["3"], "_meta": {"title": "$pass (seed)"}},
            "9": node("SaveImage", "#picture", images=["8", 0], filename_prefix="x"),
        }
    )
    made = found(prompt)
    assert made.source is Source.MARKED
    assert [(each.name, each.places[0]) for each in made.inputs] == [
        ("pass", Place("3", "seed")),
        ("size_width", Place("5", "width")),
        ("size_height", Place("5", "height")),
        ("subject", Place("6", "text")),
    ]
    assert [each.name for each in made.outputs] == ["picture"]
    assert made.problems == ()


def test_a_mark_that_fits_nothing_is_reported() -> None:
    prompt = text_to_image(
        **{
            "5": node("EmptyLatentImage", "$size(width, depth)", width=512, height=768),
            "8": node("VAEDecode", "$decode", samples=["3", 0], vae=["4", 2]),
            "3": {**text_to_image()["3"], "_meta": {"title": "$s(positive)"}},
        }
    )
    made = found(prompt)
    assert [each.name for each in made.inputs] == ["size_width"]
    assert {(each.code, each.node_id) for each in made.problems} == {
        (Code.PLACE_GONE, "5"),
        (Code.PLACE_GONE, "8"),
        (Code.PLACE_GONE, "3"),
    }
    assert any("takes its value from a link" in each.message for each in made.problems)


def test_several_values_of_a_marked_node_carry_its_name() -> None:
    prompt = text_to_image(**{"5": node("EmptyLatentImage", "$size", width=512, height=768)})
    assert names(prompt) == ["size_width", "size_height"]


def test_nodes_of_deployment_packs_are_marks_themselves() -> None:
    external = node(
        "External",
        input_id="Main prompt",
        default_value="a cat",
        display_name="What",
        description="Say it.",
    )
    prompt = {"1": external, "2": node("PreviewAny", source=["1", 0])}
    (only,) = found(prompt).inputs
    assert (only.name, only.label, only.description) == ("main_prompt", "What", "Say it.")
    assert only.places == (Place("1", "default_value"),)
    bare = node("External", input_id="x", default_value="a", display_name=5)
    assert names({"1": bare, "2": node("PreviewAny", source=["1", 0])}) == ["x"]


_APP = ui(
    [
        ui_node(1, "LoadImage", ["cat.png", "image"]),
        ui_node(2, "SaveImage", ["x"], [slot("images", 5)]),
        ui_node(3, "Text", ["hello"]),
        ui_node(4, "PreviewAny", [], [slot("source", 6, "*")]),
    ],
    [[5, 1, 0, 2, 0, "IMAGE"], [6, 3, 0, 4, 0, "STRING"]],
    extra={
        "linearData": {
            "inputs": [["3", "text"], [1, "image"], ["7", "seed"], ["x"], "odd", [None, "a"]],
            "outputs": [2],
        }
    },
)


def test_app_mode_decides_before_all_else() -> None:
    made = found(_APP)
    assert made.source is Source.APP_MODE
    assert [(each.name, each.kind) for each in made.inputs] == [
        ("prompt", Kind.TEXT) if made.inputs[0].role else ("text", Kind.TEXT),
        ("image", Kind.IMAGE),
    ]
    assert [each.node_id for each in made.outputs] == ["2"]
    (problem,) = made.problems
    assert problem.code is Code.PLACE_GONE
    assert problem.message == "Input 'seed' of node 7 is not there"


def test_newer_app_mode_names_graph_node_and_widget() -> None:
    data = {"inputs": [["e131-uuid:3:text", "text"]], "outputs": ["4"]}
    made = found({**_APP, "extra": {"linearData": data}})
    assert made.inputs[0].places == (Place("3", "text"),)
    assert [each.node_id for each in made.outputs] == ["4"]


@pytest.mark.parametrize(
    "data",
    [
        None,
        {},
        {"inputs": [], "outputs": []},
        {"inputs": [["7", "x"]]},
        5,
        {"inputs": 5, "outputs": {"a": 1}},
    ],
)
def test_empty_or_odd_app_mode_is_passed_over(data: Any) -> None:
    assert found({**_APP, "extra": {"linearData": data}}).source is Source.GUESSED


def subgraph(**extra: Any) -> dict[str, Any]:
    """Return a root with one instance of a subgraph that holds an EmptyImage, and a save."""
    inner = ui_node(
        10, "EmptyImage", [8, 9], [{**slot("width", 1, "INT"), "widget": {"name": "width"}}]
    )
    definition = {
        "id": "sub-1",
        "name": "Canvas",
        "nodes": [inner],
        "links": [
            {
                "id": 1,
                "origin_id": -10,
                "origin_slot": 0,
                "target_id": 10,
                "target_slot": 0,
                "type": "INT",
            },
            {
                "id": 2,
                "origin_id": 10,
                "origin_slot": 0,
                "target_id": -20,
                "target_slot": 0,
                "type": "IMAGE",
            },
        ],
        "inputs": [{"id": "a", "name": "width", "type": "INT", "linkIds": [1]}],
        "outputs": [{"id": "b", "name": "IMAGE", "type": "IMAGE", "linkIds": [2]}],
    }
    instance = ui_node(
        20,
        "sub-1",
        [33],
        [{**slot("width", None, "INT"), "widget": {"name": "width"}, "label": "Paper width"}],
    )
    instance["outputs"] = [{"name": "IMAGE", "type": "IMAGE", "links": [7]}]
    save = ui_node(30, "SaveImage", ["x"], [slot("images", 7)])
    return ui(
        [instance, save],
        [[7, 20, 0, 30, 0, "IMAGE"]],
        definitions={"subgraphs": [definition]},
        extra=extra,
    )


def test_promoted_widgets_are_the_interface_of_a_subgraph() -> None:
    made = found(subgraph())
    assert made.source is Source.PROMOTED
    (only,) = made.inputs
    assert (only.name, only.label, only.default, only.role) == (
        "paper_width",
        "Paper width",
        33,
        Role.WIDTH,
    )
    assert only.places == (Place("20:10", "width"),)


@pytest.mark.parametrize("listed", [["20", "width"], ["10", "width"], ["20:10", "width"]])
def test_app_mode_finds_widgets_of_subgraphs(listed: list[str]) -> None:
    made = found(subgraph(linearData={"inputs": [listed], "outputs": ["30"]}))
    assert made.source is Source.APP_MODE
    assert [each.places for each in made.inputs] == [(Place("20:10", "width"),)]


def test_app_mode_finds_what_a_primitive_of_the_editor_sets() -> None:
    primitive = ui_node(5, "PrimitiveNode", [44, "fixed"])
    primitive["outputs"] = [
        {"name": "INT", "type": "INT", "links": [8], "widget": {"name": "width"}}
    ]
    reroute = ui_node(6, "Reroute", [], [slot("", 8, "*")])
    reroute["outputs"] = [{"name": "", "type": "*", "links": [9]}]
    empty = ui_node(
        1, "EmptyImage", [8, 9], [{**slot("width", 9, "INT"), "widget": {"name": "width"}}]
    )
    save = ui_node(2, "SaveImage", ["x"], [slot("images", 5)])
    links = [
        [8, 5, 0, 6, 0, "INT"],
        [9, 6, 0, 1, 0, "INT"],
        [5, 1, 0, 2, 0, "IMAGE"],
        [11, 5, 0, 99, 0, "INT"],
    ]
    data = {"inputs": [["5", "value"]], "outputs": ["2"]}
    made = found(ui([primitive, reroute, empty, save], links, extra={"linearData": data}))
    places = [each.places for each in made.inputs]
    assert places in ([], [(Place("1", "width"),)])
    direct = [[8, 5, 0, 1, 0, "INT"], [5, 1, 0, 2, 0, "IMAGE"]]
    empty["inputs"][0]["link"] = 8
    made = found(ui([primitive, empty, save], direct, extra={"linearData": data}))
    assert [each.places for each in made.inputs] == [(Place("1", "width"),)]


def test_prepared_workflows_are_taken_as_they_are() -> None:
    prepared = prepare(text_to_image(), catalog())
    assert interface(prepared, catalog()) == found(text_to_image())


@pytest.mark.parametrize(
    "odd",
    [
        None,
        5,
        "x",
        [],
        {},
        {"1": None},
        {"1": {"class_type": []}},
        {"1": {"class_type": "KSampler"}},
    ],
)
def test_anything_has_an_interface(odd: Any) -> None:
    made = found(odd)
    assert made.inputs == ()
    assert made.outputs == ()


def test_unknown_classes_show_their_marked_values_as_they_are() -> None:
    values = {
        "number": 1,
        "part": 1.5,
        "flag": True,
        "text": "x",
        "rest": {"a": 1},
        "list": {"__value__": [1]},
    }
    prompt = {
        "1": node("Mystery", f"$it({', '.join(values)})", **values),
        "2": node("SaveImage", "#x", images=["1", 0]),
    }
    assert [(each.kind, each.default) for each in found(prompt).inputs] == [
        (Kind.INTEGER, 1),
        (Kind.NUMBER, 1.5),
        (Kind.BOOLEAN, True),
        (Kind.TEXT, "x"),
        (Kind.JSON, {"a": 1}),
        (Kind.JSON, [1]),
    ]


def test_a_default_that_does_not_fit_is_none() -> None:
    prompt = text_to_image()
    prompt["3"]["inputs"]["steps"] = 5000
    steps = found(prompt).input("steps")
    assert steps is not None
    assert (steps.default, steps.is_required) == (None, False)


def test_choices_come_from_the_catalog() -> None:
    resize = node("Resize", "$r(resize)", image=["2", 0], resize="by width")
    prompt = {
        "1": node(
            "ImageBlend",
            "$blend(mode, factor)",
            image1=["2", 0],
            image2=["2", 0],
            factor=0.5,
            mode="normal",
        ),
        "2": node("EmptyImage", width=8, height=8),
        "3": resize,
        "4": node("Pick", "$p(choice)", choice="a"),
    }
    made = found(prompt)
    assert made.input("blend_mode").choices == ("normal", "multiply", "screen")  # type: ignore[union-attr]
    assert made.input("r").choices == ("by width", "by factor")  # type: ignore[union-attr]
    empty = {**INFO, "Pick": entry({"choice": [[]]})}
    made = interface({"4": prompt["4"]}, NodeCatalog.from_object_info(empty))
    assert made.inputs[0].kind is Kind.TEXT, "a combo without choices takes any name"


def test_limits_that_are_no_numbers_are_left_out() -> None:
    odd = {
        **INFO,
        "Odd": entry({"x": ["FLOAT", {"min": float("-inf"), "max": float("nan"), "step": "1"}]}),
    }
    made = interface({"1": node("Odd", "$x", x=1.0)}, NodeCatalog.from_object_info(odd))
    assert (made.inputs[0].minimum, made.inputs[0].maximum, made.inputs[0].step) == (
        None,
        None,
        None,
    )


@pytest.mark.corpora
def test_every_app_of_the_corpus_has_its_inputs(
    corpora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = json.loads(gzip.decompress((corpora / "object_info-0.33.0.json.gz").read_bytes()))
    using = NodeCatalog.from_object_info(info)
    listed = found_count = with_prompt = templates = 0
    with gzip.open(corpora / "comfyui-0.33.0-frontend-1.49.6.pairs.jsonl.gz", "rt") as lines:
        for line in lines:
            pair = json.loads(line)
            made = interface(pair["ui"], using)
            if pair["name"].startswith("tnew__"):
                templates += 1
                with_prompt += bool(made.inputs) and bool(made.outputs)
            if made.source is Source.APP_MODE:
                data = pair["ui"]["extra"]["linearData"]
                listed += len(data["inputs"])
                found_count += len(made.inputs)
                assert made.outputs, pair["name"]
    with capsys.disabled():
        score = f"{found_count} of {listed} app mode inputs found"
        print(f"\n{score}; {with_prompt} of {templates} templates have an interface")  # noqa: T201 - the score
    assert found_count >= listed - 6, "those name nodes that are not in the file any more"
    assert with_prompt > templates * 0.98
