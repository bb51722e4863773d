"""Estimates rest on the most alike jobs that there are."""

from typing import Any

import pytest

from comfyserve.domain.estimate import Basis, Sample, Spread, estimate
from comfyserve.domain.usage import Receipt
from comfyserve.workflow import NodeCatalog
from comfyserve.workflow.likeness import likeness

INFO = {
    "KSampler": {
        "input": {
            "required": {
                "seed": ["INT", {}],
                "steps": ["INT", {}],
                "text": ["STRING", {"multiline": True}],
                "sampler_name": [["euler", "heun"], {}],
            }
        },
        "output": ["LATENT"],
    }
}


def receipt(billed_ms: int) -> Receipt:
    return Receipt(0, 0, 10, billed_ms - 10, billed_ms, billed_ms, 1)


def prompt(**inputs: Any) -> dict[str, Any]:
    given = {"seed": 1, "steps": 20, "text": "a cat", "sampler_name": "euler", **inputs}
    return {"3": {"class_type": "KSampler", "inputs": given, "_meta": {"title": "x"}}}


def test_the_most_alike_jobs_win() -> None:
    samples = [
        Sample(receipt(1000), has_same_settings=True, has_same_graph=True),
        Sample(receipt(2000), has_same_graph=True),
        Sample(receipt(9000)),
    ]
    best = estimate(samples, price_per_hour=3600.0, wake_s=4.0)
    assert (best.basis, best.samples, best.billed_ms) == (
        Basis.SAME_SETTINGS,
        1,
        Spread(1000, 1000),
    )
    assert (best.cost, best.wake_s) == (Spread(1.0, 1.0), 4.0)
    graph = estimate(samples[1:], price_per_hour=0.0, wake_s=None)
    assert (graph.basis, graph.execute_ms) == (Basis.SAME_GRAPH, Spread(1990, 1990))
    rough = estimate(samples[2:], price_per_hour=0.0, wake_s=None)
    assert (rough.basis, rough.samples) == (Basis.ANY_JOB, 1)


def test_without_any_job_there_are_no_figures() -> None:
    found = estimate([], price_per_hour=1.0, wake_s=None)
    assert (found.basis, found.samples, found.cost) == (Basis.NOTHING, 0, None)


@pytest.mark.parametrize(
    ("inputs", "is_same_work", "is_same_graph"),
    [
        ({"seed": 2}, True, True),
        ({"text": "a dog"}, True, True),
        ({"steps": 30}, False, True),
        ({"sampler_name": "heun"}, False, False),
        ({"text": ["9", 0]}, False, False),
    ],
)
def test_what_makes_prompts_alike(
    inputs: dict[str, Any], is_same_work: bool, is_same_graph: bool
) -> None:
    catalog = NodeCatalog.from_object_info(INFO)
    one, other = likeness(prompt(), catalog), likeness(prompt(**inputs), catalog)
    assert (one.settings == other.settings) is is_same_work
    assert (one.shape == other.shape) is is_same_graph


def test_a_graph_of_nonsense_has_a_likeness_too() -> None:
    catalog = NodeCatalog.from_object_info({})
    for graph in (
        {"1": None},
        {"1": {"inputs": None}},
        {"1": {"class_type": 3, "inputs": {"a": "\ud800"}}},
    ):
        assert likeness(graph, catalog).shape
