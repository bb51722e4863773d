"""The plain door before a zoo of upstreams: both directions stream, and both ends hear of each other."""

import gzip
import hashlib
import http.client
import io
import json
import os
import socket
import tarfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.server_process import wait_until
from tests.gateway.plain_door import Plain, plain_server, zoo
from websockets.exceptions import ConnectionClosed, InvalidStatus

JSON = {"Content-Type": "application/json"}
APPLICATION = """
import os
from fastapi import FastAPI, Request
app = FastAPI()
@app.post("/double")
async def double(request: Request):
    return {"n": (await request.json())["n"] * 2, "files": sorted(n for n in os.listdir() if n[0] != "_")}
"""


@pytest.fixture(scope="module")
def door(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Plain]:
    with plain_server(
        tmp_path_factory.mktemp("plain") / "home", "--domain", "pods.localhost", "--tls", "off"
    ) as server:
        server.deploy(
            "zoo",
            engine=zoo(env={"GREETING": "hi"}),
            limits={"concurrency": 8, "max_queue": 50},
            scaling={"idle_timeout_s": 60},
        )
        yield Plain(server)


def server_source(door: Plain, code: str) -> str:
    """Upload an application of one file; the digest of its code."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        member = tarfile.TarInfo("api.py")
        member.size = len(code.encode())
        tar.addfile(member, io.BytesIO(code.encode()))
    connection = http.client.HTTPConnection("127.0.0.1", door.server.port, timeout=30)
    connection.request("POST", "/api/v1/sources", archive.getvalue())
    digest: str = json.loads(connection.getresponse().read())["digest"]
    connection.close()
    return digest


def test_a_request_arrives_as_it_was_sent(door: Plain) -> None:
    answer = door.call(
        "PUT",
        "/a%20b/..%2Fc//d?x=1&x=%2F&token",
        b"body",
        {"X-Thing": "one", "Cookie": "c=1", "Authorization": "Basic abc", "Accept-Encoding": "br"},
    )
    seen = answer.json
    assert (seen["method"], seen["body"]) == ("PUT", "body")
    assert seen["path"] == "/a%20b/..%2Fc//d"
    assert seen["query"] == "x=1&x=%2F&token"
    headers = dict(seen["headers"])
    assert (headers["x-thing"], headers["cookie"]) == ("one", "c=1")
    assert headers["authorization"] == "Basic abc"
    assert headers["accept-encoding"] == "br"
    assert "user-agent" not in headers
    assert headers["host"] == headers["x-forwarded-host"] == f"127.0.0.1:{door.server.port}"
    assert (headers["x-forwarded-for"], headers["x-forwarded-proto"]) == ("127.0.0.1", "http")
    assert headers["x-forwarded-prefix"] == "/d/zoo"
    assert headers["x-comfyserve-principal"] == "local"
    assert answer.all("set-cookie") == ["a=1", "b=2"]
    receipt = answer.header("x-comfyserve-receipt")
    assert "wake_ms=" in receipt
    assert door.replica_ids()[0] in receipt


def test_its_pages_are_its_own(door: Plain) -> None:
    seen = door.call("GET", "/run/paint", headers={"Accept": "text/html"}).json
    assert seen["path"] == "/run/paint"


def test_hop_by_hop_and_forged_headers_do_not_pass(door: Plain) -> None:
    forged = {
        "Connection": "close, X-Secret-Hop",
        "X-Secret-Hop": "1",
        "TE": "trailers",
        "X-Comfyserve-Principal": "root",
        "Proxy-Authorization": "x",
    }
    headers = dict(door.call("GET", "/", headers=forged).json["headers"])
    assert not {"x-secret-hop", "te", "proxy-authorization"} & set(headers)
    assert headers["x-comfyserve-principal"] == "local"


def test_it_has_a_place_of_its_own(door: Plain) -> None:
    seen = door.get("/").json
    work = Path(seen["cwd"])
    assert work.name == "work"
    assert seen["environment"]["HOME"] == seen["cwd"]
    assert seen["environment"]["GREETING"] == "hi"
    inside = seen["inside"]
    assert inside["COMFYSERVE_DEPLOYMENT"] == "zoo"
    assert inside["COMFYSERVE_REPLICA_ID"] == work.parent.name
    assert inside["COMFYSERVE_INSIDE_URL"] == door.server.url
    assert inside["COMFYSERVE_INSIDE_TOKEN"].startswith("ci_dp_")


@pytest.mark.parametrize("code", [200, 204, 304, 404, 418, 500, 503])
def test_any_status_passes(door: Plain, code: int) -> None:
    assert door.get(f"/status/{code}").status == code


def test_what_is_zipped_stays_zipped_and_redirects_are_not_followed(door: Plain) -> None:
    answer = door.get("/gzip")
    assert answer.header("content-encoding") == "gzip"
    assert gzip.decompress(answer.body) == b"hello " * 1000
    answer = door.get("/redirect")
    assert (answer.status, answer.header("location")) == (307, "/elsewhere?x=1")
    answer = door.call("HEAD", "/gzip")
    assert (answer.body, answer.status) == (b"", 200)


def test_events_come_one_by_one(door: Plain) -> None:
    connection, answer = door.open("GET", "/events")
    assert answer.readline() == b"data: 0\n"
    for number in range(1, 4):
        door.get("/on")
        assert answer.readline() == b"\n"
        assert answer.readline() == f"data: {number}\n".encode()
    connection.close()
    answer.close()
    door.get("/on")
    door.noted("events left")


def test_a_body_goes_up_and_comes_down_unbuffered(door: Plain) -> None:
    size = 24 << 20
    data = os.urandom(1 << 20) * 24
    seen = door.call("POST", "/upload", data).json
    assert seen == {"size": size, "sha256": hashlib.sha256(data).hexdigest()}
    pieces = (bytes([n]) * 1000 for n in range(50))
    assert door.call("POST", "/upload", pieces).json["size"] == 50_000
    assert len(door.get("/big?mb=24").body) == size


def test_a_caller_that_goes_is_told_to_the_server(door: Plain) -> None:
    connection = socket.create_connection(("127.0.0.1", door.server.port))
    connection.sendall(b"GET /d/zoo/hang HTTP/1.1\r\nHost: localhost\r\n\r\n")
    door.noted("hang began")
    shown = door.state()
    assert (shown["status"], shown["jobs"]) == ("busy", {"queued": 0, "running": 1})
    connection.close()
    door.noted("hang left")
    connection = socket.create_connection(("127.0.0.1", door.server.port))
    head = b"POST /d/zoo/upload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    connection.sendall(head + bytes(100_000))
    door.noted("upload began")
    connection.close()
    door.noted("upload left")
    wait_until(lambda: door.state()["jobs"]["running"] == 0, 20, "nothing is in flight")


def test_a_socket_echoes_and_closes_with_the_code_of_whoever_closed(door: Plain) -> None:
    with door.socket(subprotocols=["one", "two"]) as wire:
        assert wire.subprotocol == "two"
        wire.send("text")
        assert wire.recv(timeout=20) == "text"
        wire.send(b"\x00" * 300_000)
        assert wire.recv(timeout=20) == b"\x00" * 300_000
        wire.send("close 4001")
        with pytest.raises(ConnectionClosed) as closed:
            wire.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert (closed.value.rcvd.code, closed.value.rcvd.reason) == (4001, "as asked")
    with door.socket() as wire:
        wire.close(4002, "enough")
    door.noted("socket left 4002 enough")
    with door.socket() as wire:
        wire.socket.shutdown(socket.SHUT_RDWR)
    door.noted("socket left 1000")


def test_a_socket_that_is_refused_says_so(door: Plain) -> None:
    with pytest.raises(InvalidStatus) as refusal:
        door.socket("/ws?refuse=1")
    assert refusal.value.response.status_code == 403
    with pytest.raises(InvalidStatus) as refusal:
        door.socket("/no-socket-here")
    assert refusal.value.response.status_code >= 400


def open_files(pid: int) -> int:
    return len(os.listdir(f"/proc/{pid}/fd"))


def test_an_upstream_that_dies_is_told_and_leaks_nothing(door: Plain) -> None:
    """Killed before the head, in the middle of a body with and without a length, behind a socket."""
    process = door.server.process
    assert process is not None
    door.get("/")
    before = open_files(process.pid)
    for path in ("/die", "/die_midway", "/die_midway?length=1"):
        connection, answer = None, None
        first = door.replica_ids()[0]
        if path == "/die":
            died = door.get(path)
            assert died.status == 502
            error = died.json["error"]
            assert error["code"] == "bad_gateway"
            assert first in error["message"], error
            assert "exit code 7" in error["message"]
            assert "dying as asked" in error["details"]["log_tail"]
        else:
            connection, answer = door.open("GET", path)
            assert answer.status == 200
            with pytest.raises(Exception, match="IncompleteRead"):
                answer.read()
            connection.close()
        wait_until(lambda first=first: first not in door.replica_ids(), 20, "it is gone")
        assert door.get("/").status == 200
    with door.socket() as wire:
        wire.send("die")
        with pytest.raises(ConnectionClosed) as closed:
            wire.recv(timeout=20)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1011
    assert door.get("/").status == 200
    wait_until(lambda: open_files(process.pid) <= before + 2, 20, "no descriptor is left open")


def test_one_waits_for_its_turn_and_too_many_are_refused(door: Plain) -> None:
    server = door.server
    server.deploy("narrow", engine=zoo(), limits={"concurrency": 2, "max_queue": 3})
    narrow = Plain(server, "narrow")
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(narrow.get, ["/slow?s=1.5"] * 12))
    statuses = sorted(answer.status for answer in answers)
    assert set(statuses) == {200, 429}
    # Three waited for the wake, two of which were served at once; later ones found room again.
    assert 3 <= statuses.count(200) <= 7
    refused = next(answer for answer in answers if answer.status == 429)
    assert int(refused.header("retry-after")) >= 1
    assert refused.json["error"]["code"] == "queue_full"
    assert len({answer.json["pid"] for answer in answers if answer.status == 200}) == 1


@pytest.mark.slow
def test_more_replicas_come_for_more_requests_and_go(door: Plain) -> None:
    server = door.server
    server.deploy("wide", engine=zoo(), scaling={"max_replicas": 2, "idle_timeout_s": 0.3})
    wide = Plain(server, "wide")
    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(wide.get, ["/slow?s=4"] * 2))
    assert len({answer.json["pid"] for answer in answers}) == 2
    wide.asleep()
    usage = server.get("/api/v1/usage?deployment=wide").json
    assert usage["totals"]["busy_s"] > 6


@pytest.mark.slow
def test_what_is_kept_stays_and_what_is_not_goes(door: Plain) -> None:
    server = door.server
    server.deploy("kept", engine=zoo(), scaling={"idle_timeout_s": 0.2})
    kept = Plain(server, "kept")
    kept.get("/keep?s=3600")
    [replica] = kept.replica_ids()
    wait_until(lambda: kept.state()["status"] == "ready", 20, "it is ready")
    server.deploy("other", engine=zoo(), scaling={"idle_timeout_s": 0.2})
    other = Plain(server, "other")
    other.get("/")
    other.asleep()
    assert kept.replica_ids() == [replica]
    reply = server.post("/api/v1/deployments/kept/keep-alive", {"seconds": 100})
    assert reply.json == {"replicas": [replica]}
    assert server.post("/api/v1/deployments/kept/keep-alive", {"seconds": -1}).status == 400


@pytest.mark.slow
def test_a_silent_socket_keeps_nothing_awake(door: Plain) -> None:
    server = door.server
    server.deploy("silent", engine=zoo(), scaling={"idle_timeout_s": 0.2})
    silent = Plain(server, "silent")
    with silent.socket() as wire:
        wire.send("one")
        assert wire.recv(timeout=20) == "one"
        with pytest.raises(ConnectionClosed) as closed:
            wire.recv(timeout=40)
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code in {1001, 1011, 1012}
    silent.asleep()


def test_a_stopped_one_says_so_and_a_terminated_one_is_gone_for_good(door: Plain) -> None:
    server = door.server
    server.deploy("brief", engine=zoo())
    brief = Plain(server, "brief")
    assert brief.get("/").status == 200
    server.post("/api/v1/deployments/brief/stop")
    assert (brief.get("/").status, brief.get("/").json["error"]["code"]) == (
        503,
        "deployment_stopped",
    )
    assert server.request("DELETE", "/api/v1/deployments/brief").status == 204
    for answer in (brief.get("/"), brief.get("/deep/path")):
        assert answer.status == 410
    assert server.get("/api/v1/deployments/brief").json["error"]["code"] == "deployment_gone"
    assert server.get("/d/never-there/").status == 404
    server.deploy("brief", engine=zoo())
    assert brief.get("/").status == 200


def test_an_application_is_served_and_its_inputs_are_checked_before_it_wakes(door: Plain) -> None:
    server = door.server
    source = server_source(door, APPLICATION)
    server.deploy(
        "app",
        engine={"kind": "app", "app": {"source": source, "handler": "api:app"}},
        inputs={"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}},
        volumes=[{"name": "shelf", "mount_path": "./shelf"}],
    )
    app = Plain(server, "app")
    refused = app.call("POST", "/double", b'{"n": "x"}', JSON)
    assert refused.status == 422
    [finding] = refused.json["detail"]
    assert finding["loc"] == ["body", "n"]
    assert app.call("POST", "/double", b"{", JSON).status == 400
    assert not app.replica_ids()
    assert app.call("POST", "/double", b'{"n": 21}', JSON).json == {
        "n": 42,
        "files": ["api.py", "shelf"],
    }
    server.request("DELETE", "/api/v1/deployments/app")
    engine = {"kind": "app", "app": {"source": source, "handler": "api:nothing"}}
    reply = server.request("PUT", "/api/v1/deployments/app", {"engine": engine})
    assert reply.status == 422
    assert "nothing" in " ".join(reply.json["error"]["details"]["log_tail"])


def test_a_token_is_taken_off_and_nobody_else_comes_in(door: Plain) -> None:
    """A proxy in front makes a caller a stranger; one that is open lets strangers in."""
    server = door.server
    secret = server.post("/api/v1/tokens", {"name": "t", "deployment": "zoo"}).json["secret"]
    stranger = {"X-Forwarded-For": "1.2.3.4"}
    assert door.call("GET", "/", headers=stranger).status == 401
    for shown in ({"Authorization": f"Bearer {secret}"}, {"X-API-Key": secret}):
        seen = dict(door.call("GET", "/", headers=stranger | shown).json["headers"])
        assert secret not in str(seen)
        assert seen["x-comfyserve-principal"].startswith("tk_")
    seen = door.call("GET", f"/?a=1&token={secret}", headers=stranger).json
    assert seen["query"] == "a=1"
    both = {"X-Comfyserve-Token": secret, "Authorization": "Bearer its-own"}
    seen = dict(door.call("GET", "/", headers=stranger | both).json["headers"])
    assert seen["authorization"] == "Bearer its-own"
    server.deploy("public", engine=zoo(), authorized=False)
    public = Plain(server, "public")
    assert public.call("GET", "/", headers=stranger | {"X-API-Key": secret}).status == 403
    seen = dict(
        public.call("GET", "/", headers=stranger | {"Authorization": "Bearer its-own"}).json[
            "headers"
        ]
    )
    assert seen["x-comfyserve-principal"] == "anonymous"
    assert seen["authorization"] == "Bearer its-own"
    assert seen["x-forwarded-for"] == "127.0.0.1"
    assert public.call("GET", "/die", headers=stranger).json["error"]["details"] == {}
    assert server.get("/api/v1/deployments/public", **stranger).status == 401


def test_at_its_own_name_and_port_every_path_is_the_servers(door: Plain, free_port: int) -> None:
    door.server.deploy("own", engine=zoo(), port=free_port)
    for path in ("/api/v1/deployments", "/metrics", "/d/other/"):
        connection = http.client.HTTPConnection("127.0.0.1", free_port, timeout=30)
        connection.request("GET", path)
        at_port = json.loads(connection.getresponse().read())
        connection.close()
        host = {"Host": "own.pods.localhost"}
        at_name = json.loads(door.server.get(path, **host).body)
        for seen in (at_port, at_name):
            assert seen["path"] == path
            assert "x-forwarded-prefix" not in dict(seen["headers"])


def refusal(reply: Any) -> tuple[int, str]:
    return reply.status, reply.json["error"]["message"]


def test_what_does_not_start_is_refused_with_its_log(door: Plain) -> None:
    put = door.server.request

    def deploy(**engine: Any) -> tuple[int, str]:
        spec = {"engine": engine, "timeouts": {"start_s": 3}}
        return refusal(put("PUT", "/api/v1/deployments/bad", spec))

    status, message = deploy(kind="command", command=["no-such-program-here"])
    assert (status, "no program 'no-such-program-here'" in message) == (400, True)
    status, message = deploy(kind="command", command=["python3", "-c", "import nonsense_module"])
    assert (status, "no module 'nonsense_module'" in message) == (422, True)
    status, message = deploy(kind="command", command=["sleep", "60"])
    assert (status, "not ready within 3 s" in message) == (422, True)
    status, message = deploy(**zoo(ready_path="/status/503"))
    assert (status, "not ready within 3 s" in message) == (422, True)
    status, message = deploy(**zoo(image="0" * 64))
    assert (status, "not built" in message) == (400, True)
    app = {"source": "0" * 64, "handler": "api:handler"}
    status, message = deploy(kind="app", app=app)
    assert (status, "upload it again" in message) == (400, True)
    assert door.server.get("/api/v1/deployments/bad").status == 404


@pytest.mark.slow
def test_a_server_that_listens_everywhere_is_told_apart(door: Plain) -> None:
    everywhere = [
        "import http.server as h, os; ",
        "h.HTTPServer(('0.0.0.0', int(os.environ['PORT'])), h.SimpleHTTPRequestHandler)",
        ".serve_forever()",
    ]
    engine = {"kind": "command", "command": ["python3", "-c", "".join(everywhere)]}
    [warning] = door.server.deploy("open", engine=engine)["warnings"]
    assert "listens on every address" in warning
    # The usual way to say it is changed by us.
    engine["command"] = ["python3", "-m", "http.server", "8000", "--bind", "0.0.0.0"]
    assert not door.server.deploy("open", engine={**engine, "container_port": 8000})["warnings"]
    assert b"Directory listing" in Plain(door.server, "open").get("/").body
