"""Calls of a typed endpoint: checked before anything wakes, answered the way the caller wants."""

import base64
import json
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.server_process import wait_until
from tests.gateway.typed_door import (
    Door,
    colour_of,
    form,
    inverting,
    painting,
    png,
    read_events,
    typed_door,
)
from tests.gateway.v2_door import unused_port

PAINT = {
    "comfyserve_interface": 1,
    "inputs": [
        {
            "name": "color",
            "type": "integer",
            "min": 0,
            "max": 0xFFFFFF,
            "default": 0x102030,
            "sets": [{"node": "1", "input": "color"}],
        },
        {
            "name": "width",
            "type": "integer",
            "min": 1,
            "max": 64,
            "default": 8,
            "sets": [{"node": "1", "input": "width"}],
        },
        {"name": "prefix", "type": "text", "sets": [{"node": "2", "input": "filename_prefix"}]},
        {
            "name": "copies",
            "type": "choice",
            "choices": [1, 2],
            "sets": [{"node": "1", "input": "batch_size"}],
        },
        {
            "name": "seed",
            "type": "integer",
            "role": "seed",
            "min": 1,
            "max": 64,
            "sets": [{"node": "1", "input": "height"}],
        },
    ],
    "outputs": [{"name": "picture", "type": "image", "node": "2"}],
}


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    home = tmp_path_factory.mktemp("run") / "home"
    with typed_door(
        home,
        unused_port(),
        COMFYSERVE_UPLOAD_TIMEOUT_S="1.5",
        COMFYSERVE_MAX_BODY_BYTES="200000",
        COMFYSERVE_ALLOW_PRIVATE_URLS="127.0.0.0/30",
    ) as door:
        door.publish("paint", painting(), interface=PAINT)
        door.publish("invert", inverting())
        yield door


def test_bad_inputs_are_all_told_at_once_and_wake_nothing(door: Door) -> None:
    assert door.server.replicas() == []
    answer = door.call(
        "POST",
        "/run/paint",
        {"color": -1, "width": "wide", "prefx": "x", "copies": 3, "prefix": 7},
    )
    assert answer.refusal == (422, "invalid_inputs")
    assert answer.problems == [
        ("prefx", "no_such_input"),
        ("color", "value_refused"),
        ("width", "value_refused"),
        ("prefix", "value_refused"),
        ("copies", "value_refused"),
    ]
    first = answer.error["details"]["problems"][0]
    assert first["nearest"] == ["prefix"]
    assert "Did you mean 'prefix'?" in answer.error["message"]
    assert door.call("POST", "/run/invert", {}).problems == [("image", "value_missing")]
    assert door.server.replicas() == []
    assert door.call("GET", "/jobs").json["jobs"] == []


def test_a_call_waits_for_its_end_and_tells_where_the_time_went(door: Door) -> None:
    answer = door.call("POST", "/run/paint?label=env=test", {"color": 0x0A0B0C}, prefer(30))
    assert answer.status == 200
    job = answer.json
    assert (job["state"], job["stage"], job["endpoint"]) == ("succeeded", "done", "paint")
    assert (job["version"], job["labels"], job["error"]) == (1, {"env": "test"}, None)
    assert job["inputs"] == {"color": 0x0A0B0C}
    (output,) = job["outputs"]
    assert (output["name"], output["kind"], output["index"]) == ("picture", "image", 0)
    assert output["node"] == {"id": "2", "title": "Result", "class_type": "SaveImage"}
    assert colour_of(door.fetch(output["url"]).body) == (10, 11, 12)
    receipt = job["receipt"]
    assert receipt["total_ms"] == sum(
        receipt[f"{part}_ms"] for part in ("queued", "wake", "load", "execute")
    )
    assert answer.headers["location"] == job["urls"]["self"] == f"/jobs/{job['id']}"
    assert f"total;dur={receipt['total_ms']}" in answer.headers["server-timing"]
    assert f"billed_ms={receipt['billed_ms']}," in answer.headers["x-comfyserve-receipt"]
    assert answer.headers["x-comfyserve-job"] == job["id"]


def prefer(seconds: float, **more: str) -> dict[str, str]:
    return {"Prefer": f"wait={seconds}", **more}


