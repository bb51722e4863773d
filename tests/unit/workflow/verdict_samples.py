"""Nodes and shorthands for the tests of the validator."""

from typing import Any

from tests.unit.workflow.catalogs import catalog

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.problems import Problem
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
