"""A prompt of which only a part would run: told, or refused where all or nothing was asked for."""

import http.client
import json
from collections.abc import Iterator, Mapping
from typing import Any

import pytest
from tests.e2e.server_process import ServerProcess, serving
from tests.gateway.v2_door import JSON, Answer, Door, unused_port

from comfyserve.gateway.prompt import wants_all

GRAPH = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0},
    },
    "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    "3": {"class_type": "SaveImage", "inputs": {"images": ["1", 9], "filename_prefix": "x"}},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that was set to take no prompt in part."""
    home = tmp_path_factory.mktemp("server") / "home"
    with serving(home, unused_port(), COMFYSERVE_STRICT_PROMPTS="true") as server:
        server.deploy("demo")
        yield server


def submitted(server: ServerProcess, **headers: str) -> Answer:
    sent = {**JSON, **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        connection.request("POST", "/prompt", json.dumps({"prompt": GRAPH}), sent)
        answer = connection.getresponse()
        return Answer(answer.status, dict(answer.getheaders()), answer.read())
    finally:
        connection.close()


def refused_nodes(body: Mapping[str, Any]) -> list[str]:
    """The nodes that are blamed, in an answer of ComfyUI's shape that has a word on what to do."""
    assert body["error"]["type"] == "prompt_outputs_failed_validation"
    assert "Node 3" in body["error"]["comfyserve"]["hint"]
    return list(body["node_errors"])


def test_the_setting_refuses_it(server: ServerProcess) -> None:
    answer = submitted(server)
    assert answer.status == 400
    assert refused_nodes(answer.json) == ["3"]
    assert "X-Comfyserve-Warnings" not in answer.headers


def test_a_request_may_ask_for_comfyuis_way(server: ServerProcess) -> None:
    answer = submitted(server, X_Comfyserve_Strict="0")
    assert answer.status == 200
    body = answer.json
    assert list(body["node_errors"]) == ["3"]
    headers = {name.lower(): value for name, value in answer.headers.items()}
    assert headers["x-comfyserve-warnings"] == str(len(body["warnings"]))
    dropped = next(each for each in body["warnings"] if each["code"] == "output_dropped")
    assert (dropped["node_id"], dropped["class_type"]) == ("3", "SaveImage")
    assert dropped["hint"]


def test_the_other_doors_refuse_it_whatever_is_set(server: ServerProcess) -> None:
    answer = Door(server).call("POST", "/jobs", {"workflow": GRAPH}, JSON)
    assert answer.refusal == (422, "invalid_workflow")
    assert refused_nodes(answer.json["error"]["details"]) == ["3"]


@pytest.mark.parametrize(
    ("header", "setting", "wanted"),
    [
        (None, False, False),
        (None, True, True),
        ("1", False, True),
        ("TRUE", False, True),
        ("0", True, False),
        ("false", True, False),
        ("maybe", True, True),
        ("", False, False),
    ],
)
def test_the_header_goes_before_the_setting(
    header: str | None, *, setting: bool, wanted: bool
) -> None:
    assert wants_all(header, default=setting) is wanted
