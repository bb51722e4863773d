"""The edges of Comfy API v2: rude clients, races, odd addresses, limits."""

import http.client
import os
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from tests.e2e.server_process import picture, serving, sleeping, wait_until
from tests.gateway.v2_door import Door, form, unused_port, v2_door

from comfyserve.gateway.door import Streams
from comfyserve.gateway.errors import Refusal


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    home = tmp_path_factory.mktemp("v2") / "home"
    with v2_door(home, unused_port(), scaling={"idle_timeout_s": 30}) as door:
        yield door


def test_of_many_requests_with_one_key_one_is_accepted(door: Door) -> None:
    def submit(number: int) -> int:
        headers = {"Idempotency-Key": "race"}
        return door.call("POST", "/jobs", {"workflow": picture(number)}, headers).status

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(submit, range(16)))
    assert sorted(answers) == [201] + [422] * 15


def test_of_many_uploads_of_one_file_one_is_new(door: Door) -> None:
    data = os.urandom(5000)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: door.upload(data, "same.bin"), range(16)))
    assert sorted(answer.status for answer in answers) == [200] * 15 + [201]
    assert len({answer.json["id"] for answer in answers}) == 1


def test_a_client_that_leaves_in_the_middle_leaves_nothing(door: Door) -> None:
    fields = {"content_type": "image/png", "file_path": "x.png"}
    body, content_type = form(fields, os.urandom(3_000_000), "x.png")
    for path, sent in (("/assets", body[: len(body) // 2]), ("/jobs", b'{"workflow"')):
        head = (
            f"POST /api/v2{path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {content_type}\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        with socket.create_connection(("127.0.0.1", door.server.port)) as connection:
            connection.sendall(head.encode() + sent)
    incoming = door.server.home / "blobs" / "incoming"
    wait_until(lambda: os.listdir(incoming) == [], 10, "nothing is left")
    assert door.call("GET", "/jobs").status == 200
    assert "Traceback" not in door.server.log


@pytest.mark.parametrize("host", ["[", "a b", "x" * 300, "[::1", "host:port:more", "\u00e9"])
def test_a_host_header_that_makes_no_sense_is_no_matter(door: Door, host: str) -> None:
    new = {"name": "t", "scopes": ["run"]}
    token = door.server.post("/api/v1/tokens", new).json["secret"]
    asset = door.upload(b"bytes", "x.txt").json
    job = door.submit(picture(1))
    known = Door(door.server, door.base, token)
    for path in (f"/assets/{asset['id']}", f"/jobs/{job['id']}"):
        assert known.call("GET", path, headers={"Host": host}).status in {200, 400}


def test_behind_a_proxy_with_tls_urls_are_https(door: Door) -> None:
    token = door.server.post("/api/v1/tokens", {"name": "t", "scopes": ["run"]}).json["secret"]
    known = Door(door.server, door.base, token)
    asset = door.upload(b"bytes", "x.txt").json
    headers = {"Host": "api.example.org", "X-Forwarded-Proto": "https"}
    shown = known.call("GET", f"/assets/{asset['id']}", headers=headers).json
    assert shown["url"].startswith("https://api.example.org/api/v2/assets/")


def test_a_deployment_has_the_door_on_its_own_port_too(door: Door) -> None:
    port = unused_port()
    door.server.deploy("ported", port=port)
    own = Door(replace(door.server, port=port))
    job = own.submit(picture(3))
    assert job["urls"]["self"] == f"/api/v2/jobs/{job['id']}"
    ended = own.ended(job["id"])
    assert own.fetch(ended["outputs"][0]["url"]).body.startswith(b"\x89PNG")
    assert Door(door.server, "/d/ported/api/v2").job(job["id"])["status"] == "succeeded"
    assert door.call("GET", f"/jobs/{job['id']}").refusal == (404, "not_found")


def test_comfyuis_own_api_v2_is_still_there(door: Door) -> None:
    assert door.server.get("/api/v2/userdata?path=").status != 405
    assert b"not_found" not in door.server.get("/api/v2/userdata?path=").body


def test_the_server_stops_although_somebody_listens(home: Path, free_port: int) -> None:
    with serving(home, free_port, COMFYSERVE_STOP_TIMEOUT_S="1") as server:
        server.deploy(timeouts={"stop_s": 1})
        door = Door(server)
        job = door.submit(sleeping(60))
        door.running(job["id"])
        head = door.call("HEAD", f"/jobs/{job['id']}/events")
        assert head.headers["content-type"].startswith("text/event-stream")
        connection = http.client.HTTPConnection("127.0.0.1", door.server.port, timeout=30)
        connection.request("GET", f"/api/v2/jobs/{job['id']}/events")
        answer = connection.getresponse()
        assert answer.readline() == b"event: status\n"
        assert door.server.stop() == 0
        connection.close()
        door.server.start()
        assert door.job(job["id"])["status"] in {"queued", "running"}
        door.call("POST", f"/jobs/{job['id']}/cancel")
        assert door.ended(job["id"])["status"] == "canceled"


def test_streams_have_a_limit() -> None:
    streams = Streams(limit=2)
    with streams.counted():
        streams.require_room()
        with streams.counted(), pytest.raises(Refusal) as refused:
            streams.require_room()
        assert (refused.value.status, refused.value.code) == (429, "too_many_streams")
        streams.require_room()
    assert streams.open == 0
