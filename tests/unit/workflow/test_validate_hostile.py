"""Whatever is sent: a verdict, in bounded time and memory, never an exception."""

import json
import string
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.workflow.catalogs import INFO, catalog

from comfyserve.workflow.bounds import MAX_NODES
from comfyserve.workflow.problems import Code
from comfyserve.workflow.validate import validate
from comfyserve.workflow.walk import MAX_DEPTH, MAX_FAULTY

_SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(min_value=10**300)
    | st.floats()
    | st.text(max_size=8)
    | st.text(alphabet="\ud800\u0000é😀", max_size=3)
)
JSON = st.recursive(
    _SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4)
    ),
    max_leaves=20,
)
_IDS = st.sampled_from(list("12345"))
_NAMES = sorted(
    {name for entry in INFO.values() for name in entry["input"]["required"]}
    | {"images.image0", "resize.width", "resize.mode", "resize.mode.deep", "extra"}
)
_VALUES = (
    JSON
    | st.tuples(_IDS, st.integers(-2, 3)).map(list)
    | st.sampled_from(["cat.png", "nope.png", "normal", "by width", "by factor", "x", "a", "z"])
    | st.integers(-2, 120)
    | st.builds(lambda inner: {"__value__": inner}, JSON)
)
_NODES = st.fixed_dictionaries(
    {
        "class_type": st.sampled_from(sorted(INFO)),
        "inputs": st.dictionaries(st.sampled_from(_NAMES), _VALUES, max_size=5),
    },
    optional={"_meta": st.fixed_dictionaries({"title": JSON})},
)
_PROMPTS = st.dictionaries(_IDS, _NODES, max_size=5)
_VERSIONS = st.sampled_from(["0.3.64", "0.8.0", "0.12.0", "0.15.0", "0.26.0", None])


@given(JSON, JSON, _VERSIONS)
def test_any_json_gets_a_verdict(prompt: Any, targets: Any, version: str | None) -> None:
    verdict = validate(prompt, catalog(version), partial_execution_targets=targets)
    json.dumps(verdict.to_comfy())
    assert verdict.ok is (verdict.error is None)


@given(st.dictionaries(_IDS, _NODES | JSON, max_size=4), _VERSIONS)
def test_any_nodes_get_a_verdict(prompt: Any, version: str | None) -> None:
    verdict = validate(prompt, catalog(version))
    json.dumps(verdict.to_comfy())
    for problem in (*verdict.problems, *verdict.warnings):
        json.dumps(problem.to_json())


@settings(max_examples=300)
@given(_PROMPTS, _VERSIONS)
def test_what_holds_for_every_verdict(prompt: Any, version: str | None) -> None:
    before = json.dumps(prompt)
    using = catalog(version, files=["cat.png"])
    verdict = validate(prompt, using)
    assert json.dumps(prompt) == before
    assert verdict.ok is bool(verdict.outputs)
    assert set(verdict.outputs) <= {
        node_id for node_id, node in prompt.items() if INFO[node["class_type"]]["output_node"]
    }
    assert verdict.is_partial is (verdict.ok and bool(verdict.node_problems))
    blamed = {node.node_id for node in verdict.node_problems}
    assert all(
        set(node.dependent_outputs).isdisjoint(verdict.outputs) for node in verdict.node_problems
    )
    assert blamed <= set(prompt)
    # An unwrapped list reads as a link the second time: such a prompt is for showing only.
    if verdict.ok and not verdict.node_problems and "__value__" not in before:
        again = validate(verdict.prompt, using)
        assert json.dumps(again.prompt) == json.dumps(verdict.prompt), "conversion is done once"
        assert again.outputs == verdict.outputs


def _invert(source: str) -> dict[str, Any]:
    return {"class_type": "ImageInvert", "inputs": {"image": [source, 0]}}


def _save(source: str) -> dict[str, Any]:
    return {"class_type": "SaveImage", "inputs": {"images": [source, 0], "filename_prefix": "x"}}


_EMPTY = {"class_type": "EmptyImage", "inputs": {"width": 8, "height": 8}}
_MANY = 20_000


def _chain(length: int) -> dict[str, Any]:
    """Return a chain with that many nodes from the output to its source."""
    middle = {str(at): _invert(str(at - 1)) for at in range(1, length - 1)}
    return {"0": _EMPTY, **middle, "out": _save(str(length - 2))}


def _star() -> Any:
    return {"s": _EMPTY, **{str(at): _save("s") for at in range(_MANY)}}


def _ring() -> Any:
    return {**{str(at): _invert(str((at - 1) % _MANY)) for at in range(_MANY)}, "out": _save("7")}


def _bad_outputs() -> Any:
    return {str(at): {"class_type": "SaveImage", "inputs": {}} for at in range(_MANY)}


