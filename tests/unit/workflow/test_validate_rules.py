"""The rules of single releases and classes: what is refused as a whole, replaced, left to the engine, matched."""

from typing import Any

import pytest
from tests.unit.workflow.catalogs import catalog, entry, v3_entry
from tests.unit.workflow.verdict_samples import EMPTY, judge, only, save

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.nearest import Nearest
from comfyserve.workflow.problems import Code, Problem, printable, shortened
from comfyserve.workflow.validate import Verdict


@pytest.mark.parametrize(
    ("prompt", "version", "code"),
    [
        (None, "0.26.0", Code.PROMPT_NOT_AN_OBJECT),
        ([], "0.26.0", Code.PROMPT_NOT_AN_OBJECT),
        ("abc", "0.3.64", Code.PROMPT_NOT_AN_OBJECT),
        ([1], "0.3.64", Code.PROMPT_NOT_AN_OBJECT),
        ([], "0.3.64", Code.PROMPT_NO_OUTPUTS),
        ("", "0.3.64", Code.PROMPT_NO_OUTPUTS),
        ({}, "0.26.0", Code.PROMPT_NO_OUTPUTS),
        ({"1": EMPTY}, "0.26.0", Code.PROMPT_NO_OUTPUTS),
        ({"1": None}, "0.26.0", Code.NODE_NOT_AN_OBJECT),
        ({"1": None}, "0.3.64", Code.NODE_NOT_AN_OBJECT),
        ({"1": "text"}, "0.26.0", Code.NODE_NOT_AN_OBJECT),
        ({"1": "class_type inputs"}, "0.26.0", Code.NODE_NOT_AN_OBJECT),
        ({"1": "text"}, "0.3.64", Code.INVALID_PROMPT),
        ({"1": ["class_type"]}, "0.3.64", Code.NODE_NOT_AN_OBJECT),
        ({"1": {"class_type": []}}, "0.26.0", Code.CLASS_TYPE_NOT_A_NAME),
        ({"1": {"class_type": {}, "inputs": {}}}, "0.26.0", Code.CLASS_TYPE_NOT_A_NAME),
        ({"1": {"class_type": "X", "inputs": []}}, "0.26.0", Code.INPUTS_NOT_AN_OBJECT),
        ({"1": {"class_type": "X", "_meta": None}}, "0.26.0", Code.META_NOT_AN_OBJECT),
        ({"1": {"class_type": "X"}}, "0.26.0", Code.MISSING_NODE_TYPE),
        ({"1": {"inputs": {}}}, "0.26.0", Code.MISSING_NODE_TYPE),
        ({"1": {"class_type": None}}, "0.3.64", Code.INVALID_PROMPT),
        ({"1": {}}, "0.3.64", Code.INVALID_PROMPT),
    ],
)
def test_what_comfyui_answers_500_or_refuses_as_a_whole(
    prompt: Any, version: str, code: Code
) -> None:
    verdict = judge(prompt, catalog(version))
    assert not verdict.ok
    assert verdict.error is not None
    assert verdict.error.code is code
    assert verdict.error.hint
    assert verdict.to_comfy()["error"]["type"] == code.value
    assert verdict.problems == (verdict.error,)


def test_a_prompt_without_class_is_named_by_its_title() -> None:
    verdict = judge({"7": {"inputs": {}, "_meta": {"title": "Mine"}}})
    assert verdict.error is not None
    assert verdict.error.message.startswith("Node 'Mine' has no class_type.")
    assert verdict.error.node_title == "Mine"


@pytest.mark.parametrize(
    ("targets", "outputs"),
    [
        (None, ("2", "3")),
        (["3"], ("3",)),
        (("2",), ("2",)),
        ("23", ("2", "3")),
        ({"2": 0}, ("2",)),
        ([], ()),
        (["nope"], ()),
    ],
)
def test_partial_execution_targets(targets: Any, outputs: tuple[str, ...]) -> None:
    verdict = judge({"1": EMPTY, "2": save(), "3": save()}, partial_execution_targets=targets)
    assert verdict.outputs == outputs
    if not outputs:
        assert verdict.error is not None
        assert verdict.error.code is Code.PROMPT_NO_OUTPUTS


def test_targets_that_are_no_list_are_refused() -> None:
    verdict = judge({"1": EMPTY, "2": save()}, partial_execution_targets=5)
    assert verdict.error is not None
    assert verdict.error.code is Code.TARGETS_NOT_A_LIST


