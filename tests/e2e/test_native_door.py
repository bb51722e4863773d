"""The native door as clients meet it: asleep, waking, crowded, and fed with nonsense."""

import asyncio
import io
import json
import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image
from tests.e2e.server_process import ServerProcess, picture, serving, sleeping, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(120)]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    home = tmp_path_factory.mktemp("native") / "home"
    with serving(home, port) as running:
        running.deploy(scaling={"idle_timeout_s": 0.5})
        yield running


def _asleep(server: ServerProcess, name: str = "demo") -> None:
    wait_until(lambda: not server.replicas(name), 20, "it sleeps")


READS = [
    "/prompt", "/queue", "/history", "/history?max_items=1", "/history/unknown", "/object_info",
    "/object_info/LoadImage", "/system_stats", "/embeddings", "/models", "/extensions",
    "/features", "/api/jobs", "/view?filename=nothing.png", "/view_metadata/loras?filename=x",
]  # fmt: skip


@pytest.mark.parametrize("prefix", ["", "/api", "/d/demo", "/d/demo/api"])
def test_reading_never_wakes_a_replica(server: ServerProcess, prefix: str) -> None:
    _asleep(server)
    for path in READS:
        inner = path if path.startswith("/api") and prefix.endswith("/api") else prefix + path
        reply = server.get(inner)
        assert reply.status < 500, (inner, reply.body)
    assert server.replicas() == []


def test_a_refused_prompt_wakes_nothing_and_says_why(server: ServerProcess) -> None:
    _asleep(server)
    prompt = picture(1)
    prompt["1"]["class_type"] = "EmptyImagee"
    reply = server.post("/prompt", {"prompt": prompt})
    assert reply.status == 400
    error = reply.json["error"]
    assert error["type"] == "missing_node_type"
    assert error["comfyserve"]["nearest"][0] == "EmptyImage"
    assert server.replicas() == []


MALFORMED: list[tuple[bytes, int, str]] = [
    (b"", 400, "invalid_json"),
    (b"{", 400, "invalid_json"),
    (b"\xff\xfe", 400, "invalid_json"),
    (b"[]", 400, "no_prompt"),
    (b"17", 400, "no_prompt"),
    (b"{}", 400, "no_prompt"),
    (b'{"prompt": null}', 400, "prompt_not_an_object"),
    (b'{"prompt": []}', 400, "prompt_not_an_object"),
    (b'{"prompt": {}}', 400, "prompt_no_outputs"),
    (b'{"prompt": {"1": null}}', 400, "node_not_an_object"),
    (b'{"prompt": {}, "extra_data": []}', 400, "invalid_input"),
    (b'{"prompt": {}, "number": "soon"}', 400, "invalid_input"),
    (b'{"prompt": {}, "prompt_id": "NOT-A-UUID"}', 400, "invalid_prompt_id"),
    (b'{"prompt": {}, "partial_execution_targets": 3}', 400, "invalid_input"),
    (b"[" * 200_000, 400, "invalid_json"),
    (b'{"prompt": {"1": {"class_type": "' + b"x" * 2_000_000 + b'", "inputs": {}}}}', 400, ""),
    (b'{"prompt": "' + b"x" * (33 * 1024 * 1024) + b'"}', 413, "payload_too_large"),
]


@pytest.mark.parametrize(("body", "status", "code"), MALFORMED, ids=lambda v: str(v)[:24])
def test_a_malformed_body_gets_a_clear_answer(
    server: ServerProcess, body: bytes, status: int, code: str
) -> None:
    _asleep(server)
    reply = _post_raw(server, "/prompt", body)
    assert reply[0] == status, reply
    error = json.loads(reply[1])["error"]
    assert not code or error["type"] == code
    assert error["message"]
    assert server.replicas() == []


def _post_raw(server: ServerProcess, path: str, body: bytes) -> tuple[int, bytes]:
    async def post() -> tuple[int, bytes]:
        async with (
            aiohttp.ClientSession() as session,
            session.post(server.url + path, data=io.BytesIO(body)) as answer,
        ):
            return answer.status, await answer.read()

    return asyncio.run(post())


