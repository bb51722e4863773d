"""What a verdict says: ComfyUI's words, our hints, warnings, partial validity. Agreement itself is measured elsewhere."""

import json
from typing import Any

import pytest
from tests.unit.workflow.catalogs import catalog, entry, v3_entry

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.nearest import Nearest
from comfyserve.workflow.problems import HINT_KEY, Code, Problem, Severity, printable, shortened
from comfyserve.workflow.validate import Verdict, validate

EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}}


def save(source: str = "1") -> dict[str, Any]:
    return {
        "class_type": "SaveImage",
        "inputs": {"images": [source, 0], "filename_prefix": "x"},
        "_meta": {"title": "Keep it"},
    }


def judge(prompt: Any, using: NodeCatalog | None = None, **more: Any) -> Verdict:
    return validate(prompt, using or catalog(), **more)


def only(verdict: Verdict) -> Problem:
    """Return the one problem of the one bad node."""
    (node,) = verdict.node_problems
    (problem,) = node.problems
    return problem


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
