"""The engine answers what a real ComfyUI 0.33.0 was seen to answer, request by request."""

import json
import re
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.e2e.engine_process import EngineProcess, Reply, running

pytestmark = [pytest.mark.e2e, pytest.mark.corpora]

Sample = dict[str, Any]

NOT_SERVED = {
    "get_object_info_KSampler": "needs torch",
    "get_node_replacements": "its classes are all there",
    "get_settings": "those of the capture",
    "get_features": "extensions are none of its features",
    "prompt_value_not_in_list": "KSamplerSelect",
    "prompt_value_wrapped_list": "a node of the capture",
    "get_v2_userdata": "nothing but the frontend asks for it",
    "get_api_assets": "the asset system is off: 404 instead of 503",
    "get_api_tags": "the asset system is off: 404 instead of 503",
    "userdata_post_userdata": "user data is read only",
    "userdata_move_userdata": "user data is read only",
    "userdata_del_userdata": "user data is read only",
    "userdata_get_userdata": "was written by the capture",
    "userdata_list": "was written by the capture",
    "users_post": "there is one user",
    "prompt_no_content_type": "the body was not recorded",
}
"""What the engine does not do, and why."""


@pytest.fixture
def samples(corpora: Path) -> list[Sample]:
    text = (corpora / "protocol-samples" / "0.33.0" / "_all_http.json").read_text("utf-8")
    loaded: list[Sample] = json.loads(text)
    return loaded


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    with running(tmp_path) as engine:
        yield engine


def select(samples: list[Sample], *prefixes: str) -> list[Sample]:
    return [
        sample
        for sample in samples
        if sample["name"].startswith(prefixes) and sample["name"] not in NOT_SERVED
    ]


def test_reading(samples: list[Sample], engine: EngineProcess) -> None:
    chosen = [s for s in select(samples, "get_") if "userdata" not in s["name"]]
    assert len(chosen) > 35
    for sample in chosen:
        reply = replay(engine, sample)
        expected = sample["response"]
        assert reply.status == expected["status"], sample["name"]
        if "json" in expected and reply.status == 200:
            assert shape(reply.json) == shape(expected["json"]), sample["name"]
        elif "json" in expected:
            assert reply.json == expected["json"], sample["name"]


def test_prompts(samples: list[Sample], engine: EngineProcess) -> None:
    chosen = [s for s in select(samples, "prompt_") if "while_busy" not in s["name"]]
    assert len(chosen) > 35
    for sample in chosen:
        reply, expected = replay(engine, sample), sample["response"]
        assert reply.status == expected["status"], (sample["name"], reply.body)
        assert content_type(reply) == content_type_of(expected), sample["name"]
        if "json" in expected:
            assert verdict(reply.json) == verdict(expected["json"]), sample["name"]
        else:
            assert reply.body.decode() == expected.get("text", ""), sample["name"]


def test_files(samples: list[Sample], engine: EngineProcess) -> None:
    for sample in select(samples, "upload_", "view_"):
        reply, expected = replay(engine, sample), sample["response"]
        assert reply.status == expected["status"], (sample["name"], reply.body)
        assert content_type(reply) == content_type_of(expected), sample["name"]
        for header in ("Content-Disposition", "Accept-Ranges", "X-Content-Type-Options"):
            assert reply.headers.get(header) == expected["headers"].get(header), sample["name"]
        if "json" in expected:
            assert reply.json == expected["json"], sample["name"]
    mask = engine.directory / "input" / "clipspace" / "mask_cap_82ab8a.png"
    with Image.open(mask) as image:
        assert image.getpixel((0, 0)) == (77, 0, 0, 128)
    assert not (engine.directory / "input" / "mask3_cap_82ab8a.png").exists()


def test_controls(samples: list[Sample], engine: EngineProcess) -> None:
    for sample in select(
        samples,
        "queue_",
        "interrupt_",
        "history_bad",
        "history_delete",
        "history_clear",
        "free",
        "settings_",
    ):
        if sample["name"] in ("queue_running_and_pending", "queue_after_delete"):
            continue
        reply, expected = replay(engine, sample), sample["response"]
        assert reply.status == expected["status"], (sample["name"], reply.body)
        if "json" in expected:
            assert reply.json == expected["json"], sample["name"]
        else:
            assert reply.body.decode() == expected.get("text", ""), sample["name"]


def replay(engine: EngineProcess, sample: Sample) -> Reply:
    request = sample["request"]
    headers = {
        name: value.replace("18205", str(engine.port))
        for name, value in request.get("headers", {}).items()
    }
    path = request["path"].replace(" ", "%20")
    body: bytes | None
    if "data" in request and isinstance(request["data"], dict):
        body, headers["Content-Type"] = multipart(request["data"])
    elif "data" in request:
        body = request["data"].encode()
    elif "json" in request:
        body = json.dumps(request["json"]).encode()
    else:
        body = None if request["method"] in ("GET", "HEAD") else b""
    return engine.request(request["method"], path, body, **headers)


def multipart(fields: dict[str, Any]) -> tuple[bytes, str]:
    """Write a form as the capture did; a file of another size is another picture."""
    boundary = "sample"
    parts = b""
    for name, value in fields.items():
        if value is None:
            continue
        head = f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"'
        found = re.fullmatch(r"<file (.*) (\d+) bytes>", value)
        if found is None:
            parts += f"{head}\r\n\r\n{value}\r\n".encode()
            continue
        filename = found[1].replace("/", "%2F")
        parts += f'{head}; filename="{filename}"\r\nContent-Type: image/png\r\n\r\n'.encode()
        parts += file_bytes(found[1], int(found[2])) + b"\r\n"
    return parts + f"--{boundary}--\r\n".encode(), f"multipart/form-data; boundary={boundary}"


def file_bytes(name: str, size: int) -> bytes:
    if name.endswith(".txt"):
        return b"hello world"
    buffer = BytesIO()
    if name.startswith(("rgba_", "mask")):
        Image.new("RGBA", (8, 8), (size, 20, 30, 128)).save(buffer, format="PNG")
    else:
        Image.new("RGB", (8, 8), (size, 0, 0)).save(buffer, format="PNG")
    return buffer.getvalue()


def content_type(reply: Reply) -> str | None:
    return reply.headers.get("Content-Type")


def content_type_of(expected: Sample) -> str | None:
    kind: str | None = expected["headers"].get("Content-Type")
    return kind


def shape(value: Any) -> Any:
    """What kinds of things a value is made of; `None` stands for a thing that is not there."""
    match value:
        case dict() if len(value) > 12:
            return {}
        case dict():
            return {key: shape(each) for key, each in value.items() if each is not None}
        case list():
            return []
        case _:
            return type(value).__name__


def verdict(body: Sample) -> Any:
    """What is comparable in the answer to a prompt: ids and tracebacks are not."""
    if "prompt_id" in body:
        return sorted(body["node_errors"]), type(body["number"]) is float
    nodes = {
        node_id: [
            (error["type"], error["message"], error["details"], sorted(error["extra_info"]))
            for error in sorted(node["errors"], key=str)
        ]
        for node_id, node in body["node_errors"].items()
    }
    return body["error"], nodes
