"""Outputs of applications: kept by their own replicas, read by whoever has a link that is good."""

import asyncio
import io
import json
import sqlite3
import threading
import urllib.error
import urllib.parse
import urllib.request
import zipfile
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import Reply, ServerProcess, serving

from comfyserve import Output
from comfyserve.domain.inside import deployment_of, inside_token
from comfyserve.sdk.request_context import CURRENT, Served
from comfyserve.store.sealing import derive_key

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(200))


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """One server with two deployments."""
    port, _ = two_free_ports()
    with serving(tmp_path_factory.mktemp("outputs") / "home", port) as server:
        server.deploy("demo", engine={"kind": "embedded"})
        server.deploy("other", engine={"kind": "embedded"})
        yield server


def token_of(server: ServerProcess, name: str) -> str:
    key = derive_key((server.home / "secret.key").read_bytes(), "signed URLs")
    return inside_token(key, server.get(f"/api/v1/deployments/{name}").json["id"])


def keep(
    server: ServerProcess, name: str = "picture.png", *, of: str = "demo", **query: str
) -> Reply:
    """Upload as a replica does."""
    text = urllib.parse.urlencode({"name": name, **query})
    return raw(server, "POST", f"/api/v1/outputs?{text}", PNG, token_of(server, of))


def raw(server: ServerProcess, method: str, path: str, body: bytes, token: str) -> Reply:
    kind = "application/json" if body[:1] == b"{" else "application/octet-stream"
    headers = {"Authorization": f"Bearer {token}", "Content-Type": kind}
    request = urllib.request.Request(server.url + path, body, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=60) as answer:
            return Reply(answer.status, answer.read(), dict(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Reply(error.code, error.read(), dict(error.headers))


def link(server: ServerProcess, output_id: str, **wish: Any) -> Reply:
    return server.post(f"/api/v1/outputs/{output_id}/url", wish)


def path_of(url: str) -> str:
    parts = urllib.parse.urlsplit(url)
    return f"{parts.path}?{parts.query}"


def code_of(reply: Reply) -> tuple[int, str]:
    return reply.status, json.loads(reply.body)["error"]["code"]


def test_an_output_is_kept_with_its_request_and_shown_by_its_link(server: ServerProcess) -> None:
    kept = keep(server, request_id="r-1")
    assert kept.status == 201
    assert kept.json["deployment"] == "demo"
    assert (kept.json["request_id"], kept.json["content_type"]) == ("r-1", "image/png")
    made = link(server, kept.json["id"], base_url="https://gpu.example.com/d/demo/").json
    assert made["url"].startswith(f"https://gpu.example.com/api/v1/outputs/{kept.json['id']}/")
    shown = server.get(path_of(made["url"]))
    assert (shown.status, shown.body) == (200, PNG)
    headers = {name.lower(): value for name, value in shown.headers.items()}
    assert headers["content-type"] == "image/png"
    assert headers["content-disposition"] == 'inline; filename="picture.png"'
    part = server.get(path_of(made["url"]), Range="bytes=2-4")
    assert (part.status, part.body) == (206, PNG[2:5])
    assert server.request("HEAD", path_of(made["url"])).status == 200


def test_two_requests_may_use_one_name(server: ServerProcess) -> None:
    first, second = (keep(server, "same.png", request_id=each).json for each in ("a", "b"))
    assert first["id"] != second["id"]
    assert first["name"] == second["name"] == "same.png"


def test_a_page_is_not_shown_as_one(server: ServerProcess) -> None:
    kept = keep(server, "page.html").json
    shown = server.get(path_of(link(server, kept["id"]).json["url"]))
    assert "attachment" in str(shown.headers)
    assert "sandbox" in str(shown.headers)


@pytest.mark.parametrize("change", ["exp", "sig", "gen"])
def test_a_link_that_was_changed_says_so(server: ServerProcess, change: str) -> None:
    url = link(server, keep(server).json["id"]).json["url"]
    parts = urllib.parse.urlsplit(url)
    query = dict(urllib.parse.parse_qsl(parts.query))
    query[change] = str(int(query[change]) + 1) if change != "sig" else query["sig"][::-1]
    path = f"{parts.path}?{urllib.parse.urlencode(query)}"
    assert code_of(server.get(path)) == (403, "link_tampered")


def test_a_link_that_has_expired_says_so(server: ServerProcess) -> None:
    url = link(server, keep(server).json["id"], expires_s=0.001).json["url"]
    reply = server.get(path_of(url))
    while reply.status == 200:  # within the same second
        reply = server.get(path_of(url))
    assert code_of(reply) == (403, "link_expired")


def test_a_link_that_was_revoked_says_so_and_new_ones_work(server: ServerProcess) -> None:
    output_id = keep(server).json["id"]
    old = path_of(link(server, output_id).json["url"])
    assert server.post(f"/api/v1/outputs/{output_id}/revoke").json == {"revoked": 1}
    assert code_of(server.get(old)) == (403, "link_revoked")
    assert server.get(path_of(link(server, output_id).json["url"])).status == 200
    assert server.post(f"/api/v1/outputs/{output_id}/revoke").json == {"revoked": 2}


def test_a_deleted_output_is_gone(server: ServerProcess) -> None:
    output_id = keep(server).json["id"]
    url = path_of(link(server, output_id).json["url"])
    assert server.request("DELETE", f"/api/v1/outputs/{output_id}").status == 204
    assert code_of(server.get(url)) == (410, "output_deleted")
    assert code_of(server.get(f"/api/v1/outputs/{output_id}")) == (404, "output_not_found")


@pytest.mark.parametrize("seconds", [-1, 0, 10**9])
def test_a_link_for_ever_cannot_be_made(server: ServerProcess, seconds: float) -> None:
    reply = link(server, keep(server).json["id"], expires_s=seconds)
    assert code_of(reply) == (400, "invalid_expiry")


@pytest.mark.parametrize("base", ["javascript:alert(1)", "https://a b", "//x"])
def test_a_link_leads_over_http_only(server: ServerProcess, base: str) -> None:
    assert link(server, keep(server).json["id"], base_url=base).status == 400


def test_a_replica_reaches_only_what_is_its_deployments(server: ServerProcess) -> None:
    output_id = keep(server, of="other").json["id"]
    own = token_of(server, "demo")
    path = f"/api/v1/outputs/{output_id}"
    assert code_of(raw(server, "POST", f"{path}/url", b"{}", own)) == (404, "output_not_found")
    assert raw(server, "DELETE", path, b"", own).status == 404
    assert code_of(keep(server, of="demo", deployment="other")) == (403, "wrong_deployment")
    assert raw(server, "GET", "/api/v1/jobs", b"", own).status == 401, "nothing else is open to it"


def test_an_inside_token_of_another_server_is_refused(server: ServerProcess) -> None:
    foreign = inside_token(b"another key", server.get("/api/v1/deployments/demo").json["id"])
    assert raw(server, "POST", "/api/v1/outputs?name=a", b"x", foreign).status == 403
    assert deployment_of(b"another key", foreign) is not None
    assert deployment_of(b"another key", f"{foreign}0") is None


@pytest.mark.parametrize("name", ["", "..", "a/", "a\nb"])
def test_a_name_that_is_none_is_refused(server: ServerProcess, name: str) -> None:
    assert keep(server, name).status == 400


def test_outside_it_must_be_said_of_which_deployment(server: ServerProcess) -> None:
    assert server.post("/api/v1/outputs?name=a", 1).status == 400
    assert server.post("/api/v1/outputs?name=a&deployment=demo", 1).status == 201


def test_nothing_of_a_secret_is_in_the_database(server: ServerProcess) -> None:
    with closing(sqlite3.connect(server.home / "comfyserve.db")) as database:
        dump = "\n".join(database.iterdump())
    assert token_of(server, "demo") not in dump


@pytest.fixture
def inside(server: ServerProcess, monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is a replica of `demo`."""
    monkeypatch.setenv("COMFYSERVE_INSIDE_URL", server.url)
    monkeypatch.setenv("COMFYSERVE_INSIDE_TOKEN", token_of(server, "demo"))


@pytest.mark.usefixtures("inside")
def test_the_sdks_output_is_kept_once_and_linked(server: ServerProcess, tmp_path: Path) -> None:
    output = Output.from_bytes(PNG, "a.png")
    url = output.public_url(expires=60)
    assert urllib.request.urlopen(url).read() == PNG
    for thread in threading.enumerate():
        if thread.name == "comfyserve-output":
            thread.join(20)
    assert not output.path.exists(), "the server has it now"
    assert output.save().stat().id in url
    output.revoke()
    assert code_of(server.get(path_of(url))) == (403, "link_revoked")
    (tmp_path / "set").mkdir()
    (tmp_path / "set" / "a.txt").write_text("a")
    whole = Output(path=tmp_path / "set").public_url()
    with zipfile.ZipFile(io.BytesIO(urllib.request.urlopen(whole).read())) as archive:
        assert archive.read("a.txt") == b"a"


@pytest.mark.usefixtures("inside")
async def test_requests_at_once_keep_their_outputs_apart(server: ServerProcess) -> None:
    async def serve(number: int) -> tuple[str, str]:
        CURRENT.set(Served(f"r-{number}", "https://gpu.example.com"))
        output = Output.from_bytes(f"{number}".encode(), "same.txt")
        url = await asyncio.to_thread(output.public_url)
        return output.stat().id, url

    made = await asyncio.gather(*(serve(number) for number in range(8)))
    for number, (output_id, url) in enumerate(made):
        kept = await asyncio.to_thread(server.get, f"/api/v1/outputs/{output_id}")
        assert kept.json["request_id"] == f"r-{number}"
        assert url.startswith("https://gpu.example.com/api/v1/")
        assert (await asyncio.to_thread(server.get, path_of(url))).body == f"{number}".encode()
