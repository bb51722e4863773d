"""A real ComfyUI from an image: an installation as it is, and a copy with a custom node pack."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from tests.conftest import ComfyUI
from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import ServerProcess, picture, serving
from tests.unit.build.supplies import make_repository

pytestmark = [pytest.mark.comfyui, pytest.mark.slow, pytest.mark.timeout(600)]

_PACK = """
class Invert2:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"image": ("IMAGE",)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "test"

    def run(self, image):
        return (1.0 - image,)


NODE_CLASS_MAPPINGS = {"Invert2": Invert2}
"""
_IMAGES = """
from comfyserve import Image

as_it_is = Image.from_comfyui_dir({directory!r}, python={python!r})
# Torch is not fetched again: the packages of the test cache are put on the path.
whole = Image.comfyui(source={source!r}).add_commands(
    ["echo {packages} > $(python -c 'import site; print(site.getsitepackages()[0])')/host.pth"]
).add_custom_nodes([{pack!r}])
"""


def _deploy(server: ServerProcess, cwd: Path, name: str, image: str) -> str:
    done = subprocess.run(
        [
            sys.executable, "-m", "comfyserve.cli.main",
            "deploy", name, "--image", f"img.py:{image}", "--cpu",
        ],
        cwd=cwd,
        env={**os.environ, "COMFYSERVE_URL": server.url},
        capture_output=True,
        text=True,
        timeout=400,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_a_real_comfyui_runs_from_an_image(tmp_path: Path, comfyui: ComfyUI) -> None:
    source = tmp_path / "source"
    top = {"models", "output", "temp", "user", ".git", "requirements.txt"}

    def left_out(directory: str, names: list[str]) -> set[str]:
        return top.intersection(names) if directory == str(comfyui.directory) else set()

    shutil.copytree(comfyui.directory, source, ignore=left_out)
    (source / "models").mkdir()
    packages = next(comfyui.python.parent.parent.glob("lib/python3*/site-packages"))
    pack = make_repository(tmp_path / "invert-pack", {"__init__.py": _PACK})
    (tmp_path / "img.py").write_text(
        _IMAGES.format(
            directory=str(comfyui.directory),
            python=str(comfyui.python),
            source=str(source),
            packages=packages,
            pack=str(pack),
        )
    )
    port, _ = two_free_ports()
    with serving(tmp_path / "home", port) as server:
        _deploy(server, tmp_path, "as-it-is", "as_it_is")
        job = server.post("/d/as-it-is/prompt", {"prompt": picture(7)}).json
        assert server.finished(job["prompt_id"], 200.0)["state"] == "succeeded"
        server.post("/api/v1/deployments/as-it-is/stop")
        told = _deploy(server, tmp_path, "whole", "whole")
        assert "to import invert-pack" in told
        prompt = picture(0)
        prompt["5"] = {"class_type": "Invert2", "inputs": {"image": ["1", 0]}}
        prompt["2"]["inputs"]["images"] = ["5", 0]
        job = server.post("/d/whole/prompt", {"prompt": prompt}).json
        ended = server.finished(job["prompt_id"], 200.0)
        assert ended["state"] == "succeeded", ended
