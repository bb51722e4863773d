"""The same client script against a real ComfyUI, directly and through comfyserve asleep."""

import asyncio
import json
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from tests.conftest import ComfyUI, find_comfyui
from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import ServerProcess, picture, serving, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.comfyui, pytest.mark.timeout(300)]

SLOW_START_S = 120.0


@dataclass(frozen=True, slots=True)
class Both:
    """The two addresses that must not be told apart."""

    direct: str
    through: str


@contextmanager
def _comfyui(place: ComfyUI, directory: Path, port: int) -> Iterator[str]:
    argv = [
        str(place.python), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port),
        "--output-directory", str(directory / "output"), "--temp-directory", str(directory),
        "--input-directory", str(directory / "input"), "--user-directory", str(directory / "user"),
        "--database-url", "sqlite:///:memory:",
    ]  # fmt: skip
    for name in ("output", "input", "user"):
        (directory / name).mkdir(parents=True)
    with (directory / "log").open("wb") as out:
        process = subprocess.Popen(argv, cwd=place.directory, stdout=out, stderr=out)
    plain = ServerProcess(directory, port)
    try:
        wait_until(lambda: _answers(plain), SLOW_START_S, "ComfyUI answers")
        yield plain.url
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def _answers(plain: ServerProcess) -> bool:
    try:
        return plain.get("/prompt").status == 200
    except OSError:
        return False


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    place = find_comfyui()
    first, second = two_free_ports()
    directory = tmp_path_factory.mktemp("beside")
    with (
        _comfyui(place, directory / "plain", first) as direct,
        serving(directory / "ours" / "home", second) as server,
    ):
        server.deploy(
            engine={
                "kind": "comfyui",
                "comfyui_dir": str(place.directory),
                "python": str(place.python),
            },
            scaling={"idle_timeout_s": 2},
        )
        yield Both(direct, server.url)


# Their choices are the folders in the input directory, which ComfyUI itself makes as it goes.
_LIST_FOLDERS = {"LoadImageSetFromFolderNode", "LoadImageTextSetFromFolderNode"}


async def _ask(method: str, url: str, body: Any) -> dict[str, Any]:
    async with (
        aiohttp.ClientSession() as session,
        session.request(method, url, json=body) as answer,
    ):
        data = await answer.read()
        kind = answer.headers.get("Content-Type", "")
        parsed = json.loads(data) if kind.startswith("application/json") else len(data)
        return {"status": answer.status, "type": kind if data else "", "body": parsed}


_IDS = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")


# Times, traces, what we say beside ComfyUI's own words, and directories of the replica.
_DIFFERENT = {
    *("timestamp", "create_time", "comfyserve", "warnings", "traceback", "folders", "migrated"),
    *_LIST_FOLDERS,
}


def _alike(value: Any) -> Any:
    """Take out what differs between any two runs, and what we say beside ComfyUI's own words."""
    if isinstance(value, dict):
        return {
            key if not _IDS.fullmatch(key) else "ID": _alike(item)
            for key, item in value.items()
            if key not in _DIFFERENT
        }
    if isinstance(value, list):
        items = [_alike(item) for item in value]
        return sorted(items) if all(isinstance(item, str) for item in items) else items
    return _IDS.sub("ID", value) if isinstance(value, str) else value


READS = [
    "/prompt", "/queue", "/history", "/history?max_items=2", "/history/unknown", "/embeddings",
    "/models", "/models/loras", "/models/nope", "/extensions", "/features", "/object_info/KSampler",
    "/object_info/LoadImage", "/object_info/Nope", "/object_info", "/view", "/view?filename=no.png",
    "/view?filename=../x.png", "/view?filename=/etc/passwd", "/view?filename=x.png&type=what",
    "/view?filename=x.png&subfolder=../..", "/view_metadata/loras?filename=x.safetensors",
    "/view_metadata/nope", "/experiment/models", "/i18n", "/workflow_templates", "/users",
    "/userdata?dir=workflows", "/userdata",
]  # fmt: skip


@pytest.mark.parametrize("path", READS)
@pytest.mark.parametrize("prefix", ["", "/api"])
async def test_reads_are_the_same(both: Both, prefix: str, path: str) -> None:
    direct = await _ask("GET", both.direct + prefix + path, None)
    through = await _ask("GET", both.through + prefix + path, None)
    assert _alike(through) == _alike(direct)


def _broken(**changes: Any) -> dict[str, Any]:
    prompt = picture(1)
    for key, value in changes.items():
        node, name = key.split("_", 1)
        inputs = prompt[node[1:]]["inputs"]
        if value is None:
            del inputs[name]
        else:
            inputs[name] = value
    return prompt


