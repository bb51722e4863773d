"""A pod whose command is a real ComfyUI: it is seen to be one, and gets all of ComfyUI's doors."""

from pathlib import Path

import pytest
from tests.conftest import find_comfyui
from tests.e2e.server_process import picture
from tests.gateway.plain_door import plain_server


@pytest.mark.comfyui
@pytest.mark.slow
@pytest.mark.timeout(300)
def test_a_comfyui_by_its_command_line_is_recognised(tmp_path: Path) -> None:
    comfyui = find_comfyui()
    entrypoint = [str(comfyui.python), str(comfyui.directory / "main.py")]
    with plain_server(tmp_path / "home") as server:
        deployed = server.deploy(
            "pod",
            engine={
                "kind": "command",
                "command": [*entrypoint, "--listen", "0.0.0.0", "--port", "8000"],
                "container_port": 8000,
            },
        )
        assert deployed["engine_version"]
        assert deployed["warnings"] == []
        stats = server.get("/d/pod/system_stats").json
        assert "0.0.0.0" not in stats["system"]["argv"]
        page = server.get("/d/pod/")
        assert (page.status, b"<html" in page.body.lower()) == (200, True)
        assert server.replicas("pod") == []
        accepted = server.post("/d/pod/prompt", {"prompt": picture(255)})
        assert accepted.status == 200
        job = server.finished(accepted.json["prompt_id"], 120)
        assert job["state"] == "succeeded"
        [output] = job["outputs"]
        assert output["name"] == "out_00001_.png"
