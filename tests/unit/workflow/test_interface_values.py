"""Values by name into a prompt, the names themselves, and the JSON form of an interface."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.unit.workflow.catalogs import INFO
from tests.unit.workflow.interface_samples import MORE, found, node, text_to_image

from comfyserve.workflow.interface import (
    Interface,
    InterfaceInput,
    Kind,
    Place,
    Source,
    apply,
    read_interface,
    to_json,
)
from comfyserve.workflow.interface.names import NAME, slug, unique
from comfyserve.workflow.problems import Code

# --- names


def test_names_are_identifiers_and_unique() -> None:
    assert slug("Seed (main)") == "seed_main"
    assert slug("3D model") == "n3d_model"
    assert slug("cfgScale") == "cfg_scale"
    assert slug("猫") == ""
    assert unique([("seed", "a"), ("seed", "b"), ("steps", "x")]) == ["a_seed", "b_seed", "steps"]
    assert unique([("seed", ""), ("seed", ""), ("", "")]) == ["seed", "seed_2", "input"]
    assert unique([("prompt", "user_prompt"), ("prompt", "")]) == ["user_prompt", "prompt"]


@given(st.lists(st.tuples(st.text(max_size=30), st.text(max_size=30)), max_size=12))
def test_any_titles_make_good_names(pairs: list[tuple[str, str]]) -> None:
    given_names = unique((slug(name), slug(title)) for name, title in pairs)
    assert len(set(given_names)) == len(pairs)
    assert all(NAME.fullmatch(name) for name in given_names)


# --- apply


def test_values_go_to_their_places_and_the_prompt_stays() -> None:
    prompt = text_to_image()
    before = json.dumps(prompt)
    made = found(prompt)
    applied = apply(prompt, {"prompt": "a dog", "seed": 2**63, "cfg": 7}, made)
    assert applied.ok
    assert applied.prompt["6"]["inputs"]["text"] == "a dog"
    assert applied.prompt["3"]["inputs"]["seed"] == 2**63
    assert applied.prompt["3"]["inputs"]["cfg"] == 7.0
    assert applied.prompt["3"]["inputs"]["steps"] == 20
    assert applied.prompt["9"] is prompt["9"]
    assert applied.values == {"prompt": "a dog", "seed": 2**63, "cfg": 7.0}
    assert json.dumps(prompt) == before


def one(kind: Kind, **more: Any) -> Interface:
    made = InterfaceInput("x", kind, (Place("1", "a"),), **more)
    return Interface(Source.GIVEN, (made,), ())


@pytest.mark.parametrize(
    ("kind", "value", "taken"),
    [
        (Kind.TEXT, "", ""),
        (Kind.INTEGER, 5, 5),
        (Kind.INTEGER, 5.0, 5),
        (Kind.INTEGER, "-7", -7),
        (Kind.NUMBER, 5, 5.0),
        (Kind.NUMBER, "1e3", 1000.0),
        (Kind.BOOLEAN, False, False),
        (Kind.BOOLEAN, "Yes", True),
        (Kind.BOOLEAN, 0, False),
        (Kind.CHOICE, "a", "a"),
        (Kind.CHOICE, "3", 3),
        (Kind.CHOICE, 1, 1),
        (Kind.IMAGE, "cat.png", "cat.png"),
        (Kind.JSON, {"a": [1]}, {"a": [1]}),
    ],
)
def test_values_are_converted(kind: Kind, value: Any, taken: Any) -> None:
    choices = ("a", 3, True, 1) if kind is Kind.CHOICE else ()
    applied = apply({"1": {"inputs": {"a": None}}}, {"x": value}, one(kind, choices=choices))
    assert applied.problems == ()
    result = applied.prompt["1"]["inputs"]["a"]
    assert (result, type(result)) == (taken, type(taken))


@pytest.mark.parametrize(
    ("kind", "value", "allowed"),
    [
        (Kind.TEXT, 5, "a text"),
        (Kind.TEXT, None, "a text"),
        (Kind.INTEGER, 5.5, "a whole number from 1 to 9"),
        (Kind.INTEGER, "6.5", "a whole number from 1 to 9"),
        (Kind.INTEGER, True, "a whole number from 1 to 9"),
        (Kind.INTEGER, 0, "a whole number from 1 to 9"),
        (Kind.INTEGER, 10, "a whole number from 1 to 9"),
        (Kind.INTEGER, "9" * 5000, "a whole number from 1 to 9"),
        (Kind.INTEGER, 10**400, "a whole number from 1 to 9"),
        (Kind.NUMBER, float("nan"), "a number from 1 to 9"),
        (Kind.NUMBER, "inf", "a number from 1 to 9"),
        (Kind.NUMBER, [], "a number from 1 to 9"),
        (Kind.BOOLEAN, "maybe", "true or false"),
        (Kind.BOOLEAN, None, "true or false"),
        (Kind.CHOICE, "ab", "one of 'aa', 'bb', 'cc', 'dd', 'ee', 'ff', 'gg', 'hh' and 1 more"),
        (Kind.CHOICE, [], "one of 'aa', 'bb', 'cc', 'dd', 'ee', 'ff', 'gg', 'hh' and 1 more"),
        (Kind.IMAGE, "", "the name of an uploaded image file"),
        (Kind.AUDIO, 5, "the name of an uploaded audio file"),
    ],
)
def test_values_that_do_not_fit_are_refused(kind: Kind, value: Any, allowed: str) -> None:
    choices = ("aa", "bb", "cc", "dd", "ee", "ff", "gg", "hh", "ii") if kind is Kind.CHOICE else ()
    made = one(kind, choices=choices, minimum=1, maximum=9)
    (problem,) = apply({"1": {"inputs": {"a": 0}}}, {"x": value}, made).problems
    assert problem.code is Code.VALUE_REFUSED
    assert problem.allowed == allowed
    assert problem.hint == f"Give 'x' {allowed}."


def test_limits_are_told_as_far_as_there_are_any() -> None:
    for limits, allowed in (({}, "a number"), ({"minimum": 0.5}, "a number from 0.5")):
        (problem,) = apply({}, {"x": "?"}, one(Kind.NUMBER, **limits)).problems
        assert problem.allowed == allowed


def test_a_misspelt_choice_or_name_is_recognised() -> None:
    made = one(Kind.CHOICE, choices=("euler_ancestral", "heun"))
    (problem,) = apply({"1": {"inputs": {"a": ""}}}, {"x": "euler ancestral"}, made).problems
    assert problem.hint == "Did you mean 'euler_ancestral'?"
    (problem,) = apply({}, {"promt": "a"}, found(text_to_image())).problems
    assert problem.code is Code.NO_SUCH_INPUT
    assert problem.hint == "Did you mean 'prompt'?"
    (problem,) = apply({}, {"zzz": "a"}, Interface(Source.GIVEN, (), ())).problems
    assert problem.hint == "The inputs are: none."


def test_what_is_required_is_asked_for() -> None:
    (problem,) = apply({}, {}, one(Kind.IMAGE, is_required=True)).problems
    assert problem.code is Code.VALUE_MISSING
    assert problem.hint == "Give 'x' a value (image)."


@pytest.mark.parametrize(
    "prompt", [{}, {"1": None}, {"1": {"inputs": []}}, {"1": {"inputs": {"a": ["2", 0]}}}]
)
def test_an_interface_of_another_workflow_is_told(prompt: Any) -> None:
    (problem,) = apply(prompt, {"x": "a"}, one(Kind.TEXT)).problems
    assert problem.code is Code.PLACE_GONE


def test_a_list_is_wrapped_so_that_it_is_no_link() -> None:
    applied = apply({"1": {"inputs": {}}}, {"x": ["2", 0]}, one(Kind.JSON))
    assert applied.prompt["1"]["inputs"] == {"a": {"__value__": ["2", 0]}}


# --- the JSON form


def test_the_json_form_holds_everything() -> None:
    prompt = text_to_image(**{"10": node("ImageBlend", "$b(mode)", mode="normal")})
    for made in (
        found(text_to_image()),
        found(prompt),
        found(
            {
                "1": node("LoadImage", image="gone.png"),
                "2": node("SaveImage", images=["1", 0], filename_prefix="x"),
            }
        ),
    ):
        again = read_interface(json.loads(json.dumps(to_json(made))))
        assert again.problems == ()
        assert again.source is Source.GIVEN
        assert (again.inputs, again.outputs) == (made.inputs, made.outputs)


@pytest.mark.parametrize(
    ("data", "where"),
    [
        (None, None),
        ({}, None),
        ({"comfyserve_interface": 2}, None),
        ({"inputs": 5}, "inputs"),
        ({"inputs": [{}] * 1001}, "inputs"),
        ({"inputs": [5]}, "inputs[0]"),
        ({"inputs": [{"type": "text", "sets": [{"node": "1", "input": "a"}]}]}, "inputs[0]"),
        (
            {
                "inputs": [
                    {"name": "Big Name", "type": "text", "sets": [{"node": "1", "input": "a"}]}
                ]
            },
            "inputs[0]",
        ),
        (
            {"inputs": [{"name": "x", "type": "color", "sets": [{"node": "1", "input": "a"}]}]},
            "inputs[0]",
        ),
        ({"inputs": [{"name": "x", "type": "text"}]}, "inputs[0]"),
        ({"inputs": [{"name": "x", "type": "text", "sets": []}]}, "inputs[0]"),
        ({"outputs": [{"name": "x", "type": "image"}]}, "outputs[0]"),
        ({"outputs": [{"name": "x", "type": "image", "node": "1"}] * 2}, "outputs[1]"),
    ],
)
def test_what_cannot_be_read_is_named(data: Any, where: str | None) -> None:
    if isinstance(data, dict) and where is not None:
        data = {"comfyserve_interface": 1, **data}
    problem = read_interface(data).problems[0]
    assert problem.code is Code.INTERFACE_UNREADABLE
    assert problem.input_name == where


def test_a_broken_place_is_named_and_the_good_one_kept() -> None:
    sets = [{"node": "1", "input": "a"}, {"node": 1}, "x"]
    data = {"comfyserve_interface": 1, "inputs": [{"name": "x", "type": "text", "sets": sets}]}
    made = read_interface(data)
    assert made.inputs[0].places == (Place("1", "a"),)
    assert len(made.problems) == 2


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)
_ENTRY = st.dictionaries(
    st.sampled_from(
        ["name", "type", "sets", "label", "role", "min", "max", "choices", "node", "default"]
    ),
    _JSON | st.sampled_from(["x", "text", "seed", "image"]),
)


@given(
    _JSON
    | st.fixed_dictionaries(
        {
            "comfyserve_interface": st.just(1),
            "inputs": st.lists(_ENTRY, max_size=3),
            "outputs": st.lists(_ENTRY, max_size=3) | _JSON,
        }
    )
)
def test_any_json_can_be_read(data: Any) -> None:
    made = read_interface(data)
    assert made.inputs or made.outputs or made.problems or data.get("inputs", []) == []
    json.dumps(to_json(made))


_CLASSES = st.sampled_from(sorted({**INFO, **MORE}))
_TITLES = st.text(max_size=8) | st.sampled_from(["$a", "$a(text, width)", "#out", "$", "$x()"])
_INPUT_NAMES = st.sampled_from(
    [
        "text",
        "positive",
        "negative",
        "seed",
        "width",
        "height",
        "image",
        "value",
        "images",
        "source",
    ]
)
_VALUES = _JSON | st.tuples(st.sampled_from("123"), st.integers(0, 1)).map(list)
_NODES = st.fixed_dictionaries(
    {"class_type": _CLASSES, "inputs": st.dictionaries(_INPUT_NAMES, _VALUES, max_size=5)},
    optional={"_meta": st.fixed_dictionaries({"title": _TITLES | _JSON})},
)


@settings(max_examples=200)
@given(st.dictionaries(st.sampled_from("123"), _NODES | _JSON, max_size=3))
def test_any_prompt_has_an_interface_that_applies(prompt: Any) -> None:
    made = found(prompt)
    json.dumps(to_json(made))
    given_names = [*(each.name for each in made.inputs), *(each.name for each in made.outputs)]
    assert all(map(NAME.fullmatch, given_names))
    defaults = {
        each.name: each.default
        for each in made.inputs
        if each.default is not None or each.kind is Kind.JSON
    }
    missing = {each.name for each in made.inputs if each.is_required}
    applied = apply(prompt if isinstance(prompt, dict) else {}, defaults, made)
    assert {each.input_name for each in applied.problems} == missing
