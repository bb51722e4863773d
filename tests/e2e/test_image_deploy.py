"""From an image in code to an API: `deploy --image`, its gate, and its one recording."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.e2e.comfyui_like import comfyui_like
from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import ServerProcess, picture, serving
from tests.unit.build.supplies import make_repository

from comfyserve.cli.main import run_command

_IMAGE = """
from comfyserve import Image

image = (
    Image.comfyui("1.0", source={source!r})
    .with_envs({{"FROM_IMAGE": "yes"}})
    .add_custom_nodes([{good!r}, {bad!r}])
)
broken = Image.comfyui("1.0", source={source!r}).add_commands(["touch ComfyUI/broken"])
bare = Image().add_commands(["true"])
"""


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with `img.py`, and the repositories that it names."""
    place = tmp_path_factory.mktemp("images")
    source = make_repository(place / "comfyui", comfyui_like(), "v1.0")
    good = make_repository(place / "good-pack", {"__init__.py": ""})
    bad = make_repository(place / "bad-pack", {"__init__.py": "raise ImportError\n"})
    text = _IMAGE.format(source=str(source), good=str(good), bad=str(bad))
    (place / "img.py").write_text(text)
    return place


@pytest.fixture(scope="module")
def server(place: Path) -> Iterator[ServerProcess]:
    port, _ = two_free_ports()
    with serving(place / "home", port) as server:
        yield server


def _command(server: ServerProcess, cwd: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "comfyserve.cli.main", *words],
        cwd=cwd,
        env={**os.environ, "COMFYSERVE_URL": server.url},
        capture_output=True,
        text=True,
        timeout=120,
    )


def _starts(server: ServerProcess) -> int:
    """How many replicas there have ever been."""
    return len(server.get("/api/v1/replicas?all=true").json["replicas"])


def test_an_image_is_built_started_once_and_serves(server: ServerProcess, place: Path) -> None:
    deployed = _command(server, place, "deploy", "studio", "--image", "img.py:image", "--cpu")
    assert deployed.returncode == 0, deployed.stderr
    assert deployed.stdout == f"{server.url}/d/studio/\n"
    assert "0.40 s to import good-pack" in deployed.stderr
    assert "bad-pack' could not be imported" in deployed.stderr.replace("\n", " ")
    assert _starts(server) == 1, "started once, when it was built"
    again = _command(server, place, "deploy", "second", "--image", "img.py:image", "--cpu")
    assert again.returncode == 0, again.stderr
    assert _starts(server) == 1, "the second deployment uses what was recorded"
    info = server.get("/d/second/object_info").json
    assert "SaveImage" in info
    accepted = server.post("/d/second/prompt", {"prompt": picture(7)})
    job = server.finished(accepted.json["prompt_id"], 60.0)
    assert job["state"] == "succeeded", job
    (build, *_) = server.get("/api/v1/builds").json["builds"]
    assert build["import_times"] == {"bad-pack": 0.4, "good-pack": 0.4}
    assert set(build["lock"]) == {"comfyui", "custom_node bad-pack", "custom_node good-pack"}


@pytest.mark.slow
def test_options_that_the_engine_sees_are_recorded_anew(server: ServerProcess, place: Path) -> None:
    assert (
        _command(server, place, "deploy", "plain", "--image", "img.py:image", "--cpu").returncode
        == 0
    )
    before = _starts(server)
    words = ("deploy", "third", "--image", "img.py:image", "--cpu", "--arg=--lowvram")
    assert _command(server, place, *words).returncode == 0
    assert _starts(server) == before + 1


def test_the_gate_lets_pass_what_can_run_and_lists_what_is_missing(
    server: ServerProcess, place: Path
) -> None:
    (place / "good.json").write_text(json.dumps(picture(7)))
    unknown = {**picture(7), "9": {"class_type": "MagicUpscale", "inputs": {}}}
    (place / "bad.json").write_text(json.dumps(unknown))
    words = ("deploy", "gated", "--image", "img.py:image", "--cpu", "--check", "good.json")
    passed = _command(server, place, *words)
    assert passed.returncode == 0, passed.stderr
    refused = _command(server, place, *words, "--check", "bad.json")
    assert refused.returncode == 4, refused.stderr
    assert "would not be ready for good.json, bad.json; nothing was deployed" in refused.stderr
    assert "bad.json: missing node class MagicUpscale" in refused.stderr
    assert server.get("/api/v1/deployments/gated").json["revision"] == 1


def test_an_image_whose_comfyui_does_not_start_is_not_built(
    server: ServerProcess, place: Path
) -> None:
    failed = _command(server, place, "deploy", "sad", "--image", "img.py:broken", "--cpu")
    assert failed.returncode == 1, failed.stderr
    assert "the engine did not start" in failed.stderr
    assert "this one does not start" in failed.stderr
    assert server.get("/api/v1/deployments/sad").status == 404


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["--image", "img.py:bare"], 4, "the image holds no ComfyUI"),
        (["--image", "img.py:nothing"], 3, "has no 'nothing'; it has: Image, bare, broken, image"),
        (["--image", "0" * 64], 4, "is not built on this server"),
        (["--image", "img.py:image", "--comfyui-dir", "."], 2, "brings its own ComfyUI"),
        (["--image", "img.py:image", "--check", "no.json"], 3, "'no.json' cannot be read"),
        (["--engine", "embedded", "--image", "img.py:image"], 2, "goes without --comfyui-dir"),
    ],
)
def test_what_cannot_be_deployed_is_refused(
    server: ServerProcess,
    place: Path,
    words: list[str],
    code: int,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(place)
    monkeypatch.setenv("COMFYSERVE_URL", server.url)
    assert run_command(["deploy", "none", "--cpu", *words]) == code
    assert says in " ".join(capsys.readouterr().err.split())
    assert server.get("/api/v1/deployments/none").status == 404


def test_what_a_deployment_names_is_not_pruned(server: ServerProcess, place: Path) -> None:
    assert server.post("/api/v1/builds:prune").json["images"] >= 1
    accepted = server.post("/d/studio/prompt", {"prompt": picture(7)})
    job = server.finished(accepted.json["prompt_id"], 60.0)
    assert job["state"] == "succeeded", job
