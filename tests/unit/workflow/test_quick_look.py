"""The quick look passes nothing that the walk would not pass in the same way."""

from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.tools.mutants import mutants, prompts_of_classes
from tests.tools.verdict_cases import DATA, Recording, load
from tests.unit.workflow.catalogs import entry

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.quick_look import look
from comfyserve.workflow.validate import Verdict, validate, validate_by_walk

_RECORDED = sorted(DATA.glob("verdicts-*.json.gz"))
_FRESH_EACH = 6


def _catalog(recording: Recording) -> NodeCatalog:
    return NodeCatalog.from_object_info(
        recording.object_info, version=recording.version, validators=recording.validators
    ).with_input_files(recording.files)


def _prompts(recording: Recording) -> Iterator[Any]:
    """What was recorded, and each class' prompt broken afresh."""
    yield from (case.prompt for case in recording.cases)
    rng = Random(11)
    for _, base in prompts_of_classes(recording.object_info, rng):
        for mutant in mutants(base, recording.object_info, rng, _FRESH_EACH):
            yield mutant.prompt(base)


@pytest.mark.parametrize("path", _RECORDED, ids=lambda path: path.name.removesuffix(".json.gz"))
def test_what_it_passes_the_walk_passes_with_the_same_outputs_and_values(path: Path) -> None:
    recording = load(path)
    catalog = _catalog(recording)
    passed = plain = 0
    for prompt in _prompts(recording):
        whole = validate_by_walk(prompt, catalog)
        found = look(prompt, catalog)
        plain += whole.ok and not whole.node_problems and not whole.warnings
        if found is not None:
            passed += 1
            # By their texts: 1, 1.0 and True are equal.
            assert repr(Verdict(True, found.prompt, outputs=found.outputs)) == repr(whole)
    assert passed > plain / 2


def _chain(*links: tuple[str, str]) -> dict[str, Any]:
    """Blurs that are linked as told, and an output of the last one."""
    nodes: dict[str, Any] = {
        name: {"class_type": "Blur", "inputs": {"image": [source, 0], "sigma": 1}}
        for name, source in links
    }
    nodes["made"] = {"class_type": "Make", "inputs": {}}
    nodes["saved"] = {"class_type": "Save", "inputs": {"image": [links[-1][0], 0]}}
    return nodes


@pytest.fixture
def catalog() -> NodeCatalog:
    return NodeCatalog.from_object_info(
        {
            "Make": entry(output=["IMAGE"]),
            "Blur": entry({"image": ["IMAGE"], "sigma": ["FLOAT", {"min": 0.0}]}, output=["IMAGE"]),
            "Pick": entry({"model": [[]]}, is_output=True),
            "Save": entry({"image": ["IMAGE"]}, is_output=True),
        },
        version="0.3.64",
    )


def test_nodes_may_stand_before_their_sources(catalog: NodeCatalog) -> None:
    found = look(_chain(("b", "a"), ("a", "made"), ("c", "b")), catalog)
    assert found is not None
    assert found.outputs == ("saved",)
    assert found.prompt["b"]["inputs"] == {"image": ["a", 0], "sigma": 1.0}
    assert type(found.prompt["b"]["inputs"]["sigma"]) is float


def test_a_node_that_does_not_run_keeps_its_values(catalog: NodeCatalog) -> None:
    prompt = _chain(("a", "made"))
    prompt["unused"] = {"class_type": "Blur", "inputs": {"image": ["made", 0], "sigma": 1}}
    found = look(prompt, catalog)
    assert found is not None
    assert repr(found.prompt) == repr(validate_by_walk(prompt, catalog).prompt)
    assert type(found.prompt["unused"]["inputs"]["sigma"]) is int


def test_a_cycle_is_left_to_the_walk(catalog: NodeCatalog) -> None:
    assert look(_chain(("a", "b"), ("b", "a")), catalog) is None


def test_a_choice_of_nothing_is_left_to_the_walk(catalog: NodeCatalog) -> None:
    prompt = {"1": {"class_type": "Pick", "inputs": {"model": "gone.safetensors"}}}
    assert look(prompt, catalog) is None
    assert not validate(prompt, catalog).ok


def test_names_that_nobody_knows_are_not_remembered(catalog: NodeCatalog) -> None:
    for number in range(100):
        prompt = {"1": {"class_type": f"Unknown{number}", "inputs": {}}}
        assert look(prompt, catalog) is None
    assert not catalog._plans