def test_who_does_not_want_to_wait_gets_the_job(door: Door) -> None:
    for header in ("wait=0", "respond-async"):
        answer = door.call("POST", "/run/paint", {}, {"Prefer": header})
        assert answer.status == 202
        assert answer.json["state"] in {"queued", "running"}
        assert door.ended(answer.json["id"])["state"] == "succeeded"


def test_who_wants_a_picture_gets_its_bytes(door: Door) -> None:
    answer = door.call("POST", "/run/paint", {"color": 0xFF0000}, {"Accept": "image/*"})
    assert (answer.status, answer.headers["content-type"]) == (200, "image/png")
    assert colour_of(answer.body) == (255, 0, 0)
    assert "billed_ms=" in answer.headers["x-comfyserve-receipt"]
    browser = {"Accept": "image/avif,image/webp,image/png;q=0.9,*/*;q=0.8"}
    assert door.call("POST", "/run/paint", {}, browser).headers["content-type"] == "image/png"
    wrong = door.call("POST", "/run/paint", {}, {"Accept": "video/*"})
    assert wrong.refusal == (406, "no_such_output")
    late = door.call("POST", "/run/paint", {}, prefer(0, Accept="image/*"))
    assert late.refusal == (504, "not_finished")
    assert door.ended(late.error["details"]["job"])["state"] == "succeeded"


def test_a_call_can_tell_its_events_to_the_end(door: Door) -> None:
    answer = door.call("POST", "/run/paint", {"color": 3}, {"Accept": "text/event-stream"})
    events = list(read_events(answer.body))
    assert events[0].name == "job"
    assert answer.headers["location"] == events[0].data["urls"]["self"]
    assert [event.name for event in events if event.name in {"output", "end"}] == ["output", "end"]
    assert events[-1].data["state"] == "succeeded"


def test_a_key_replays_the_first_job_and_only_the_same_request(door: Door) -> None:
    first = door.run("paint", {"color": 5}, Idempotency_Key="k1")
    again = door.call("POST", "/run/paint", {"color": 5}, {"Idempotency-Key": "k1"})
    assert again.json["id"] == first["id"]
    other = door.call("POST", "/run/paint", {"color": 6}, {"Idempotency-Key": "k1"})
    assert other.refusal == (409, "idempotency_conflict")
    assert "'k1'" in other.error["message"]
    body, headers = form({}, {"image": ("a.png", png((1, 1, 1)))})
    sent = {**headers, "Idempotency-Key": "k2"}
    uploaded = door.call("POST", "/run/invert", body, sent).json
    body, headers = form({}, {"image": ("a.png", png((1, 1, 1)))})
    sent = {**headers, "Idempotency-Key": "k2"}
    assert door.call("POST", "/run/invert", body, sent).json["id"] == uploaded["id"]
    bad = door.call("POST", "/run/paint", {}, {"Idempotency-Key": "k" * 300})
    assert bad.refusal == (422, "invalid_request")


@pytest.fixture(scope="module")
def site() -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = b"<html>" if self.path == "/page" else png((200, 0, 0))
            status = 404 if self.path == "/absent" else 200
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
        thread.join()


def data_url(data: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(data).decode()}"


