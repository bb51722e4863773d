"""Models on a volume count for a real ComfyUI, before and after it was recorded, asleep or awake."""

from pathlib import Path

import pytest
from tests.conftest import find_comfyui
from tests.e2e.server_process import ServerProcess, serving
from tests.gateway.v2_door import unused_port

pytestmark = [pytest.mark.e2e, pytest.mark.comfyui, pytest.mark.timeout(300)]

LOAD = {
    "1": {"class_type": "CheckpointLoaderSimple", "inputs": {"ckpt_name": "sdxl/new.safetensors"}},
    "2": {"class_type": "EmptyLatentImage", "inputs": {"width": 64, "height": 64, "batch_size": 1}},
    "3": {"class_type": "VAEDecode", "inputs": {"samples": ["2", 0], "vae": ["1", 2]}},
    "4": {"class_type": "SaveImage", "inputs": {"images": ["3", 0], "filename_prefix": "x"}},
}


def offered(server: ServerProcess) -> list[str]:
    info = server.get("/d/studio/object_info/CheckpointLoaderSimple").json
    found: list[str] = info["CheckpointLoaderSimple"]["input"]["required"]["ckpt_name"][0]
    return found


def test_models_on_a_volume_count(tmp_path: Path) -> None:
    place = find_comfyui()
    weights = tmp_path / "home" / "volumes" / "weights"
    weights.mkdir(parents=True)
    (weights / "old.safetensors").write_bytes(b"no model, but a file")
    untouched = sorted(path.name for path in (place.directory / "models").rglob("*"))
    with serving(tmp_path / "home", unused_port()) as server:
        server.deploy(
            "studio",
            engine={
                "kind": "comfyui",
                "comfyui_dir": str(place.directory),
                "python": str(place.python),
                "args": ["--cpu"],
            },
            volumes=[{"name": "weights", "mount_path": "models/checkpoints"}],
        )
        assert "old.safetensors" in offered(server)
        refused = server.post("/d/studio/prompt", {"prompt": LOAD})
        assert refused.status == 400
        assert refused.json["node_errors"]["1"]["errors"][0]["type"] == "value_not_in_list"

        moved = {"source": "old.safetensors", "destination": "sdxl/new.safetensors"}
        assert server.post("/api/v1/volumes/weights/move", moved).status == 204
        assert "old.safetensors" not in offered(server)
        assert "sdxl/new.safetensors" in offered(server)
        assert not server.replicas("studio"), "nothing woke for all that"
        accepted = server.post("/d/studio/prompt", {"prompt": LOAD})
        assert accepted.status == 200, accepted.body
        # ComfyUI found the file too: it fails to read it, not to find it.
        ended = server.finished(accepted.json["prompt_id"], timeout_s=200)
        assert ended["state"] == "failed"
        assert ended["error"]["code"] == "node_execution_error", ended["error"]
        assert server.request("DELETE", "/api/v1/volumes/weights").status == 409
    assert untouched == sorted(path.name for path in (place.directory / "models").rglob("*"))
