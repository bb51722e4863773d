"""What a verdict says: ComfyUI's words, our hints, warnings, partial validity. Agreement itself is measured elsewhere."""

import json
from typing import Any

import pytest
from tests.unit.workflow.catalogs import catalog, entry, v3_entry
from tests.unit.workflow.verdict_samples import EMPTY, judge, only, save

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.problems import HINT_KEY, Code, Severity


def test_a_good_prompt_runs() -> None:
    verdict = judge({"1": EMPTY, "2": save()})
    assert verdict.ok
    assert verdict.error is None
    assert verdict.outputs == ("2",)
    assert verdict.problems == ()
    assert verdict.to_comfy() == {"node_errors": {}}
    assert not verdict.is_partial


def test_values_are_kept_as_comfyui_converts_them() -> None:
    node = {"class_type": "EmptyImage", "inputs": {"width": "64", "height": {"__value__": 48.9}}}
    prompt = {"1": node, "2": save()}
    before = json.dumps(prompt)
    verdict = judge(prompt)
    assert verdict.prompt["1"]["inputs"] == {"width": 64, "height": 48}
    assert verdict.prompt["2"] is prompt["2"]
    assert json.dumps(prompt) == before, "what was handed in stays as it was"


def test_a_problem_tells_where_what_and_how_to_mend_it() -> None:
    node = {**EMPTY, "inputs": {"width": 5000, "height": 8}, "_meta": {"title": "Canvas"}}
    verdict = judge({"1": node, "2": save()})
    problem = only(verdict)
    assert problem.to_json() == {
        "code": "value_bigger_than_max",
        "severity": "error",
        "node_id": "1",
        "node_title": "Canvas",
        "class_type": "EmptyImage",
        "input": "width",
        "message": "Value 5000 bigger than max of 100",
        "details": "width",
        "given": 5000,
        "allowed": "a whole number from 1 to 100",
        "nearest": [],
        "hint": "Give 'width' a whole number from 1 to 100.",
    }
    assert verdict.error is not None
    assert verdict.error.code is Code.PROMPT_OUTPUTS_FAILED_VALIDATION
    assert "Canvas" in verdict.error.hint


def test_comfyuis_json_has_our_hint_under_one_key_of_its_own() -> None:
    verdict = judge({"1": EMPTY, "2": {"class_type": "SaveImage", "inputs": {}}})
    body = verdict.to_comfy()
    (error, _) = body["node_errors"]["2"]["errors"]
    assert error.pop(HINT_KEY) == {
        "hint": "Link 'images' to an output of type IMAGE.",
        "nearest": [],
        "node_title": None,
    }
    assert error == {
        "type": "required_input_missing",
        "message": "Required input is missing",
        "details": "images",
        "extra_info": {"input_name": "images"},
    }
    assert body["node_errors"]["2"]["dependent_outputs"] == ["2"]
    assert body["error"]["type"] == "prompt_outputs_failed_validation"


