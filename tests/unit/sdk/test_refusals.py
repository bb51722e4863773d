"""ComfyUI's validation errors, made readable."""

import json
from typing import Any

from comfyserve.cli.errors import PromptRefused
from comfyserve.sdk.refusals import prompt_refused, refusal

BODY = {
    "error": {
        "type": "prompt_outputs_failed_validation",
        "message": "Prompt outputs failed validation",
        "details": "",
        "extra_info": {},
        "comfyserve": {"hint": "Node 3: ...", "nearest": []},
    },
    "node_errors": {
        "3": {
            "errors": [
                {
                    "type": "value_smaller_than_min",
                    "message": "Value 0 smaller than min of 1",
                    "details": "steps",
                    "extra_info": {"input_name": "steps"},
                    "comfyserve": {"hint": "Give 'steps' a whole number.", "nearest": []},
                },
                {
                    "type": "value_not_in_list",
                    "message": "Value not in list",
                    "details": "sampler_name: 'eulr' not in ['euler', 'ddim']",
                    "extra_info": {"input_name": "sampler_name"},
                    "comfyserve": {"hint": "", "nearest": ["euler"]},
                },
            ],
            "dependent_outputs": ["9"],
            "class_type": "KSampler",
        }
    },
}


def test_each_node_is_shown_with_title_class_inputs_and_hints() -> None:
    error = prompt_refused(BODY, {"3": "Painter"})
    assert error.message == "the workflow was refused: Prompt outputs failed validation"
    assert error.evidence == (
        'node 3 "Painter" (KSampler)',
        "  steps: Value 0 smaller than min of 1",
        "    hint: Give 'steps' a whole number.",
        "  sampler_name: Value not in list: sampler_name: 'eulr' not in ['euler', 'ddim']",
        "    nearest: euler",
    )


def test_a_title_that_the_server_knows_wins_and_one_equal_to_the_class_is_not_repeated() -> None:
    entry = {
        "errors": [{"message": "m", "comfyserve": {"hint": "h", "node_title": "Theirs"}}],
        "class_type": "KSampler",
    }
    body = {"error": {"message": "no"}, "node_errors": {"3": entry}}
    assert prompt_refused(body, {"3": "Mine"}).evidence[0] == 'node 3 "Theirs" (KSampler)'
    plain = {"error": {"message": "no"}, "node_errors": {"3": {"errors": [], "class_type": "K"}}}
    assert prompt_refused(plain, {"3": "K"}).evidence == ("node 3 (K)",)


def test_an_error_of_the_whole_prompt_shows_its_own_hint() -> None:
    body = {
        "error": {
            "type": "missing_node_type",
            "message": "Node 'KSampeler' not found.",
            "details": "Node ID '#3'",
            "comfyserve": {"hint": "Did you mean KSampler?"},
        },
        "node_errors": {},
    }
    error = refusal(400, json.dumps(body).encode())
    assert isinstance(error, PromptRefused)
    assert error.message == "the workflow was refused: Node 'KSampeler' not found: Node ID '#3'"
    assert error.evidence == ("hint: Did you mean KSampler?",)


def test_what_does_not_have_the_shape_is_still_an_error() -> None:
    odd: dict[str, Any] = {"error": {}, "node_errors": {"1": None, "2": {"errors": [None, {}]}}}
    error = refusal(400, json.dumps(odd).encode())
    assert isinstance(error, PromptRefused)
    assert error.evidence == ("node 2 (unknown class)", "  no reason given")
