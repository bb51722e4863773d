"""What clients hear on `/ws`, compared with what a ComfyUI 0.33.0 was heard to say."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.e2e.engine_process import EngineProcess, running

pytestmark = pytest.mark.e2e

SIMPLE = {
    "1": {
        "class_type": "EmptyImage",
        "inputs": {"width": 64, "height": 48, "batch_size": 1, "color": 9},
    },
    "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "wsrun"}},
    "3": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
}


def sleeping(
    tag: str, *, seconds: float = 0.15, steps: int = 3, previews: bool = False
) -> dict[str, Any]:
    inputs = {"seconds": seconds, "steps": steps, "previews": previews, "tag": tag}
    return {
        "1": {"class_type": "TestingSleep", "inputs": inputs},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EngineProcess]:
    with running(tmp_path_factory.mktemp("engine")) as engine:
        yield engine


@dataclass
class Client:
    """One client on `/ws`."""

    session: aiohttp.ClientSession
    engine: EngineProcess
    sid: str
    socket: aiohttp.ClientWebSocketResponse
    heard: list[Any] = field(default_factory=list)

    async def submit(self, prompt: dict[str, Any], client_id: str | None = None) -> str:
        body = {"prompt": prompt, "client_id": client_id or self.sid}
        async with self.session.post(f"{self.engine.url}/prompt", json=body) as reply:
            assert reply.status == 200, await reply.text()
            answer = await reply.json()
            prompt_id: str = answer["prompt_id"]
            return prompt_id

    async def post(self, path: str, body: dict[str, Any]) -> None:
        async with self.session.post(self.engine.url + path, json=body) as reply:
            assert reply.status == 200

    async def hear(self) -> Any:
        """Return the next message: a JSON object, or bytes."""
        async with asyncio.timeout(20):
            message = await self.socket.receive()
        assert message.type in (aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY), message
        heard = message.json() if message.type is aiohttp.WSMsgType.TEXT else message.data
        self.heard.append(heard)
        return heard

    async def hear_until(self, event: str, **data: Any) -> list[Any]:
        """Return the messages up to one of this event whose data holds what is given."""
        start = len(self.heard)
        while True:
            message = await self.hear()
            if is_event(message, event) and message["data"].items() >= data.items():
                return self.heard[start:]

    async def hear_run(self, prompt_id: str) -> list[Any]:
        """Return everything up to the end of a prompt."""
        return await self.hear_until("executing", node=None, prompt_id=prompt_id)


@asynccontextmanager
async def connected(engine: EngineProcess, sid: str, **flags: bool) -> AsyncIterator[Client]:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{engine.url}/ws?clientId={sid}") as socket,
    ):
        client = Client(session, engine, sid, socket)
        status = await client.hear()
        assert status["data"]["sid"] == sid
        if flags:
            await socket.send_json({"type": "feature_flags", "data": flags})
            assert (await client.hear())["type"] == "feature_flags"
        yield client


def sample(corpora: Path, name: str) -> list[Any]:
    path = corpora / "protocol-samples" / "0.33.0" / f"ws_{name}.json"
    entries = json.loads(path.read_text("utf-8"))["log"]
    return [entry.get("text", entry) for entry in entries]


def outline(message: Any) -> Any:
    """What is the same in every run: names, nodes, values; no ids, times and file names."""
    if isinstance(message, bytes):
        return ("binary", struct.unpack(">I", message[:4])[0])
    if "binary" in message:
        return ("binary", message["event"])
    return (message["type"], _outline(message["data"]))


_CHANGING = {"prompt_id", "timestamp", "sid", "filename", "client_id"}


def _outline(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: "…" if key in _CHANGING else _outline(each) for key, each in value.items()}
    return [_outline(each) for each in value] if isinstance(value, list) else value


@pytest.mark.corpora
async def test_a_run_sounds_as_in_comfyui(engine: EngineProcess, corpora: Path) -> None:
    async with connected(engine, "simple") as client, connected(engine, "bystander") as other:
        await client.hear_run(await client.submit(SIMPLE))
        expected = sample(corpora, "simple_run")
        assert [outline(each) for each in client.heard] == [outline(each) for each in expected]
        await other.hear_until("status", status={"exec_info": {"queue_remaining": 0}})
        heard_by_other = sample(corpora, "simple_run_bystander")
        assert [outline(each) for each in other.heard] == [outline(each) for each in heard_by_other]


@pytest.mark.corpora
async def test_an_identical_prompt_reports_the_old_files(
    engine: EngineProcess, corpora: Path
) -> None:
    async with connected(engine, "twice") as client:
        await client.hear_run(await client.submit(SIMPLE))
        first = files_of(client.heard)
        client.heard.clear()
        await client.hear_run(await client.submit(SIMPLE))
        assert files_of(client.heard) == first
        expected = sample(corpora, "identical_resubmission")
        assert [outline(each) for each in client.heard] == [outline(each) for each in expected]


def files_of(messages: list[Any]) -> list[Any]:
    return [each["data"]["output"] for each in of_type(messages, "executed")]


def of_type(messages: list[Any], event: str) -> list[Any]:
    return [each for each in messages if is_event(each, event)]


def is_event(message: Any, event: str) -> bool:
    return isinstance(message, dict) and message["type"] == event


@pytest.mark.corpora
@pytest.mark.parametrize("kind", ["legacy", "metadata"])
async def test_progress_and_previews(engine: EngineProcess, corpora: Path, kind: str) -> None:
    flags = {"supports_preview_metadata": True} if kind == "metadata" else {}
    async with connected(engine, f"previews-{kind}", **flags) as client:
        await client.hear_run(
            await client.submit(sleeping("", seconds=0.1 + len(flags), previews=True))
        )
        ours = [outline(each) for each in client.heard]
    # The captured prompt ran a text node first; its messages are left out.
    theirs = [outline(each) for each in sample(corpora, f"progress_preview_{kind}")]
    assert about_node(ours) == about_node(theirs)
    frames = [each for each in client.heard if isinstance(each, bytes)]
    assert len(frames) == 3
    if kind == "legacy":
        assert all(struct.unpack(">II", frame[:8]) == (1, 1) for frame in frames)
        assert all(frame[8:10] == b"\xff\xd8" for frame in frames)
    else:
        length = struct.unpack(">I", frames[0][4:8])[0]
        about = json.loads(frames[0][8 : 8 + length])
        assert about["node_id"] == "1"
        assert about["image_type"] == "image/jpeg"
        assert frames[0][8 + length :][:2] == b"\xff\xd8"


def about_node(outlines: list[Any]) -> list[Any]:
    """The progress and the previews in their order; 3 is a line of text of the captured prompt."""
    return [each for each in outlines if each[0] in ("progress", "binary") and each[1] != 3]


@pytest.mark.corpora
async def test_an_error(engine: EngineProcess, corpora: Path) -> None:
    prompt = {
        "1": SIMPLE["1"],
        "2": {"class_type": "TestingFail", "inputs": {"anything": ["1", 0], "message": "boom"}},
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    prompt["1"] = {
        "class_type": "EmptyImage",
        "inputs": {"width": 32, "height": 32, "batch_size": 1, "color": 78},
    }
    async with connected(engine, "error") as client:
        prompt_id = await client.submit(prompt)
        await client.hear_run(prompt_id)
        ours = client.heard
        history = await asyncio.to_thread(engine.finish, prompt_id)
    theirs = sample(corpora, "execution_error")
    assert [each["type"] for each in ours] == [each["type"] for each in theirs]
    error = of_type(ours, "execution_error")[0]["data"]
    model = of_type(theirs, "execution_error")[0]["data"]
    assert error.keys() == model.keys()
    assert {key: type(value) for key, value in error.items()} == {
        key: type(value) for key, value in model.items()
    }
    assert error["exception_message"] == "boom\n"
    assert error["exception_type"] == "ValueError"
    assert error["executed"] == ["1"]
    assert error["current_inputs"]["message"] == ["boom"]
    assert "in fail" in error["traceback"][-1]
    assert history["status"]["status_str"] == "error"
    assert history["status"]["completed"] is False
    assert history["outputs"] == {}


async def test_interrupting_the_running_prompt_only(engine: EngineProcess) -> None:
    async with connected(engine, "interrupt") as client:
        running_id = await client.submit(sleeping("long", seconds=60, steps=600))
        waiting_id = await client.submit(sleeping("next"))
        await client.hear_until("progress", value=2)
        await client.post("/interrupt", {"prompt_id": waiting_id})
        await client.hear_until("progress", value=4)
        await client.post("/interrupt", {"prompt_id": running_id})
        heard = await client.hear_run(running_id)
        stopped = of_type(heard, "execution_interrupted")[0]
        assert stopped["data"].keys() == {
            "prompt_id",
            "node_id",
            "node_type",
            "executed",
            "timestamp",
        }
        heard = await client.hear_run(waiting_id)
        assert of_type(heard, "execution_success")
        history = await asyncio.to_thread(engine.finish, running_id)
        assert history["status"]["status_str"] == "error"
        assert history["status"]["messages"][-1][0] == "execution_interrupted"
        assert history["meta"] == {}


async def test_coming_back_in_the_middle(engine: EngineProcess) -> None:
    async with connected(engine, "back") as client:
        prompt_id = await client.submit(sleeping("back", seconds=2, steps=40))
        await client.hear_until("progress", value=2)
    async with connected(engine, "back") as client:
        assert await client.hear() == {"type": "executing", "data": {"node": "1"}}
        await client.hear_run(prompt_id)
    assert of_type(client.heard, "execution_success")


async def test_a_prompt_without_client_tells_everybody_its_progress_state(
    engine: EngineProcess,
) -> None:
    async with connected(engine, "listener") as client:
        body = {"prompt": sleeping("nobody")}
        async with client.session.post(f"{engine.url}/prompt", json=body) as reply:
            assert reply.status == 200
        await client.hear_until("status", status={"exec_info": {"queue_remaining": 0}})
    kinds = {each["type"] for each in client.heard if isinstance(each, dict)}
    assert kinds == {"status", "progress_state", "progress"}


async def test_a_late_leaver_takes_its_successor_along(engine: EngineProcess) -> None:
    async with connected(engine, "same") as first, connected(engine, "same") as second:
        await first.socket.close()
        prompt_id = await second.submit(sleeping("deaf", seconds=0.0))
        await asyncio.to_thread(engine.finish, prompt_id)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await second.socket.receive()


async def test_only_the_first_message_may_name_features(engine: EngineProcess) -> None:
    async with connected(engine, "late") as client:
        await client.socket.send_json({"type": "hello"})
        await client.socket.send_str("not json")
        await client.socket.send_json({"type": "feature_flags", "data": {}})
        await client.hear_run(await client.submit(sleeping("late", seconds=0.0)))
    assert "feature_flags" not in {each["type"] for each in client.heard if isinstance(each, dict)}


async def test_a_socket_without_an_id_gets_one(engine: EngineProcess) -> None:
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{engine.url}/api/ws") as socket,
    ):
        status = await socket.receive_json()
    assert len(status["data"]["sid"]) == 32


async def test_fault_drop_sockets(tmp_path: Path) -> None:
    with running(tmp_path, "--fault", "drop-sockets=4") as engine:
        async with connected(engine, "dropped") as client:
            prompt_id = await client.submit(sleeping("dropped", seconds=0.0))
            for _ in range(4):
                await client.hear()
            assert (await client.socket.receive()).type is aiohttp.WSMsgType.CLOSED
            assert client.socket.close_code == aiohttp.WSCloseCode.ABNORMAL_CLOSURE
        history = await asyncio.to_thread(engine.finish, prompt_id)
    assert history["status"]["completed"] is True


async def test_log_lines_go_to_subscribers(engine: EngineProcess) -> None:
    async with connected(engine, "logs") as client:
        async with client.session.patch(
            f"{engine.url}/internal/logs/subscribe", json={"clientId": "logs", "enabled": True}
        ) as reply:
            assert reply.status == 200
        await client.submit(sleeping("log", seconds=0.0))
        heard = await client.hear_until("logs")
        assert heard[-1]["data"]["entries"][0]["m"] == "got prompt\n"
        async with client.session.patch(
            f"{engine.url}/internal/logs/subscribe", json={"clientId": "logs", "enabled": False}
        ) as reply:
            assert reply.status == 200
