"""Third-party clients of ComfyUI, unmodified, against the native door of a server that sleeps.

Each does its own usual job: submit, wait by WebSocket or polling, download, upload and cancel where it
can. The scripts in `native_clients/` use nothing but the client's own API.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.e2e.clients import INSTALL_S, installed
from tests.e2e.server_process import ServerProcess, serving, wait_until
from tests.gateway.v2_door import unused_port

from comfyserve.cli.client import Client
from comfyserve.sdk.transport import Transport

pytestmark = [pytest.mark.e2e, pytest.mark.clients, pytest.mark.timeout(600)]

_SCRIPTS = Path(__file__).parent / "native_clients"
_RUN_S = 90
_NPM = ("comfy-ui-client", "@saintno/comfyui-sdk", "@stable-canvas/comfyui-client", "ws")
_WORKFLOW = {
    "1": {
        "class_type": "LoadImage",
        "inputs": {"image": "photo.png"},
        "_meta": {"title": "Photo"},
    },
    "5": {
        "class_type": "TestingSleep",
        "inputs": {"seconds": 0.4, "steps": 5, "previews": False, "tag": "", "anything": ["1", 0]},
        "_meta": {"title": "Slow"},
    },
    "9": {
        "class_type": "SaveImage",
        "inputs": {"images": ["5", 0], "filename_prefix": "made"},
        "_meta": {"title": "Result"},
    },
}


@dataclass(frozen=True, slots=True)
class Bench:
    """A sleeping server, and a directory with a photograph and a workflow that uses it."""

    server: ServerProcess
    directory: Path

    def run(self, *command: str) -> Any:
        """Run a client; it prints a line of JSON. The server sleeps when it comes."""
        wait_until(lambda: not self.server.replicas(), 30, "it sleeps")
        done = subprocess.run(
            [*command, self.server.url, "photo.png", "workflow.json"],
            cwd=self.directory,
            capture_output=True,
            text=True,
            timeout=_RUN_S,
            env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
        )
        assert done.returncode == 0, done.stdout + done.stderr
        lines = [line for line in done.stdout.splitlines() if line.startswith("{")]
        return json.loads(next(line for line in lines if '"level"' not in line))

    def size(self, name: str) -> tuple[int, int]:
        """The size of what a client saved."""
        with Image.open(self.directory / name) as image:
            return image.size


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    directory = tmp_path / "client"
    directory.mkdir()
    photo = directory / "photo.png"
    Image.new("RGB", (16, 12), (10, 20, 30)).save(photo)
    (directory / "workflow.json").write_text(json.dumps(_WORKFLOW))
    with serving(tmp_path / "server" / "home", unused_port()) as server:
        server.deploy(scaling={"idle_timeout_s": 0.5})
        Client(Transport(server.url)).upload("demo", photo)
        yield Bench(server, directory)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the npm clients."""
    npm = shutil.which("npm")
    if npm is None or shutil.which("node") is None:
        pytest.skip("no npm and node on this machine")
    place = tmp_path_factory.mktemp("npm")
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", *_NPM]
    done = subprocess.run(install, cwd=place, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode:
        pytest.skip(f"npm cannot install the clients: {done.stderr[-300:]}")
    for script in _SCRIPTS.glob("*.mjs"):
        shutil.copy(script, place)
    return place


def test_comfy_api_simplified(bench: Bench, tmp_path: Path) -> None:
    python = installed(tmp_path / "venv", "comfy-api-simplified")
    told = bench.run(str(python), str(_SCRIPTS / "comfy_api_simplified_job.py"))
    [name] = told["images"]
    assert bench.size(name) == (64, 64)
    assert "400" in told["refused"]
    assert told["before"] in {-1, 0, 1}


def test_comfyui_utils(bench: Bench, tmp_path: Path) -> None:
    python = installed(tmp_path / "venv", "comfyui-utils", "aiohttp")
    told = bench.run(str(python), str(_SCRIPTS / "comfyui_utils_job.py"))
    assert bench.size(told["images"][0]) == (64, 64)
    assert told["nodes"] == [1, 5, 9]
    assert told["positions"][0] == 0
    assert told["refused"]


def test_comfy_script(bench: Bench, tmp_path: Path) -> None:
    python = installed(tmp_path / "venv", "comfy-script[runtime]")
    told = bench.run(str(python), str(_SCRIPTS / "comfy_script_job.py"))
    assert told == {"size": [48, 32], "color": [0, 0, 255]}
    wait_until(lambda: not bench.server.replicas(), 30, "what it canceled holds nothing awake")
    states = {job["state"] for job in bench.server.get("/api/v1/jobs").json["jobs"]}
    assert states == {"succeeded", "canceled"}


def test_comfy_ui_client(bench: Bench, node: Path) -> None:
    told = bench.run("node", str(node / "comfy-ui-client.mjs"))
    assert bench.size(told["images"][0]) == (64, 64)
    assert told["classes"] == ["SaveImage"]
    assert told["running"] == 0


def test_saintno_comfyui_sdk(bench: Bench, node: Path) -> None:
    told = bench.run("node", str(node / "saintno-comfyui-sdk.mjs"))
    assert bench.size(told["images"][0]) == (64, 64)
    assert told["told"] == ["pending", "start", "progress"]
    assert told["interrupted"] == "error"


def test_stable_canvas_comfyui_client(bench: Bench, node: Path) -> None:
    told = bench.run("node", str(node / "stable-canvas-comfyui-client.mjs"))
    assert [bench.size(name) for name in told["images"]] == [(64, 64)] * 2
    assert told["steps"] == 5
    assert told["nodes"] > 40