def test_a_ui_export_is_accepted_and_embedded(server: ServerProcess) -> None:
    workflow = {
        "last_node_id": 2, "last_link_id": 1, "version": 0.4, "groups": [], "config": {},
        "nodes": [
            {"id": 1, "type": "EmptyImage", "mode": 0, "inputs": [], "properties": {},
             "outputs": [{"name": "IMAGE", "type": "IMAGE", "links": [1]}],
             "widgets_values": [16, 16, 1, 255]},
            {"id": 2, "type": "SaveImage", "mode": 0, "outputs": [], "properties": {},
             "inputs": [{"name": "images", "type": "IMAGE", "link": 1}],
             "widgets_values": ["from_ui"]},
        ],
        "links": [[1, 1, 0, 2, 0, "IMAGE"]],
        "extra": {},
    }  # fmt: skip
    reply = server.post("/prompt", {"prompt": workflow})
    assert reply.status == 200, reply.body
    job = server.finished(reply.json["prompt_id"])
    assert job["state"] == "succeeded"
    entry = server.get(f"/history/{job['id']}").json[job["id"]]
    assert entry["prompt"][3]["extra_pnginfo"]["workflow"] == workflow
    assert entry["prompt"][2]["2"]["inputs"]["filename_prefix"] == "from_ui"


def test_the_same_key_replays_the_first_answer(server: ServerProcess) -> None:
    body = {"prompt": picture(5)}
    first = server.post("/prompt", body, **{"Idempotency-Key": "same"})
    again = server.post("/prompt", body, **{"Idempotency-Key": "same"})
    other = server.post("/prompt", {"prompt": picture(6)}, **{"Idempotency-Key": "same"})
    assert first.json == again.json
    assert other.status == 409
    assert other.json["error"]["type"] == "idempotency_conflict"


def test_a_full_queue_says_when_to_come_back(server: ServerProcess) -> None:
    server.deploy("narrow", limits={"max_queue": 2}, scaling={"idle_timeout_s": 0.5})
    server.post("/d/narrow/prompt", {"prompt": sleeping(60)})
    wait_until(lambda: _running(server, "narrow") == 1, 15, "it runs")
    replies = [server.post("/d/narrow/prompt", {"prompt": picture(n)}) for n in range(3)]
    assert [reply.status for reply in replies] == [200, 200, 429]
    assert int(replies[-1].headers["retry-after"]) >= 1
    server.post("/d/narrow/queue", {"clear": True})
    server.post("/d/narrow/interrupt")
    _asleep(server, "narrow")
    assert len(server.get("/d/narrow/history").json) == 1
    assert server.request("DELETE", "/api/v1/deployments/narrow").status == 204


def _running(server: ServerProcess, name: str) -> int:
    found: int = server.get(f"/api/v1/deployments/{name}").json["jobs"]["running"]
    return found


def test_priority_front_and_deleting(server: ServerProcess) -> None:
    blocker = server.post("/prompt", {"prompt": sleeping(60)}).json["prompt_id"]
    wait_until(lambda: _running(server, "demo") == 1, 15, "it runs")
    later = server.post("/prompt", {"prompt": picture(1)}).json
    first = server.post("/prompt", {"prompt": picture(2), "front": True}).json
    exact = server.post("/prompt", {"prompt": picture(3), "number": 0.5}).json
    gone = server.post("/prompt", {"prompt": picture(4)}).json
    assert first["number"] < 0
    assert exact["number"] == 0.5
    server.post("/queue", {"delete": [gone["prompt_id"], "unknown", blocker]})
    queue = server.get("/queue").json
    assert [item[1] for item in queue["queue_running"]] == [blocker]
    waiting = [item[1] for item in queue["queue_pending"]]
    assert waiting == [first["prompt_id"], exact["prompt_id"], later["prompt_id"]]
    server.post("/interrupt", {"prompt_id": later["prompt_id"]})
    assert _running(server, "demo") == 1
    server.post("/interrupt", {"prompt_id": blocker})
    assert server.finished(blocker)["state"] == "canceled"
    done = [server.finished(item["prompt_id"]) for item in (first, exact, later)]
    started = [job["started_at"] for job in done]
    assert started == sorted(started)
    entry = server.get(f"/history/{blocker}").json[blocker]
    assert entry["status"]["status_str"] == "error"
    assert entry["status"]["messages"][-1][0] == "execution_interrupted"
    assert server.get(f"/history/{gone['prompt_id']}").json == {}