_OLD_CLASSES = {
    "ControlNetLoader": entry(
        {"control_net_name": [["a"]]}, output=["CONTROL_NET"], is_output=True
    ),
    "BatchImagesNode": entry(
        {"images.image0": ["IMAGE"], "images.image1": ["IMAGE"]}, is_output=True
    ),
}


def test_a_class_that_is_gone_is_replaced() -> None:
    old = {"class_type": "T2IAdapterLoader", "inputs": {"t2i_adapter_name": "a"}, "_meta": {}}
    verdict = judge({"1": old}, catalog("0.26.0", **_OLD_CLASSES))
    assert verdict.ok
    assert verdict.prompt["1"] == {
        "class_type": "ControlNetLoader",
        "inputs": {"control_net_name": "a"},
        "_meta": {},
    }
    assert not judge({"1": old}, catalog("0.3.64", **_OLD_CLASSES)).ok


@pytest.mark.parametrize(
    ("node", "lacking"),
    [
        ({"class_type": "T2IAdapterLoader", "inputs": {"t2i_adapter_name": "a"}}, "_meta"),
        ({"class_type": "T2IAdapterLoader", "inputs": {}, "_meta": {}}, "input 't2i_adapter_name'"),
    ],
)
def test_a_replacement_that_comfyui_falls_over_is_refused(node: Any, lacking: str) -> None:
    verdict = judge({"1": node}, catalog("0.26.0", **_OLD_CLASSES))
    assert verdict.error is not None
    assert verdict.error.code is Code.REPLACEMENT_FAILED
    assert lacking in verdict.error.hint


def test_recorded_replacements_move_inputs_and_outputs() -> None:
    info = {
        "New": entry({"b": ["STRING"], "c": ["INT"]}, output=["INT", "STRING"]),
        "Sink": entry({"text": ["STRING"], "count": ["INT"]}, is_output=True),
    }
    rule = {
        "new_node_id": "New",
        "old_node_id": "Old",
        "input_mapping": [{"new_id": "b", "old_id": "a"}, {"new_id": "c", "set_value": 5}],
        "output_mapping": [{"old_idx": 0, "new_idx": 1}, {"old_idx": 1, "new_idx": 0}],
    }
    made = NodeCatalog.from_object_info(
        info,
        version="0.26.0",
        replacements={"Old": [rule], "Older": [], "Oldest": [{}], "Odd": "x"},
    )
    prompt = {
        "1": {"class_type": "Old", "inputs": {"a": "x"}, "_meta": {"title": "t"}},
        "2": {"class_type": "Sink", "inputs": {"text": ["1", 0], "count": ["1", 1]}},
        "3": {"class_type": "Sink", "inputs": {"text": "x", "count": 5}},
    }
    verdict = judge(prompt, made)
    assert verdict.ok
    assert verdict.prompt["1"]["inputs"] == {"b": "x", "c": 5}
    assert verdict.prompt["2"]["inputs"] == {"text": ["1", 1], "count": ["1", 0]}
    assert verdict.prompt["3"] is prompt["3"]
    for gone in ("Older", "Oldest", "Odd", "Nowhere", 5):
        refused = judge({"1": {"class_type": gone, "inputs": {}, "_meta": {}}}, made)
        assert refused.error is not None
        assert refused.error.code is Code.MISSING_NODE_TYPE


def test_a_replaced_prompt_may_hold_nodes_without_inputs() -> None:
    rule = {"new_node_id": "New", "output_mapping": [{"old_idx": 0, "new_idx": 1}]}
    made = NodeCatalog.from_object_info(
        {"New": entry(output=["INT", "INT"], is_output=True)},
        version="0.26.0",
        replacements={"Old": [rule]},
    )
    prompt = {"1": {"class_type": "Old", "inputs": {}, "_meta": {}}, "2": {"class_type": "New"}}
    assert judge(prompt, made).outputs == ("1",)


def test_the_old_release_checks_less_and_words_it_differently() -> None:
    pick = {
        "1": {"class_type": "Pick", "inputs": {"choice": "z"}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 1]}},
    }
    assert judge(pick, catalog("0.3.64")).ok
    assert only(judge(pick, catalog("0.20.0"))).details == "choice: 'z' not in ['a', 'b']"
    several = {**pick, "1": {"class_type": "Pick", "inputs": {"choice": {"__value__": ["a", "z"]}}}}
    assert only(judge(several, catalog("0.26.0"))).details == "choice: 'z' not in ['a', 'b']"
    assert not judge(several, catalog("0.20.0")).ok


def test_a_list_of_choices_may_go_into_a_combo() -> None:
    pick = {"class_type": "Pick", "inputs": {"choice": "a"}}
    prompt = {
        "1": pick,
        "2": {"class_type": "Pick", "inputs": {"choice": ["1", 0]}},
        "3": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }
    assert judge(prompt).ok
    assert not judge(prompt, catalog("0.3.64")).ok