def test_a_file_comes_as_upload_data_url_asset_url_or_name(door: Door, site: str) -> None:
    body, headers = form({}, {"image": ("ünï code.png", png((0, 0, 0)))})
    uploaded = door.call("POST", "/run/invert", body, {**headers, "Accept": "image/*"})
    assert colour_of(uploaded.body) == (255, 255, 255)
    job = door.run("invert", {"image": data_url(png((255, 255, 0)))}, Prefer="wait=30")
    (output,) = job["outputs"]
    assert colour_of(door.fetch(output["url"]).body) == (0, 0, 255)
    again = door.run("invert", {"image": output["asset_id"]}, Prefer="wait=30")
    assert again["inputs"] == {"image": output["asset_id"]}
    assert colour_of(door.fetch(again["outputs"][0]["url"]).body) == (255, 255, 0)
    fetched = door.run("invert", {"image": f"{site}/red"}, Prefer="wait=30")
    assert colour_of(door.fetch(fetched["outputs"][0]["url"]).body) == (54, 255, 255)
    upload, headers = form({"type": "input"}, {"image": ("mine.png", png((1, 2, 3)))})
    assert door.call("POST", "/upload/image", upload, headers).status == 200
    named = door.run("invert", {"image": "mine.png"}, Prefer="wait=30")
    assert (named["state"], named["inputs"]) == ("succeeded", {"image": "mine.png"})


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("data:image/png;base64,%%%", "not valid base64"),
        ("data:image/png;base64,", "it is empty"),
        ("data:image/png", "no data URL"),
        (data_url(b"<html>no picture</html>"), "not an image"),
        ("0f0f0f0f-0000-4000-8000-000000000000", "no asset"),
        ("http://10.0.0.1/x.png", "not a public address"),
        ("http://127.0.0.9/x.png", "not a public address"),
        ("no-such-file.png", "no file 'no-such-file.png'"),
        ("", "it is str"),
        (7, "it is int"),
        ({"a": 1}, "it is dict"),
    ],
)
def test_a_file_that_cannot_be_used_says_why(door: Door, value: Any, why: str) -> None:
    answer = door.call("POST", "/run/invert", {"image": value})
    assert answer.refusal == (422, "invalid_inputs")
    assert answer.problems == [("image", "value_refused")]
    assert why in answer.error["message"]


def test_a_url_that_gives_no_picture_says_why(door: Door, site: str) -> None:
    for path, why in (("/absent", "404"), ("/page", "not an image")):
        answer = door.call("POST", "/run/invert", {"image": site + path})
        assert answer.refusal == (422, "invalid_inputs")
        assert why in answer.error["message"]


def test_forms_hold_texts_that_are_read_by_type(door: Door) -> None:
    body, headers = form({"color": "255", "copies": "2", "width": "16"})
    job = door.call("POST", "/run/paint", body, {**headers, **prefer(30)}).json
    assert job["inputs"] == {"color": 255, "copies": 2, "width": 16}
    assert len(job["outputs"]) == 2
    body, headers = form({}, {"color": ("a.png", png((0, 0, 0)))})
    assert door.call("POST", "/run/paint", body, headers).problems == [("color", "value_refused")]


def test_a_seed_can_be_left_to_chance(door: Door) -> None:
    job = door.run("paint", {"seed": "random"}, Prefer="wait=30")
    assert 1 <= job["inputs"]["seed"] <= 64
    refused = door.call("POST", "/run/paint", {"width": "random"})
    assert refused.problems == [("width", "value_refused")]


@pytest.mark.parametrize(
    ("path", "body", "headers", "refusal"),
    [
        ("/run/nope", {}, {}, (404, "endpoint_not_found")),
        ("/run/paint", b"{", {}, (400, "invalid_json")),
        ("/run/paint", b"[1]", {}, (422, "invalid_request")),
        ("/run/paint", b"\xff", {}, (400, "invalid_json")),
        ("/run/paint", b"x", {"Content-Type": "text/plain"}, (415, "unsupported_media_type")),
        ("/run/paint?steps=3", {}, {}, (422, "invalid_request")),
        ("/run/paint?label=x", {}, {}, (422, "invalid_label")),
        ("/run/paint?webhook=http://10.0.0.1/hook", {}, {}, (400, "url_refused")),
        ("/run/paint?label=a%20b=c", {}, {}, (422, "metadata_invalid")),
        ("/run/paint?reuse=maybe", {}, {}, (422, "invalid_request")),
        ("/run/paint", b" " * 200_001, {}, (413, "payload_too_large")),
        ("/run/paint", b"--x--", {"Content-Type": "multipart/form-data"}, (400, "invalid_form")),
    ],
)
def test_bad_requests_say_what_is_wrong(
    door: Door, path: str, body: Any, headers: dict[str, str], refusal: tuple[int, str]
) -> None:
    answer = door.call("POST", path, body, headers)
    assert answer.refusal == refusal