async def _messages(socket: aiohttp.ClientWebSocketResponse, prompt_id: str) -> list[Any]:
    """All messages up to the end of a prompt."""
    found = []
    async with asyncio.timeout(60):
        while True:
            frame = await socket.receive()
            if frame.type is not aiohttp.WSMsgType.TEXT:
                continue
            message = json.loads(frame.data)
            found.append(message)
            data = message["data"]
            if message["type"] == "executing" and data["node"] is None:
                assert data["prompt_id"] == prompt_id
                return found


async def test_a_client_hears_its_own_job_in_comfyuis_order(server: ServerProcess) -> None:
    async with aiohttp.ClientSession() as session:
        mine = await session.ws_connect(f"{server.url}/ws?clientId=mine")
        other = await session.ws_connect(f"{server.url}/ws?clientId=other")
        assert (await mine.receive_json())["data"]["sid"] == "mine"
        assert (await other.receive_json())["data"]["sid"] == "other"
        body = {"prompt": picture(0x112233), "client_id": "mine"}
        async with session.post(f"{server.url}/prompt", json=body) as answer:
            prompt_id = (await answer.json())["prompt_id"]
        heard = await _messages(mine, prompt_id)
        kinds = [message["type"] for message in heard if message["type"] != "status"]
        assert kinds[:2] == ["execution_start", "execution_cached"]
        assert kinds[-2:] == ["execution_success", "executing"]
        executed = next(m["data"] for m in heard if m["type"] == "executed")
        image = executed["output"]["images"][0]
        async with session.get(f"{server.url}/view", params=image) as answer:
            assert answer.status == 200
        others = []
        while True:
            message = await other.receive_json()
            others.append(message["type"])
            if message["data"]["status"]["exec_info"]["queue_remaining"] == 0:
                break
        assert set(others) == {"status"}
        await mine.close()
        await other.close()


async def test_fifty_clients_at_once_each_hear_their_own(server: ServerProcess) -> None:
    async def one(session: aiohttp.ClientSession, number: int) -> int:
        async with session.ws_connect(f"{server.url}/ws?clientId=c{number}") as socket:
            body = {"prompt": picture(number, prefix=f"many{number}"), "client_id": f"c{number}"}
            async with session.post(f"{server.url}/prompt", json=body) as answer:
                prompt_id = (await answer.json())["prompt_id"]
            heard = await _messages(socket, prompt_id)
            ids = {m["data"]["prompt_id"] for m in heard if "prompt_id" in m["data"]}
            assert ids == {prompt_id}
            files = [
                image["filename"]
                for m in heard
                if m["type"] == "executed"
                for image in m["data"]["output"]["images"]
            ]
            assert [name.split("_")[0] for name in files] == [f"many{number}"]
            return len(heard)

    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:
        counts = await asyncio.gather(*(one(session, number) for number in range(50)))
    assert all(counts)


async def test_a_client_that_comes_back_gets_the_running_jobs_state(
    server: ServerProcess,
) -> None:
    async with aiohttp.ClientSession() as session:
        body = {"prompt": sleeping(3, "back"), "client_id": "back"}
        async with session.post(f"{server.url}/prompt", json=body) as answer:
            prompt_id = (await answer.json())["prompt_id"]
        await asyncio.to_thread(wait_until, lambda: _running(server, "demo") == 1, 15, "it runs")
        async with session.ws_connect(f"{server.url}/ws?clientId=back") as socket:
            heard = await _messages(socket, prompt_id)
    assert heard[0]["data"]["sid"] == "back"
    assert "execution_success" in [message["type"] for message in heard]