@pytest.mark.parametrize("given", [{}, {"image": "cat.png"}])
def test_a_missing_argument_reads_as_python_says_it(given: Any) -> None:
    mask = {"class_type": "LoadImageMask", "inputs": {"channel": "red", **given}}
    prompt = {"1": mask, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}}
    for version, owner in (("0.3.64", "LoadImageMask"), ("0.26.0", "LoadImage")):
        verdict = judge(prompt, catalog(version))
        assert verdict.ok is bool(given)
        if not given:
            words = f"{owner}.VALIDATE_INPUTS() missing 1 required positional argument: 'image'"
            assert only(verdict).details == words


def test_camera_controls_are_judged() -> None:
    names = ("horizontal_movement", "vertical_movement", "pan", "tilt", "roll", "zoom")
    required = {name: ["FLOAT", {"min": -10.0, "max": 10.0}] for name in names}
    kling = {"KlingCameraControls": v3_entry(required=required, is_output=True)}

    def details(inputs: dict[str, Any]) -> str:
        verdict = judge(
            {"1": {"class_type": "KlingCameraControls", "inputs": inputs}}, catalog(None, **kling)
        )
        return "" if verdict.ok else verdict.problems[1].details

    still = dict.fromkeys(names, 0.0)
    assert details({**still, "pan": 1.0}) == ""
    assert details(still).endswith("at least one of the values must be non-zero")
    two = dict.fromkeys(names[2:], 0.0)
    assert details(two).endswith("arguments: 'horizontal_movement' and 'vertical_movement'")
    assert details({}).endswith("'roll', and 'zoom'")


def test_aspect_ratios_are_judged_where_that_is_safe() -> None:
    flux = {
        "FluxProUltraImageNode": v3_entry(required={"aspect_ratio": ["STRING", {}]}, is_output=True)
    }

    def undecided(ratio: Any) -> bool:
        prompt = {"1": {"class_type": "FluxProUltraImageNode", "inputs": {"aspect_ratio": ratio}}}
        return bool(judge(prompt, catalog(None, **flux)).undecided)

    assert not undecided("16:9")
    assert undecided("16:0")
    assert undecided("wide")
    assert undecided("9:1")


def test_load3d_takes_none_and_blames_every_input() -> None:
    required = {
        "model_file": ["COMBO", {"options": ["none"], "file_upload": True}],
        "width": ["INT", {}],
    }
    load = {"Load3D": v3_entry(required=required, output=["IMAGE"], is_output=True)}
    made = catalog("0.26.0", files=["3d/a.glb"], **load)

    def verdict(name: Any) -> Verdict:
        inputs = {"model_file": name, "width": 5, "extra": 1, "linked": ["1", 0]}
        return judge({"1": {"class_type": "Load3D", "inputs": inputs}}, made)

    assert verdict("none").ok
    assert verdict("3d/a.glb").ok
    refused = verdict("3d/b.glb")
    assert [problem.details for problem in refused.problems[1:]] == [
        f"{name} - Invalid 3D model file: 3d/b.glb" for name in ("model_file", "width", "linked")
    ]
    old = {"Load3D": entry({"model_file": [["3d/a.glb"], {"file_upload": True}]}, is_output=True)}
    prompt = {"1": {"class_type": "Load3D", "inputs": {"model_file": "3d/b.glb"}}}
    assert only(judge(prompt, catalog("0.3.64", **old))).code is Code.VALUE_NOT_IN_LIST


def test_a_custom_combo_takes_any_choice() -> None:
    own = {"CustomCombo": v3_entry(required={"choice": ["COMBO", {"options": []}]}, is_output=True)}
    prompt = {"1": {"class_type": "CustomCombo", "inputs": {"choice": "mine"}}}
    assert judge(prompt, catalog("0.26.0", **own)).ok
    own = {"CustomCombo": entry({"other": ["INT", {}]}, is_output=True)}
    assert not judge(prompt, catalog("0.26.0", **own)).ok, "another class of that name"


