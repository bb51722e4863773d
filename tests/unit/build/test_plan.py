"""Plans: a key says all that went before it, and nothing else."""

from dataclasses import replace

import pytest

from comfyserve.build.plan import Facts, make_plan, secrets_of
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.image import ImageSpec
from comfyserve.domain.image_sources import ModelFile
from comfyserve.domain.image_steps import (
    BuildSecrets,
    ComfyUIDir,
    ComfyUISource,
    Command,
    Env,
    Models,
    Packages,
)

_FACTS = Facts("python 3.11", "cpu", {"KEY": "mark"}, {"/srv/comfy": "state"})
_SPEC = ImageSpec(
    steps=(
        ComfyUISource(source="/srv/comfy"),
        Packages(("six",)),
        Env({"A": "1"}),
        BuildSecrets(("KEY",)),
        Command("one"),
        Command("two"),
    )
)


def _changed(index: int, step: Command | Packages | Env) -> ImageSpec:
    steps = list(_SPEC.steps)
    steps[index] = step
    return replace(_SPEC, steps=tuple(steps))


def _same(one: ImageSpec, other: ImageSpec, facts: Facts = _FACTS) -> int:
    """How many layers from the beginning are the same."""
    pairs = zip(make_plan(one, _FACTS).keys, make_plan(other, facts).keys, strict=False)
    return [a == b for a, b in pairs].count(True)


def test_a_changed_step_changes_only_what_follows() -> None:
    assert _same(_SPEC, _SPEC) == 5
    assert _same(_SPEC, _changed(1, Packages(("seven",)))) == 2
    assert _same(_SPEC, _changed(2, Env({"A": "2"}))) == 3
    assert _same(_SPEC, _changed(5, Command("three"))) == 4


@pytest.mark.parametrize(
    ("facts", "same"),
    [
        (replace(_FACTS, python="python 3.12"), 0),
        (replace(_FACTS, torch="cu128"), 1),
        (replace(_FACTS, directories={"/srv/comfy": "another"}), 1),
        (replace(_FACTS, secret_marks={"KEY": "another"}), 3),
    ],
)
def test_what_a_step_depends_on_is_in_its_key(facts: Facts, same: int) -> None:
    assert _same(_SPEC, _SPEC, facts) == same


def test_variables_and_secrets_are_those_of_later_steps_only() -> None:
    plan = make_plan(_SPEC, _FACTS)
    assert [(step.env, step.secrets) for step in plan.steps[1:3]] == [
        ({}, ()),
        ({"A": "1"}, ("KEY",)),
    ]
    assert plan.env == {"A": "1"}
    assert [step.number for step in plan.steps] == [1, 2, 3, 4]


def test_all_secrets_that_a_build_needs_are_known_before_it() -> None:
    model = ModelFile("https://h.example/a.pt", "loras", secret="TOKEN")
    assert secrets_of(ImageSpec(steps=(*_SPEC.steps, Models((model,))))) == ("KEY", "TOKEN")


@pytest.mark.parametrize("spec", [ImageSpec(base_image="x"), ImageSpec(dockerfile="FROM x")])
def test_what_needs_a_container_engine_is_refused(spec: ImageSpec) -> None:
    with pytest.raises(InvalidInput, match="needs a container engine") as refused:
        make_plan(spec, _FACTS)
    assert refused.value.code == "needs_container_engine"


def test_an_installation_as_it_is_has_no_steps() -> None:
    plan = make_plan(ImageSpec(steps=(ComfyUIDir("/srv/c"), Env({"A": "1"}))), _FACTS)
    assert (plan.steps, plan.env) == ((), {"A": "1"})