@pytest.mark.parametrize(
    ("given", "nearest"),
    [
        ("juggernaut_v9.safetensors", "sdxl/juggernaut_v9.safetensors"),
        ("SDXL\\Juggernaut_V9.safetensors", "sdxl/juggernaut_v9.safetensors"),
        ("juggernaut-v9.ckpt", "sdxl/juggernaut_v9.safetensors"),
        ("dreamshaper8.safetensors", "dreamshaper_8.safetensors"),
        ("dreemshaper_8.safetensors", "dreamshaper_8.safetensors"),
    ],
)
def test_a_misspelt_model_is_recognised(given: str, nearest: str) -> None:
    loader = {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": given}}
    problem = only(
        judge({"1": loader, "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}}})
    )
    assert problem.nearest[0] == nearest
    assert problem.hint == f"Did you mean '{nearest}'?"


def test_a_misspelt_class_is_recognised_and_the_others_are_named() -> None:
    prompt = {
        "1": {"class_type": "EmptyImagee", "inputs": {}, "_meta": {"title": "Paper"}},
        "2": {"class_type": "Zzzzz", "inputs": {}},
        "3": save(),
    }
    verdict = judge(prompt)
    assert verdict.error is not None
    assert verdict.error.code is Code.MISSING_NODE_TYPE
    assert verdict.error.nearest[0] == "EmptyImage"
    assert verdict.error.node_title == "Paper"
    assert verdict.error.hint.startswith("Did you mean 'EmptyImage'?")
    assert "Also unknown: Zzzzz." in verdict.error.hint
    assert verdict.to_comfy()["error"]["extra_info"] == {
        "node_id": "1",
        "class_type": "EmptyImagee",
        "node_title": "Paper",
    }


def test_many_unknown_classes_are_counted() -> None:
    prompt = {str(at): {"class_type": f"Unknown {at:02}", "inputs": {}} for at in range(15)}
    verdict = judge(prompt)
    assert verdict.error is not None
    assert verdict.error.hint.endswith("Unknown 10 and 4 more.")
    assert "node pack" in verdict.error.hint


@pytest.mark.parametrize(
    ("inputs", "hint"),
    [
        ({"width": 8}, "Give 'height' a value, such as its default 20."),
        ({"width": 8, "height": "tall"}, "Give 'height' a whole number from 1 to 100."),
        ({"width": 8, "height": []}, "Write a link as [node id, output number]"),
        ({"width": 8, "height": ["9", 0]}, "'height' is linked to node '9', which is not there"),
        ({"width": 8, "height": [["9"], 0]}, "which is not there"),
        (
            {"width": 8, "height": ["1", 4]},
            "'height' takes output 4 of node 1, which has 1, from 0 on.",
        ),
        ({"width": 8, "height": ["1", "a"]}, "takes output 'a' of node 1"),
        (
            {"width": 8, "height": ["5", 0]},
            "Link 'height' to an output of type INT instead of STRING.",
        ),
        (None, "Give the node its inputs as an object"),
    ],
)
def test_hints_for_bad_inputs(inputs: Any, hint: str) -> None:
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": inputs},
        "2": save(),
        "5": {"class_type": "Text", "inputs": {"text": "x"}},
    }
    # The old release, where inputs that are no object are not a 500.
    assert hint in only(judge(prompt, catalog("0.3.64"))).hint


def test_a_node_without_inputs_is_explained() -> None:
    problem = only(judge({"1": {"class_type": "EmptyImage"}, "2": save()}))
    assert problem.code is Code.EXCEPTION_DURING_INNER_VALIDATION
    assert problem.details == "'inputs'"
    assert problem.hint.startswith("Give the node its inputs")


def test_an_exception_without_a_bad_link_points_at_the_declaration() -> None:
    odd = {"Odd": entry({"text": ["STRING", {"min": 5}]}, is_output=True)}
    prompt = {
        "1": {"class_type": "Odd", "inputs": {"text": "x"}},
        "2": {"class_type": "Odd", "inputs": {"text": "y", "other": ["1", 0], "more": [1]}},
    }
    verdict = judge(prompt, catalog(None, **odd))
    assert {problem.hint for node in verdict.node_problems for problem in node.problems} == {
        "Check the inputs of this node against what Odd declares.",
        "'other' takes output 0 of node 1, which has 0, from 0 on.",
    }


@pytest.mark.parametrize(
    ("choices", "hint"),
    [
        (["normal", "multiply"], "Choose one of 'normal', 'multiply' for 'mode'."),
        ([], "Nothing can be chosen for 'mode': no file is installed."),
        (
            [f"c{at}" for at in range(30)],
            "Choose one of 'c0', 'c1', 'c2', 'c3', 'c4', 'c5', 'c6', 'c7' and 22 more for 'mode'.",
        ),
    ],
)
def test_hints_for_choices(choices: list[str], hint: str) -> None:
    odd = {"Odd": entry({"mode": [choices]}, is_output=True)}
    problem = only(
        judge({"1": {"class_type": "Odd", "inputs": {"mode": "zzzz"}}}, catalog(None, **odd))
    )
    assert problem.hint == hint
    is_long = len(choices) > 20
    assert (problem.extra_info["input_config"] is None) is is_long


def test_what_is_allowed_is_said_for_each_type() -> None:
    required = {
        "flag": ["BOOLEAN", {}],
        "text": ["STRING", {}],
        "free": ["INT", {}],
        "part": ["FLOAT", {"min": 0.0, "max": 1.0}],
        "thing": ["THING", {}],
    }
    odd = {"Odd": entry(required, is_output=True)}
    verdict = judge({"1": {"class_type": "Odd", "inputs": {}}}, catalog(None, **odd))
    assert [problem.allowed for problem in verdict.problems[1:]] == [
        "true or false",
        "a text",
        "a whole number",
        "a number from 0.0 to 1.0",
        "a link to an output of type THING",
    ]


def test_files_are_judged_by_the_overlay() -> None:
    prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": "nothere.png"}}, "2": save()}
    problem = only(judge(prompt, catalog(files=["cat.png", "not-here.png"])))
    assert problem.code is Code.CUSTOM_VALIDATION_FAILED
    assert problem.details == "image - Invalid image file: nothere.png"
    assert problem.hint == "Did you mean 'not-here.png'? Otherwise upload the file first."
    assert problem.allowed == "the name of an uploaded image file"
    assert judge(prompt, catalog(files=["nothere.png"])).ok
    far = only(judge(prompt, catalog(files=["zz.png"])))
    assert far.hint == "Upload the image file first."


@pytest.mark.parametrize(
    ("class_type", "name", "value", "outcome"),
    [
        ("LoadImage", "image", "cat.png", "ok"),
        ("LoadImage", "image", "cow.png", "refused"),
        ("LoadImage", "image", "sub/cow.png", "undecided"),
        ("LoadImage", "image", "cow.png [output]", "undecided"),
        ("LoadLatent", "latent", "a.latent", "ok"),
        ("LoadLatent", "latent", "b.latent", "refused"),
        ("WebcamCapture", "image", "cow.png", "undecided"),
    ],
)
def test_without_an_overlay_only_the_recorded_files_are_known(
    class_type: str, name: str, value: str, outcome: str
) -> None:
    more = {"WebcamCapture": entry({"image": ["WEBCAM", {}]}, output=["IMAGE"])}
    prompt = {
        "1": {"class_type": class_type, "inputs": {name: value}},
        "2": {"class_type": "PreviewAny", "inputs": {"source": ["1", 0]}},
    }
    verdict = judge(prompt, catalog(None, **more))
    assert verdict.ok is (outcome != "refused")
    assert bool(verdict.undecided) is (outcome == "undecided")


def test_a_class_that_checks_itself_is_left_to_the_engine() -> None:
    custom = {
        "VHS_LoadVideo": entry(
            {"video": [["a.mp4"], {"video_upload": True}], "rate": ["INT", {"min": 0, "max": 9}]},
            python_module="custom_nodes.vhs",
            is_output=True,
        )
    }
    prompt = {"1": {"class_type": "VHS_LoadVideo", "inputs": {"video": "b.mp4", "rate": 99}}}
    verdict = judge(prompt, catalog(None, **custom))
    assert verdict.ok
    assert verdict.undecided == ("1",)
    (warning,) = verdict.warnings
    assert warning.code is Code.DECIDED_BY_ENGINE
    assert warning.severity is Severity.WARNING


def test_recorded_validators_tell_what_a_class_checks_itself() -> None:
    info = {
        "Own": entry(
            {"count": ["INT", {"max": 9}], "other": ["INT", {"max": 9}]},
            python_module="custom_nodes.own",
            is_output=True,
        ),
        "Plain": entry(
            {"pick": [["a"], {"image_upload": True}]},
            python_module="custom_nodes.own",
            is_output=True,
        ),
    }
    made = NodeCatalog.from_object_info(info, version="0.26.0", validators={"Own": ["count"]})
    own = {"class_type": "Own", "inputs": {"count": 99, "other": 5}}
    assert judge({"1": own}, made).undecided == ("1",)
    assert not judge({"1": {**own, "inputs": {"count": 1, "other": 99}}}, made).ok
    assert not judge({"1": {"class_type": "Plain", "inputs": {"pick": "b"}}}, made).ok


def test_partial_validity_is_kept_and_never_silent() -> None:
    prompt = {
        "1": EMPTY,
        "2": save(),
        "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    verdict = judge(prompt)
    assert verdict.ok
    assert verdict.is_partial
    assert verdict.outputs == ("2",)
    assert list(verdict.to_comfy()["node_errors"]) == ["3"]
    (warning,) = verdict.warnings
    assert warning.code is Code.OUTPUT_DROPPED
    assert warning.node_id == "3"
    assert warning.to_json()["severity"] == "warning"


def test_earlier_nodes_are_blamed_for_later_outputs_as_comfyui_does() -> None:
    bad = {"class_type": "EmptyImage", "inputs": {}}
    prompt = {"a": bad, "b": bad, "1": save("a"), "2": save("b")}
    first, second = judge(prompt).node_problems
    assert (first.node_id, first.dependent_outputs) == ("a", ("1", "2"))
    assert (second.node_id, second.dependent_outputs) == ("b", ("2",))


def test_a_value_in_place_of_a_link_is_a_warning() -> None:
    prompt = {
        "1": {"class_type": "SaveImage", "inputs": {"images": "cat.png", "filename_prefix": ""}}
    }
    verdict = judge(prompt)
    assert verdict.ok
    (warning,) = verdict.warnings
    assert warning.code is Code.VALUE_IN_PLACE_OF_LINK
    assert warning.hint == "Link 'images' to an output of type IMAGE."


def test_a_misspelt_optional_input_is_a_warning() -> None:
    odd = {
        "Odd": entry({"steps": ["INT", {}]}, optional={"strength": ["FLOAT", {}]}, is_output=True)
    }
    inputs = {"steps": 1, "strenght": 0.5, "upload": "image"}
    (warning,) = judge(
        {"1": {"class_type": "Odd", "inputs": inputs}}, catalog(None, **odd)
    ).warnings
    assert warning.code is Code.UNKNOWN_INPUT
    assert warning.input_name == "strenght"
    assert warning.hint == "Did you mean 'strength'?"
    assert (
        judge(
            {"1": {"class_type": "Odd", "inputs": {"steps": 1, "zzz": 1}}}, catalog(None, **odd)
        ).warnings
        == ()
    )


def test_an_unknown_option_of_a_dynamic_combo_is_a_warning() -> None:
    resize = {"class_type": "Resize", "inputs": {"image": ["1", 0], "resize": "by magic"}}
    verdict = judge({"1": EMPTY, "2": resize, "3": save("2")})
    assert verdict.ok, "ComfyUI says nothing of it"
    (warning,) = verdict.warnings
    assert warning.code is Code.UNKNOWN_OPTION
    assert warning.hint == "Choose one of 'by width', 'by factor'."
    good = {
        "class_type": "Resize",
        "inputs": {"image": ["1", 0], "resize": "by width", "resize.width": 5},
    }
    assert judge({"1": EMPTY, "2": good, "3": save("2")}).warnings == ()
    assert judge({"1": EMPTY, "2": resize, "3": save("2")}, catalog("0.3.64")).warnings == ()


def test_a_nested_input_is_explained_and_named_by_its_last_part() -> None:
    resize = {"class_type": "Resize", "inputs": {"image": ["1", 0], "resize": "by width"}}
    problem = only(judge({"1": EMPTY, "2": resize, "3": save("2")}))
    assert problem.details == "width"
    assert problem.input_name == "resize.width"
    assert problem.allowed == "a whole number from 1 to 100"


def test_a_problem_of_an_input_that_no_class_declares_keeps_its_words() -> None:
    odd = {
        "TripoConversionNode": v3_entry(
            required={"original_model_task_id": ["A,B"]}, is_output=True
        )
    }
    prompt = {
        "1": {"class_type": "Text", "inputs": {"text": "x"}},
        "2": {"class_type": "TripoConversionNode", "inputs": {"original_model_task_id": ["1", 0]}},
    }
    problem = only(judge(prompt, catalog(None, **odd)))
    assert problem.details.startswith("input_types - original_model_task_id must be")
    assert problem.hint == ""


def test_all_or_nothing_makes_a_refusal_of_a_verdict_in_part() -> None:
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
    }
    verdict = judge(prompt, catalog(None))
    assert verdict.is_partial
    whole = verdict.all_or_nothing()
    assert (whole.ok, whole.outputs) == (False, ())
    assert whole.error is not None
    assert whole.error.code is Code.PROMPT_OUTPUTS_FAILED_VALIDATION
    assert whole.error.details == "Required input is missing: filename_prefix"
    assert "Node 3" in whole.error.hint
    assert whole.node_problems == verdict.node_problems
    assert not [each for each in whole.warnings if each.code is Code.OUTPUT_DROPPED]
    assert whole.all_or_nothing() is whole