async def test_a_slow_client_slows_nobody(server: ServerProcess) -> None:
    prompt = sleeping(1, "slow")
    prompt["1"]["inputs"].update(steps=400, previews=True)
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, limit=1024)
    writer.write(
        b"GET /ws?clientId=slow HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\n"
        b"Connection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
        b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    await reader.readuntil(b"\r\n\r\n")
    async with aiohttp.ClientSession() as session:
        body = {"prompt": prompt, "client_id": "slow"}
        async with session.post(f"{server.url}/prompt", json=body) as answer:
            prompt_id = (await answer.json())["prompt_id"]
    job = await asyncio.to_thread(server.finished, prompt_id)
    assert job["state"] == "succeeded"
    heard = b""
    async with asyncio.timeout(30):
        while b"execution_success" not in heard:
            heard = heard[-64:] + await reader.read(65536)
    writer.close()
    await writer.wait_closed()


def test_cancel_works_in_every_state(server: ServerProcess) -> None:
    running = server.post("/prompt", {"prompt": sleeping(60)}).json["prompt_id"]
    wait_until(lambda: _running(server, "demo") == 1, 15, "it runs")
    queued = server.post("/prompt", {"prompt": picture(9)}).json["prompt_id"]
    for job_id in (queued, running):
        assert server.post(f"/api/v1/jobs/{job_id}/cancel").status == 200
        assert server.finished(job_id)["state"] == "canceled"
        assert server.post(f"/api/v1/jobs/{job_id}/cancel").json["state"] == "canceled"


def test_a_job_beyond_its_timeout_is_stopped_and_its_replica_replaced(
    server: ServerProcess,
) -> None:
    server.deploy("brief", timeouts={"job_s": 1.0, "stop_s": 1.0})
    hang = {"1": {"class_type": "TestingHang", "inputs": {"seconds": 60, "heeds_interrupt": False}}}
    prompt_id = server.post("/d/brief/prompt", {"prompt": hang}).json["prompt_id"]
    job = server.finished(prompt_id)
    assert job["state"] == "failed"
    assert job["error"]["code"] == "job_timeout"
    again = server.post("/d/brief/prompt", {"prompt": picture(3)}).json["prompt_id"]
    after = server.finished(again)
    assert after["state"] == "succeeded"
    assert after["replica"] != job["replica"]
    assert server.request("DELETE", "/api/v1/deployments/brief").status == 204


def test_another_method_is_not_allowed(server: ServerProcess) -> None:
    for path in ("/prompt", "/d/demo/view", "/api/history/x"):
        reply = server.request("DELETE", path)
        assert reply.status == 405
        assert reply.body == b"405: Method Not Allowed"


def test_an_unknown_deployment_names_what_there_is(server: ServerProcess) -> None:
    reply = server.get("/d/nothing/queue")
    assert reply.status == 404
    assert "demo" in reply.json["error"]["message"]


def test_closed_routes_say_how_to_open_them(server: ServerProcess) -> None:
    for path, status in {"/internal/logs": 403, "/manager/reboot": 403, "/what": 404}.items():
        reply = server.get(path)
        assert reply.status == status
        assert "--allow-route" in reply.json["error"]["message"]


def test_an_engine_that_does_not_start_is_refused_with_its_log(server: ServerProcess) -> None:
    reply = server.request(
        "PUT",
        "/api/v1/deployments/broken",
        {"engine": {"kind": "embedded", "args": ["--fault", "start-crash"]}},
    )
    assert reply.status == 422
    assert reply.json["error"]["code"] == "deploy_failed"
    assert reply.json["error"]["details"]["log_tail"]
    assert server.get("/api/v1/deployments/broken").status == 404


@pytest.mark.parametrize(
    ("directory", "code"), [("/nowhere/at/all", "comfyui_dir_not_found"), ("/tmp", "not_comfyui")]
)
def test_a_directory_that_is_not_comfyui_is_refused(
    server: ServerProcess, directory: str, code: str
) -> None:
    reply = server.request(
        "PUT",
        "/api/v1/deployments/wrong",
        {"engine": {"kind": "comfyui", "comfyui_dir": directory}},
    )
    assert reply.status == 400
    assert reply.json["error"]["code"] == code


def test_two_deploys_of_one_name_at_once(server: ServerProcess) -> None:
    async def both() -> list[int]:
        async with aiohttp.ClientSession() as session:

            async def put() -> int:
                url = f"{server.url}/api/v1/deployments/twice"
                async with session.put(url, json={}) as answer:
                    return answer.status

            return sorted(await asyncio.gather(put(), put()))

    assert asyncio.run(both()) == [201, 409]
    assert server.request("DELETE", "/api/v1/deployments/twice").status == 204


def test_a_deployment_has_a_port_of_its_own(server: ServerProcess, free_port: int) -> None:
    server.deploy("ported", port=free_port)
    own = ServerProcess(server.home, free_port)
    assert own.get("/queue").json == {"queue_running": [], "queue_pending": []}
    prompt_id = own.post("/prompt", {"prompt": picture(7)}).json["prompt_id"]
    assert server.finished(prompt_id)["deployment"] == "ported"
    taken = server.request("PUT", "/api/v1/deployments/clash", {"port": server.port})
    assert taken.status == 409
    assert server.request("DELETE", "/api/v1/deployments/ported").status == 204


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting a small disk needs root")
def test_a_full_disk_loses_nothing_and_goes_on_when_there_is_room(
    tmp_path: Path, free_port: int
) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=24m", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("mounting is not allowed here")
    try:
        with serving(disk / "under" / "home", free_port) as server:
            server.deploy(scaling={"idle_timeout_s": 0.2})
            before = server.post("/prompt", {"prompt": picture(1)}).json["prompt_id"]
            assert server.finished(before)["state"] == "succeeded"
            _asleep(server)
            ballast = disk / "ballast"
            subprocess.run(["dd", "if=/dev/zero", f"of={ballast}", "bs=64k"], check=False)
            big = picture(2)
            big["1"]["_meta"] = {"title": "x" * 500_000}
            reply = server.post("/prompt", {"prompt": big})
            assert reply.status == 507, reply.body
            assert reply.json["error"]["type"] == "storage_full"
            assert server.get(f"/history/{before}").json[before]["status"]["completed"]
            ballast.unlink()
            after = server.post("/prompt", {"prompt": picture(3)}).json["prompt_id"]
            assert server.finished(after)["state"] == "succeeded"
    finally:
        subprocess.run(["umount", "-l", str(disk)], check=True)


# What ComfyUI's own three script examples do, in our own words.


def test_the_first_script_example_only_posts(server: ServerProcess) -> None:
    _asleep(server)
    reply = server.post("/prompt", {"prompt": picture(0x0000FF, prefix="basic")})
    assert reply.status == 200
    job = server.finished(reply.json["prompt_id"])
    assert [output["name"] for output in job["outputs"]] == ["basic_00001_.png"]


async def _listen(socket: aiohttp.ClientWebSocketResponse, prompt_id: str) -> list[bytes]:
    """Read until `executing` says that nothing runs any more; return the pictures that came."""
    pictures, current = [], None
    async with asyncio.timeout(60):
        async for message in socket:
            if message.type is aiohttp.WSMsgType.BINARY:
                if current == "ws":
                    pictures.append(message.data[8:])
                continue
            told = message.json()
            if told["type"] == "executing" and told["data"].get("prompt_id") == prompt_id:
                current = told["data"]["node"]
                if current is None:
                    break
    return pictures


async def test_the_second_waits_at_the_socket_and_fetches(server: ServerProcess) -> None:
    await asyncio.to_thread(_asleep, server)
    async with (
        aiohttp.ClientSession(server.url) as client,
        client.ws_connect("/ws?clientId=example-two") as socket,
    ):
        body = {"prompt": picture(0xFF0000, prefix="ws"), "client_id": "example-two"}
        async with client.post("/prompt", json=body) as answer:
            prompt_id = (await answer.json())["prompt_id"]
        await _listen(socket, prompt_id)
        async with client.get(f"/history/{prompt_id}") as answer:
            outputs = (await answer.json())[prompt_id]["outputs"]
        [entry] = [image for node in outputs.values() for image in node["images"]]
        async with client.get("/view", params=entry) as answer:
            data = await answer.read()
    with Image.open(io.BytesIO(data)) as image:
        assert image.getpixel((0, 0)) == (255, 0, 0)


async def test_the_third_gets_its_pictures_through_the_socket(server: ServerProcess) -> None:
    await asyncio.to_thread(_asleep, server)
    prompt = picture(0x00FF00)
    prompt["ws"] = {"class_type": "SaveImageWebsocket", "inputs": {"images": ["1", 0]}}
    del prompt["2"]
    async with (
        aiohttp.ClientSession(server.url) as client,
        client.ws_connect("/ws?clientId=example-three") as socket,
    ):
        for _ in range(2):  # the second run is not answered from a cache
            body = {"prompt": prompt, "client_id": "example-three"}
            async with client.post("/prompt", json=body) as answer:
                prompt_id = (await answer.json())["prompt_id"]
            [data] = await _listen(socket, prompt_id)
            with Image.open(io.BytesIO(data)) as image:
                assert image.format == "PNG"
                assert image.getpixel((0, 0)) == (0, 255, 0)
