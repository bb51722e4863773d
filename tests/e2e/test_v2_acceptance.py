"""The official clients of Comfy API v2, unmodified, against a server that sleeps when they come.

The script and its workflow are the shared acceptance test; the SDKs come from their registries.
"""

import base64
import io
import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.conftest import ComfyUI
from tests.e2e.clients import INSTALL_S, installed
from tests.e2e.server_process import ServerProcess, picture, serving

pytestmark = [pytest.mark.e2e, pytest.mark.clients, pytest.mark.timeout(600)]

_ROOT = Path(__file__).parents[2]
_STEPS = 28


def _acceptance() -> Path:
    named = os.environ.get("COMFYSERVE_ACCEPTANCE")
    found = Path(named) if named else _ROOT.parent / "shared" / "acceptance"
    if not (found / "sdk_acceptance.py").is_file():
        pytest.skip(f"no acceptance script in {found}; name its directory: COMFYSERVE_ACCEPTANCE")
    return found


@pytest.fixture
def server(home: Path, free_port: int) -> Iterator[ServerProcess]:
    with serving(home, free_port) as server:
        yield server


def _run(sdk: Path, base_url: str, token: str = "", timeout_s: float = 60) -> str:
    place = _acceptance()
    done = subprocess.run(
        [str(sdk), "sdk_acceptance.py", "workflow_api.json"],
        cwd=place,
        env={
            **os.environ,
            "COMFY_BASE_URL": base_url,
            "COMFY_API_KEY": token,
            "ACCEPT_TIMEOUT": str(timeout_s),
            "PYTHONDONTWRITEBYTECODE": "1",
        },
        capture_output=True,
        text=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("PASS") == _STEPS
    assert "FAIL " not in done.stdout
    return done.stdout


def test_all_steps_pass_without_a_token(server: ServerProcess, comfy_sdk: Path) -> None:
    server.deploy()
    assert server.replicas() == []
    _run(comfy_sdk, server.url)


def test_all_steps_pass_with_a_token_on_a_deployment_of_its_own_address(
    server: ServerProcess, comfy_sdk: Path
) -> None:
    server.deploy("other")
    server.deploy()
    new = {"name": "sdk", "scopes": ["run"], "deployment": "demo"}
    token = server.post("/api/v1/tokens", new).json["secret"]
    told = _run(comfy_sdk, f"{server.url}/d/demo", token)
    assert "wrong key refused  [unauthorized]" in told
    assert server.get("/d/other/api/v2/jobs").json == {"jobs": []}


@pytest.mark.comfyui
def test_all_steps_pass_on_a_real_comfyui(
    server: ServerProcess, comfy_sdk: Path, comfyui: ComfyUI
) -> None:
    server.deploy(
        engine={
            "kind": "comfyui",
            "comfyui_dir": str(comfyui.directory),
            "python": str(comfyui.python),
            "args": ["--cpu"],
        }
    )
    assert [replica for replica in server.replicas() if replica["state"] == "ready"] == []
    _run(comfy_sdk, server.url, timeout_s=240)


_TYPESCRIPT = """
import { Comfy } from "@comfyorg/sdk";
const client = new Comfy();
const photo = client.assets.fromBytes(Buffer.from(process.env.PHOTO, "base64"), {
  filename: "photo.png",
});
const workflow = client.workflows.fromJson({
  "1": { class_type: "LoadImage", inputs: { image: "photo.png" } },
  "2": { class_type: "SaveImage", inputs: { images: ["1", 0], filename_prefix: "ts" } },
});
workflow.setInput("1", "image", photo);
const job = await client.submit(workflow);
const events = [];
for await (const event of job.events()) events.push(event.kind);
await job.wait();
const bytes = await job.outputs[0].toBytes();
const canceled = await (await client.jobs.get(job.id)).cancel();
console.log(JSON.stringify({
  status: job.status, events, size: bytes.length, told: job.outputs[0].sizeBytes,
  created: photo.createdNew, after: canceled.status,
}));
"""


def test_the_typescript_sdk_runs_a_job(server: ServerProcess, tmp_path: Path) -> None:
    npm, node = shutil.which("npm"), shutil.which("node")
    if npm is None or node is None:
        pytest.skip("no npm and node on this machine")
    install = [npm, "install", "--silent", "--no-audit", "--no-fund", "@comfyorg/sdk"]
    done = subprocess.run(install, cwd=tmp_path, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode:
        pytest.skip(f"npm cannot install @comfyorg/sdk: {done.stderr[-300:]}")
    (tmp_path / "run.mjs").write_text(_TYPESCRIPT)
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (1, 2, 3)).save(buffer, "PNG")
    server.deploy()
    environment = {
        **os.environ,
        "COMFY_BASE_URL": server.url,
        "PHOTO": base64.b64encode(buffer.getvalue()).decode(),
    }
    ran = subprocess.run(
        [node, "run.mjs"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told: dict[str, Any] = json.loads(ran.stdout)
    assert told["status"] == told["after"] == "succeeded"
    assert told["created"] is True
    assert told["size"] == told["told"]
    assert told["events"][-1] == "statusChange"
    assert (
        "outputReady" in told["events"]
    )  # and so before the end, with or without progress between


def test_comfy_cli_runs_a_workflow_at_the_native_door(
    server: ServerProcess, tmp_path: Path
) -> None:
    python = installed(tmp_path / "cli", "comfy-cli")
    workflow = tmp_path / "workflow.json"
    workflow.write_text(json.dumps(picture(7)))
    server.deploy()
    ran = subprocess.run(
        [
            str(python.parent / "comfy"), "--skip-prompt", "--json", "run", "--workflow",
            str(workflow), "--host", "127.0.0.1", "--port", str(server.port), "--wait",
        ],
        cwd=tmp_path,
        env={**os.environ, "DO_NOT_TRACK": "1", "COMFY_NO_TELEMETRY": "1", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=120,
    )  # fmt: skip
    assert ran.returncode == 0, ran.stdout + ran.stderr
    told = json.loads(ran.stdout)
    assert told["ok"] is True