def test_a_cycle_is_named_with_its_nodes() -> None:
    blend = {"image1": ["2", 0], "image2": ["1", 0], "factor": 0.5, "mode": "nope"}
    prompt = {
        "1": EMPTY,
        "2": {"class_type": "ImageBlend", "inputs": blend},
        "3": save("2"),
    }
    verdict = judge(prompt)
    cycle, other = verdict.node_problems[0].problems
    assert cycle.details == "2 (ImageBlend) -> 2 (ImageBlend)"
    assert cycle.hint == "Cut one of the links that lead back into the cycle."
    assert other.code is Code.VALUE_NOT_IN_LIST
    old = judge(
        {**prompt, "2": {"class_type": "ImageBlend", "inputs": {**blend, "mode": "normal"}}},
        catalog("0.3.64"),
    )
    assert not old.ok
    assert old.node_problems == ()
    assert old.error is not None
    assert "cycle" in old.error.hint


def test_look_alikes_stay_within_their_budget() -> None:
    nearest = Nearest(budget=10)
    assert nearest.of("name 5", [f"name {at}" for at in range(100)]) == (
        "name 5",
        "name 0",
        "name 1",
    )
    assert nearest.of("name 5", ["name 5"]) == ()
    fresh = Nearest()
    assert fresh.of(5, ["5"]) == ()
    assert fresh.of("", ["a"]) == ()
    assert fresh.of("x" * 500, ["x"]) == ()
    assert fresh.of("a", [5, None, "y" * 500, "A"]) == ("A",)
    assert fresh.of(".hidden", [".hidden.png"]) == (".hidden.png",)
    assert fresh.of("!!", ["!!!"]) == ("!!!",)


def test_large_values_are_cut_where_they_are_shown() -> None:
    assert shortened("x" * 30_000).endswith("… (30000 characters)")
    deep: Any = []
    for _ in range(1000):
        deep = [deep]
    assert printable(deep) == "(too large to be shown)"
    assert printable(list(range(30_000))) == "(too large to be shown)"
    assert printable({"a": [1, {"b": 2}]}) == {"a": [1, {"b": 2}]}
    assert printable(5) == 5
    problem = Problem(Code.UNKNOWN_INPUT, "m", given=deep)
    assert problem.to_json()["given"] == "(too large to be shown)"
    assert problem.to_comfy() == {
        "type": "unknown_input",
        "message": "m",
        "details": "",
        "extra_info": {},
    }


def test_an_output_may_feed_another_one() -> None:
    more = {"Through": entry({"images": ["IMAGE"]}, output=["IMAGE"], is_output=True)}
    prompt = {
        "1": EMPTY,
        "3": {"class_type": "Through", "inputs": {"images": ["2", 0]}},
        "2": {"class_type": "Through", "inputs": {"images": ["1", 0]}},
    }
    assert judge(prompt, catalog(None, **more)).outputs == ("3", "2")


def test_types_fit_as_comfyui_has_them_fit() -> None:
    more = {
        "Many": entry({"x": ["IMAGE, *", {}]}, is_output=True),
        "Some": entry({"x": ["MASK,STRING", {}]}, is_output=True),
        "Matched": entry({"x": ["COMFY_MATCHTYPE_V3", {}]}, is_output=True),
    }
    text = {"class_type": "Text", "inputs": {"text": "x"}}

    def fits(class_type: str, version: str) -> bool:
        prompt = {"1": text, "2": {"class_type": class_type, "inputs": {"x": ["1", 0]}}}
        return judge(prompt, catalog(version, **more)).ok

    assert fits("Some", "0.3.64")
    assert not fits("Many", "0.3.64")
    assert fits("Many", "0.26.0")
    assert not fits("Matched", "0.3.64")
    assert fits("Matched", "0.4.0")


def test_a_task_of_the_right_kind_passes() -> None:
    tripo = {
        "TripoConversionNode": v3_entry(
            required={"original_model_task_id": ["RIG_TASK_ID"]}, is_output=True
        ),
        "Maker": entry(output=["MODEL_TASK_ID"]),
    }
    inputs = {"original_model_task_id": ["1", 0]}
    prompt = {
        "1": {"class_type": "Maker", "inputs": {}},
        "2": {"class_type": "TripoConversionNode", "inputs": inputs},
    }
    assert judge(prompt, catalog(None, **tripo)).ok


def test_links_that_are_fine_are_not_blamed() -> None:
    odd = {"Odd": entry({"text": ["STRING", {"min": 5}], "image": ["IMAGE"]}, is_output=True)}
    inputs = {"text": "x", "image": ["2", 0]}
    problem = only(
        judge({"1": {"class_type": "Odd", "inputs": inputs}, "2": EMPTY}, catalog(None, **odd))
    )
    assert problem.hint == "Check the inputs of this node against what Odd declares."


def test_a_number_too_small_is_refused() -> None:
    problem = only(judge({"1": {**EMPTY, "inputs": {"width": 0, "height": 8}}, "2": save()}))
    assert problem.message == "Value 0 smaller than min of 1"