def test_forms_that_are_cut_off_or_say_things_twice_are_refused(door: Door) -> None:
    body, headers = form({"color": "1"}, cut=6)
    assert door.call("POST", "/run/paint", body, headers).refusal[1] == "invalid_form"
    boundary = "x"
    part = b'--x\r\nContent-Disposition: form-data; name="color"\r\n\r\n1\r\n'
    headers = {"Content-Type": f"multipart/form-data; boundary={boundary}"}
    twice = door.call("POST", "/run/paint", part + part + b"--x--\r\n", headers)
    assert twice.refusal[1] == "invalid_form"
    assert "comes twice" in twice.error["message"]


def test_a_body_that_takes_too_long_is_refused_and_one_that_breaks_off_leaves_nothing(
    door: Door,
) -> None:
    head = b"POST /run/invert HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
    with socket.create_connection(("127.0.0.1", door.server.port), timeout=30) as slow:
        slow.sendall(head + b"Content-Length: 1000\r\n\r\n{")
        assert b" 408 " in slow.recv(65536).split(b"\r\n")[0]
    body, headers = form({}, {"image": ("a.png", png((9, 9, 9), size=200))})
    sent = f"Content-Type: {headers['Content-Type']}\r\nContent-Length: {len(body)}\r\n\r\n"
    with socket.create_connection(("127.0.0.1", door.server.port), timeout=30) as leaving:
        leaving.sendall(head.rpartition(b"Content-Type")[0] + sent.encode() + body[:200])
    incoming = door.server.home / "blobs" / "incoming"
    wait_until(lambda: not list(incoming.iterdir()), 20, "the half file is gone")
    assert door.run("paint", {}, Prefer="wait=30")["state"] == "succeeded"


def test_the_door_is_there_at_the_deployments_own_addresses(door: Door) -> None:
    base = Door(door.server, "/d/demo")
    job = base.run("paint", {}, Prefer="wait=30")
    assert job["urls"]["self"] == f"/d/demo/jobs/{job['id']}"
    assert base.job(job["id"])["id"] == job["id"]
    described = base.call("GET", "/run/paint").json
    assert [each["name"] for each in described["inputs"]] == [
        "color", "width", "prefix", "copies", "seed",
    ]  # fmt: skip
    assert "sets" not in json.dumps(described)
    assert described["urls"]["run"] == "/d/demo/run/paint"
    names = [each["name"] for each in door.call("GET", "/run").json["endpoints"]]
    assert names == ["invert", "paint"]
    assert door.call("DELETE", "/run/paint").refusal == (405, "method_not_allowed")
    assert door.call("GET", "/run/paint/nothing").refusal == (404, "not_found")


def test_a_job_of_another_deployment_is_unknown(door: Door) -> None:
    job = door.run("paint", {}, Prefer="wait=30")
    door.server.deploy("other")
    other = Door(door.server, "/d/other")
    for method, part in (
        ("GET", ""),
        ("GET", "/events"),
        ("POST", "/cancel"),
        ("GET", "/outputs/0"),
    ):
        answer = other.call(method, f"/jobs/{job['id']}{part}")
        assert answer.refusal == (404, "job_not_found")
    wrong = other.call("POST", "/run/invert", {"image": job["outputs"][0]["asset_id"]})
    assert wrong.refusal == (404, "endpoint_not_found")
    assert door.server.request("DELETE", "/api/v1/deployments/other").status == 204


def test_a_stopped_deployment_refuses_and_a_started_one_takes_calls_again(door: Door) -> None:
    door.server.post("/api/v1/deployments/demo/stop")
    assert door.call("POST", "/run/paint", {}).refusal == (503, "deployment_stopped")
    assert door.call("GET", "/run/paint").status == 200
    door.server.post("/api/v1/deployments/demo/start")
    assert door.run("paint", {}, Prefer="wait=30")["state"] == "succeeded"


def test_tokens_need_their_scope_and_strangers_get_the_envelope(door: Door, home: Path) -> None:
    def token(scope: str) -> str:
        made = door.server.post("/api/v1/tokens", {"name": scope, "scopes": [scope]})
        secret: str = made.json["secret"]
        return secret

    reader = Door(door.server, token=token("read"))
    assert reader.call("GET", "/run/paint").status == 200
    assert reader.call("POST", "/run/paint", {}).refusal == (403, "missing_scope")
    stranger = Door(door.server, token="cs_wrong")
    assert stranger.call("POST", "/run/paint", {}).refusal == (401, "unauthorized")
