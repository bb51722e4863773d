"""Which format a body has, and where in it the workflow sits."""

import json
from typing import Any

import pytest
from hypothesis import given
from tests.unit.workflow.test_graph import JSON

from comfyserve.workflow.formats import Format, recognise

API = {"1": {"class_type": "Load", "inputs": {}}}
UI = {"nodes": [], "links": [], "version": 0.4}
UI_1 = {"nodes": [], "links": [], "version": 1, "state": {}}
APP = {**UI, "extra": {"linearMode": True, "linearData": {"inputs": [], "outputs": []}}}


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (API, Format.API),
        ({"prompt": API, "client_id": "x"}, Format.API_PROMPT),
        ({"prompt": json.dumps(API)}, Format.API_PROMPT),
        ({"output": API, "workflow": UI}, Format.API_PROMPT),
        ({"extra_data": {"prompt": API}}, Format.API_EXTRA_DATA),
        ({"extra_data": {"extra_pnginfo": {"prompt": API}}}, Format.API_EXTRA_DATA),
        (UI, Format.UI_0_4),
        ({"prompt": UI}, Format.UI_0_4),
        ({"workflow": UI}, Format.UI_0_4),
        ({"workflow": json.dumps(UI)}, Format.UI_0_4),
        ({"extra_data": {"extra_pnginfo": {"workflow": UI}}}, Format.UI_0_4),
        ({"nodes": [], "links": [[1, 2, 0, 3, 0, "A"]]}, Format.UI_0_4),
        (UI_1, Format.UI_1),
        (APP, Format.APP),
    ],
)
def test_formats(body: Any, expected: Format) -> None:
    found = recognise(body)
    assert found is not None
    assert found.format is expected
    assert found.content in (API, UI, UI_1, APP, body)


def test_the_workflow_beside_a_prompt_is_kept() -> None:
    found = recognise({"prompt": API, "extra_data": {"extra_pnginfo": {"workflow": UI}}})
    assert found is not None
    assert (found.content, found.workflow) == (API, UI)


@pytest.mark.parametrize("prompt", [{}, [], None, "text", {"1": "no node"}])
def test_whatever_is_called_a_prompt_is_judged_as_one(prompt: Any) -> None:
    found = recognise({"prompt": prompt})
    assert found is not None
    assert (found.format, found.content) == (Format.API_PROMPT, prompt)


@pytest.mark.parametrize(
    "body", [None, 1, "x", [], {}, {"a": 1}, [UI], {"nodes": {}}, {"nodes": []}]
)
def test_no_workflow(body: Any) -> None:
    assert recognise(body) is None


@given(JSON)
def test_recognising_never_raises(body: Any) -> None:
    recognise(body)
    recognise({"extra_data": body, "workflow": body})