REFUSED: dict[str, Any] = {
    "no prompt": {},
    "empty": {"prompt": {}},
    "unknown class": {"prompt": {"1": {"class_type": "Nope", "inputs": {}}}},
    "no class": {"prompt": {"1": {"inputs": {}}}},
    "no output": {"prompt": {"1": picture(1)["1"]}},
    "missing input": {"prompt": _broken(n1_width=None)},
    "too small": {"prompt": _broken(n1_width=0)},
    "too large": {"prompt": _broken(n1_width=10**9)},
    "not a number": {"prompt": _broken(n1_width="wide")},
    "bad link": {"prompt": _broken(n2_images=["1"])},
    "link to nothing": {"prompt": _broken(n2_images=["9", 0])},
    "wrong slot": {"prompt": _broken(n2_images=["1", 7])},
    "wrong type": {"prompt": {
        "1": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 8, "height": 8}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}}},
    "no such file": {"prompt": {
        "1": {"class_type": "LoadImage", "inputs": {"image": "nothing.png"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": "x"}}}},
    "not in list": {"prompt": {
        "1": picture(1)["1"],
        "3": {"class_type": "ImageScale", "inputs": {
            "image": ["1", 0], "upscale_method": "magic", "width": 8, "height": 8,
            "crop": "disabled"}},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}}}},
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
async def test_refusals_are_the_same(both: Both, name: str) -> None:
    direct = await _ask("POST", f"{both.direct}/prompt", REFUSED[name])
    through = await _ask("POST", f"{both.through}/prompt", REFUSED[name])
    assert direct["status"] == 400
    assert _alike(through) == _alike(direct)


async def _run(url: str, prompt: Any, client_id: str) -> tuple[list[Any], Any, list[bytes]]:
    """Submit, listen to the end, read the history, fetch the files: a client's whole job."""
    heard: list[Any] = []
    async with aiohttp.ClientSession() as session:
        async with session.ws_connect(f"{url}/ws?clientId={client_id}") as socket:
            await socket.send_json(
                {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
            )
            body = {"prompt": prompt, "client_id": client_id}
            async with session.post(f"{url}/prompt", json=body) as answer:
                prompt_id = (await answer.json())["prompt_id"]
            async with asyncio.timeout(SLOW_START_S):
                while True:
                    message = await socket.receive_json()
                    heard.append(message)
                    is_over = message["type"] == "executing" and message["data"]["node"] is None
                    if is_over and message["data"]["prompt_id"] == prompt_id:
                        break
        async with session.get(f"{url}/history/{prompt_id}") as answer:
            entry = (await answer.json())[prompt_id]
        files = []
        for output in entry["outputs"].values():
            for image in output.get("images", ()):
                async with session.get(f"{url}/view", params=image) as answer:
                    assert answer.status == 200
                    files.append(await answer.read())
    return heard, entry, files


def _story(heard: list[Any]) -> list[Any]:
    """What was heard, without the queue's length, which depends on when one listens."""
    return [_alike(message) for message in heard if message["type"] != "status"]


async def test_a_whole_job_is_the_same(both: Both) -> None:
    prompt = {
        **picture(0x336699, size=64, prefix="same"),
        "3": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "inv"}},
    }
    direct = await _run(both.direct, prompt, "whole")
    through = await _run(both.through, prompt, "whole")
    assert sorted(map(str, _story(through[0]))) == sorted(map(str, _story(direct[0])))
    for _, entry, _ in (direct, through):
        del entry["prompt"][0]  # ComfyUI counts refused prompts too.
    assert _alike(through[1]) == _alike(direct[1])
    assert sorted(through[2]) == sorted(direct[2])


async def test_an_error_in_a_node_is_the_same(both: Both) -> None:
    prompt = {
        "1": picture(1)["1"],
        "3": {
            "class_type": "ImageCompositeMasked",
            "inputs": {
                "destination": "not a picture",
                "source": ["1", 0],
                "x": 0,
                "y": 0,
                "resize_source": False,
            },
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
    }
    direct = await _run(both.direct, prompt, "wrong")
    through = await _run(both.through, prompt, "wrong")
    assert _alike(through[1]["status"]) == _alike(direct[1]["status"])
    assert [m["type"] for m in _story(through[0])] == [m["type"] for m in _story(direct[0])]


async def test_uploads_are_the_same(both: Both) -> None:
    async def upload(url: str, data: bytes, **fields: str) -> Any:
        form = aiohttp.FormData()
        form.add_field("image", data, filename="cat.png", content_type="image/png")
        for name, value in fields.items():
            form.add_field(name, value)
        async with (
            aiohttp.ClientSession() as session,
            session.post(f"{url}/upload/image", data=form) as answer,
        ):
            return answer.status, await answer.json(content_type=None)

    steps: list[tuple[bytes, dict[str, str]]] = [
        (b"one", {}), (b"one", {}), (b"two", {}), (b"two", {}), (b"three", {"overwrite": "true"}),
        (b"four", {"overwrite": "True"}), (b"five", {"subfolder": "a/b"}),
    ]  # fmt: skip
    for data, fields in steps:
        assert await upload(both.through, data, **fields) == await upload(
            both.direct, data, **fields
        )
    for path in (
        "/view?filename=cat.png&type=input",
        "/view?filename=cat.png&type=input&subfolder=a/b",
    ):
        assert (await _ask("GET", both.through + path, None))["body"] == (
            await _ask("GET", both.direct + path, None)
        )["body"]
    direct = await _ask("GET", f"{both.direct}/object_info/LoadImage", None)
    through = await _ask("GET", f"{both.through}/object_info/LoadImage", None)
    assert _alike(through) == _alike(direct)