def _tangle() -> Any:
    nodes = {
        str(at): {
            "class_type": "ImageBlend",
            "inputs": {"image1": [str(at // 2), 0], "image2": [str(at * 7 % _MANY), 0]},
        }
        for at in range(_MANY)
    }
    return {**nodes, **{f"out{at}": _save(str(at)) for at in range(500)}}


def _strangers() -> Any:
    return {str(at): {"class_type": f"Nope {at}", "inputs": {}} for at in range(_MANY)}


def _crowded() -> Any:
    crowd = {f"{letter}{at}": at for at in range(_MANY // 26) for letter in string.ascii_lowercase}
    return {"1": {"class_type": "EmptyImage", "inputs": crowd}, "out": _save("1")}


def _endless_text() -> Any:
    text = "x" * 10_000_000
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": text}},
        "2": {"class_type": "EmptyImage", "inputs": {"width": text, "height": [text, text]}},
        "3": _save("1"),
        "4": _save("2"),
        text: {"class_type": text, "inputs": {}} if text == "" else _EMPTY,
    }


def _deep() -> Any:
    nested: Any = []
    mapping: Any = {}
    for _ in range(50_000):
        nested, mapping = [nested], {"a": mapping}
    inputs = {"width": nested, "height": {"__value__": nested}, "extra": mapping}
    return {
        "1": {"class_type": "EmptyImage", "inputs": inputs},
        "2": {"class_type": "Text", "inputs": {"text": mapping}},
        "3": _save("1"),
        "4": {"class_type": "PreviewAny", "inputs": {"source": ["2", 0]}},
    }


@pytest.mark.parametrize("version", ["0.3.64", "0.26.0"])
@pytest.mark.parametrize(
    "make",
    [_star, _ring, _bad_outputs, _tangle, _strangers, _crowded, _endless_text, _deep],
)
def test_absurd_sizes_get_an_answer_that_is_not_absurd(
    make: Callable[[], Any], version: str
) -> None:
    verdict = validate(make(), catalog(version))
    assert len(json.dumps(verdict.to_comfy())) < 60_000_000
    assert len(verdict.warnings) <= 100
    assert sum(bool(problem.hint) for problem in verdict.problems) <= 1001


@pytest.mark.parametrize("version", ["0.3.64", "0.26.0"])
def test_with_thousands_of_wrong_nodes_the_rest_is_not_looked_at(version: str) -> None:
    good = {"source": _EMPTY, "fine": _save("source")}
    verdict = validate({**good, **_bad_outputs()}, catalog(version))
    assert not verdict.ok
    assert verdict.outputs == ()
    assert MAX_FAULTY < len(verdict.node_problems) <= MAX_FAULTY + 1
    error = verdict.to_comfy()["error"]
    assert error["type"] == "prompt_outputs_failed_validation"
    assert "the rest was not looked at" in (verdict.error.details if verdict.error else "")
    few = dict(list(_bad_outputs().items())[: MAX_FAULTY - 1])
    assert validate({**good, **few}, catalog(version)).outputs == ("fine",)


@pytest.mark.parametrize("version", ["0.3.64", "0.26.0"])
def test_one_output_can_have_too_many_wrong_nodes_behind_it(version: str) -> None:
    wide = {
        "class_type": "ImageBlend",
        "inputs": {"image1": ["a", 0], "image2": ["b", 0]},
    }
    depth = 13
    nodes = {
        f"{level}.{at}": {
            **wide,
            "inputs": {
                "image1": [f"{level + 1}.{2 * at}", 0], "image2": [f"{level + 1}.{2 * at + 1}", 0]
            },
        }
        for level in range(depth)
        for at in range(2**level)
    }  # fmt: skip
    leaves = {f"{depth}.{at}": {"class_type": "EmptyImage", "inputs": {}} for at in range(2**depth)}
    verdict = validate({**nodes, **leaves, "out": _save("0.0")}, catalog(version))
    assert not verdict.ok
    assert len(verdict.node_problems) <= MAX_FAULTY + 1


def test_a_prompt_of_too_many_nodes_is_refused_at_once() -> None:
    prompt = {str(at): _EMPTY for at in range(MAX_NODES + 1)}
    verdict = validate(prompt, catalog("0.26.0"))
    assert verdict.error is not None
    assert verdict.error.code is Code.WORKFLOW_TOO_LARGE
    assert verdict.to_comfy()["node_errors"] == {}


@pytest.mark.parametrize("version", ["0.3.64", "0.26.0"])
def test_a_long_chain_is_refused_where_comfyui_gives_up(version: str) -> None:
    # Measured on 0.3.64 and 0.26.0: 977 to 985 nodes in a row, by the class of the last ones.
    assert validate(_chain(MAX_DEPTH), catalog(version)).ok
    verdict = validate(_chain(100_000), catalog(version))
    (node,) = verdict.node_problems
    (problem,) = node.problems
    assert problem.code is Code.EXCEPTION_DURING_INNER_VALIDATION
    assert "split the workflow" in problem.hint


def test_a_long_cycle_is_shown_shortened() -> None:
    length = 900
    ring = {str(at): _invert(str((at - 1) % length)) for at in range(length)}
    verdict = validate({**ring, "out": _save("0")}, catalog("0.26.0"))
    assert len(verdict.node_problems) == length
    assert len(verdict.node_problems[0].problems[0].details) < 5000
