"""`POST /api/v1/deployments/NAME/workflows:check`: one answer, nothing woken, never a 5xx."""

import http.client
import io
import json
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import as_file, files
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from tests.e2e.server_process import ServerProcess, serving
from tests.gateway.v2_door import unused_port

from comfyserve.cli.client import Client
from comfyserve.gateway.workflow_models import WorkflowCheckModel
from comfyserve.sdk.transport import Transport

EXAMPLES = files("comfyserve") / "examples"
UI = (EXAMPLES / "postcard.json").read_bytes()
API = (EXAMPLES / "postcard_api.json").read_bytes()
MAX_BODY = 2_000_000


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body, parse_constant=_refuse)


def _refuse(constant: str) -> Any:
    raise AssertionError(f"{constant} is not JSON")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server whose deployment `demo` sleeps, with the photograph of the postcard uploaded."""
    home = tmp_path_factory.mktemp("server") / "home"
    with serving(home, unused_port(), COMFYSERVE_MAX_BODY_BYTES=str(MAX_BODY)) as server:
        server.deploy("demo")
        with as_file(EXAMPLES / "postcard.jpg") as photograph:
            Client(Transport(server.url)).upload("demo", photograph)
        yield server


def ask(server: ServerProcess, body: bytes, *, name: str = "demo", query: str = "") -> Answer:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=30)
    try:
        path = f"/api/v1/deployments/{name}/workflows:check{query}"
        connection.request("POST", path, body)
        answer = connection.getresponse()
        return Answer(answer.status, answer.read())
    finally:
        connection.close()


def a_png(**texts: str) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    data = io.BytesIO()
    Image.new("RGB", (2, 2)).save(data, "PNG", pnginfo=info)
    return data.getvalue()


def a_bomb() -> bytes:
    """A PNG whose compressed text is much larger than it looks."""
    text = b"prompt\0\0" + zlib.compress(b"[" * 200_000_000, 9)
    chunk = b"zTXt" + text
    length, check = len(text).to_bytes(4, "big"), zlib.crc32(chunk).to_bytes(4, "big")
    return b"\x89PNG\r\n\x1a\n" + length + chunk + check


def test_everything_is_said_in_one_answer_and_nothing_wakes(server: ServerProcess) -> None:
    answer = ask(server, UI)
    assert answer.status == 200
    found = WorkflowCheckModel.model_validate(answer.json)
    assert (found.format, found.flavour, found.problems) == ("ui_0.4", "1.49", [])
    assert found.verdict is not None
    assert (found.verdict.ok, found.verdict.outputs) == (True, ["16", "17"])
    assert found.prompt == json.loads(API)
    assert found.requirements.complete
    assert [(file.name, file.present) for file in found.requirements.files] == [
        ("postcard.jpg", True)
    ]
    assert "the_photograph" in {each.name for each in found.interface.inputs}
    assert server.get("/api/v1/deployments/demo").json["status"] == "asleep"


def test_both_formats_and_a_picture_are_answered_the_same(server: ServerProcess) -> None:
    picture = a_png(prompt=API.decode(), workflow=UI.decode())
    answers = [ask(server, body).json for body in (UI, API, picture)]
    assert [answer.pop("format") for answer in answers] == ["ui_0.4", "api", "api_prompt"]
    assert [answer.pop("container") for answer in answers] == [None, None, "png"]
    assert answers[0] == answers[1] == answers[2]


def test_what_is_missing_is_told_with_what_gets_it(server: ServerProcess) -> None:
    other = UI.replace(b"postcard.jpg", b"holiday.jpg").replace(b'"ImageQuantize"', b'"Fancy"')
    found = WorkflowCheckModel.model_validate(ask(server, other).json)
    assert found.verdict is not None
    assert not found.verdict.ok
    assert "missing_node_type" in {problem.code for problem in found.problems}
    assert not found.requirements.complete
    assert [pack.classes for pack in found.requirements.packs] == [["Fancy"]]
    assert any("holiday.jpg" in (fix.command or "") for fix in found.requirements.fixes)


def test_the_older_frontend_can_be_followed(server: ServerProcess) -> None:
    assert ask(server, UI, query="?flavour=1.27").json["flavour"] == "1.27"
    assert ask(server, UI, query="?flavour=2").status == 400
    assert ask(server, UI, query="?flavor=1.27").status == 400


def test_an_unknown_deployment_and_a_large_body_are_refused(server: ServerProcess) -> None:
    assert ask(server, UI, name="nobody").status == 404
    answer = ask(server, b" " * (MAX_BODY + 1))
    assert (answer.status, answer.json["error"]["code"]) == (413, "payload_too_large")


def test_many_bad_nodes_are_answered_in_part_and_in_time(server: ServerProcess) -> None:
    bad = {"class_type": "SaveImage", "inputs": {}}
    body = json.dumps({str(number): bad for number in range(10_000)}).encode()
    found = WorkflowCheckModel.model_validate(ask(server, body).json)
    assert len(found.problems) == 2_000
    assert found.problems_left_out > 2_000


_NODE = st.fixed_dictionaries(
    {},
    optional={
        "class_type": st.sampled_from(["SaveImage", "LoadImage", "EmptyImage", "No", "", None, 1]),
        "inputs": st.dictionaries(
            st.sampled_from(["images", "image", "width", "filename_prefix", "\udc80"]),
            st.one_of(
                st.none(),
                st.booleans(),
                st.integers(),
                st.floats(),
                st.text(st.characters(codec=None)),
                st.lists(st.sampled_from(["1", "2", 0, -1, 1e400, None]), max_size=3),
            ),
        ),
        "id": st.one_of(st.integers(-3, 3), st.text(max_size=2)),
        "type": st.sampled_from(["SaveImage", "PrimitiveNode", "Reroute", "sub", None]),
        "mode": st.integers(-1, 5),
        "inputs_": st.just([]),
        "widgets_values": st.one_of(st.lists(st.integers()), st.dictionaries(st.text(), st.none())),
        "_meta": st.one_of(st.none(), st.just({"title": "\udfff"})),
    },
)
_WORKFLOW = st.one_of(
    st.dictionaries(st.sampled_from(["1", "2", "prompt", "workflow", "extra_data"]), _NODE),
    st.fixed_dictionaries(
        {
            "nodes": st.lists(st.one_of(_NODE, st.none()), max_size=4),
            "links": st.lists(st.lists(st.integers(-1, 4), max_size=6), max_size=4),
            "version": st.sampled_from([0.4, 1, None]),
        },
        optional={
            "definitions": st.fixed_dictionaries({"subgraphs": st.lists(_NODE, max_size=2)}),
            "extra": st.sampled_from([None, {"linearMode": True}, {"groupNodes": {"a": 1}}]),
        },
    ),
)
_BODY = st.one_of(st.binary(max_size=200), _WORKFLOW.map(lambda found: json.dumps(found).encode()))


@settings(max_examples=150)
@given(body=_BODY)
@example(body=b"")
@example(body=b"null")
@example(body=b'{"1": {"class_type": "SaveImage", "inputs": {"a": NaN, "b": "\\ud800"}}}')
@example(body=b'{"1": {"class_type": "SaveImage", "inputs": {"a": 1' + b"0" * 4000 + b"}}}")
@example(body=b'{"1": {"class_type": "SaveImage", "inputs": {"a": 1' + b"0" * 5000 + b"}}}")
@example(body=b"[" * 100_000)
@example(body=b'{"prompt":' * 900 + b"1" + b"}" * 900)
@example(
    body=b'{"1": {"class_type": "SaveImage", "inputs": {"a":' + b"[" * 900 + b"]" * 900 + b"}}}"
)
@example(body=b'{"nodes": [], "links": [], "version": 0.4}')
@example(body=b"\x89PNG\r\n\x1a\n")
@example(body=a_png(prompt="{", workflow="[]"))
@example(body=a_bomb())
@example(
    body=json.dumps({"1": {"class_type": "SaveImage", "_meta": {"title": "x" * 10**6}}}).encode()
)
def test_nothing_that_is_sent_breaks_it(server: ServerProcess, body: bytes) -> None:
    answer = ask(server, body)
    assert answer.status == 200, answer.body
    found = WorkflowCheckModel.model_validate(answer.json)
    assert found.problems or (found.verdict is not None and found.verdict.ok)
