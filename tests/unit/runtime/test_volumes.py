"""Models on volumes: shown to ComfyUI by a file of paths, and in recorded lists as they are now."""

import json
from dataclasses import replace
from pathlib import Path

import msgspec

from comfyserve.clock import SystemClock
from comfyserve.domain.spec import DeploymentSpec, EngineKind, EngineSpec, VolumeMount
from comfyserve.runtime.engines import launch_spec
from comfyserve.runtime.snapshot import Snapshot
from comfyserve.runtime.volumes import (
    VolumeModels,
    list_volumes,
    make_volume_directory,
    recorded_with,
    remove_volume_directory,
)
from comfyserve.settings import Settings

INFO = {
    "CheckpointLoaderSimple": {
        "input": {"required": {"ckpt_name": [["local.safetensors", "old.safetensors"], {}]}},
        "output": ["MODEL"],
        "output_node": False,
    },
    "LoraLoader": {
        "input": {"required": {"lora_name": ["COMBO", {"options": []}]}},
        "output": [],
        "output_node": False,
    },
}
ANSWERS = {
    "/models/checkpoints": ["local.safetensors", "old.safetensors"],
    "/experiment/models/checkpoints": [
        {"name": "local.safetensors", "pathIndex": 0, "size": 3},
        {"name": "old.safetensors", "pathIndex": 1, "size": 3},
    ],
    "/models/loras": [],
    "/models/embeddings": [],
    "/embeddings": [],
}


def a_spec(*mounts: tuple[str, str]) -> DeploymentSpec:
    return DeploymentSpec(
        engine=EngineSpec(EngineKind.COMFYUI, "/opt/ComfyUI", python="python3"),
        volumes=tuple(VolumeMount(*mount) for mount in mounts),
    )


def a_snapshot() -> Snapshot:
    answers = {path: msgspec.Raw(msgspec.json.encode(value)) for path, value in ANSWERS.items()}
    return Snapshot(msgspec.json.encode(INFO), answers)


def choices(snapshot: Snapshot, class_type: str, name: str) -> tuple[str, ...] | None:
    node_class = snapshot.catalog.get(class_type)
    spec = node_class.input(name) if node_class else None
    return spec.choices if spec else None


async def test_the_lists_follow_the_volume(home: Path) -> None:
    spec = a_spec(("weights", "models"))
    root = make_volume_directory(home, "weights")
    for name in ("checkpoints", "loras", "embeddings"):
        (root / name).mkdir()
    (root / "checkpoints" / "old.safetensors").touch()
    recorded = recorded_with(a_snapshot(), await list_volumes(home, spec))
    recorded = Snapshot.decode(recorded.encode())
    models = VolumeModels(home, SystemClock())
    assert await models.current("d", recorded, spec) is recorded, "nothing changed"

    (root / "checkpoints" / "old.safetensors").unlink()
    (root / "checkpoints" / "sdxl").mkdir()
    (root / "checkpoints" / "sdxl" / "new.safetensors").touch()
    (root / "checkpoints" / "notes.txt").touch()
    (root / "loras" / "style.pt").touch()
    (root / "embeddings" / "bad-hands.pt").touch()
    models.touch()
    current = await models.current("d", recorded, spec)
    now = ("local.safetensors", "sdxl/new.safetensors")
    assert choices(current, "CheckpointLoaderSimple", "ckpt_name") == now
    assert choices(current, "LoraLoader", "lora_name") == ("style.pt",)
    assert current.answer("/models/checkpoints") == list(now)
    assert [item["name"] for item in current.answer("/experiment/models/checkpoints")] == list(now)
    assert current.answer("/embeddings") == ["bad-hands"]
    assert json.loads(current.object_info)["LoraLoader"]["input"]["required"] == {
        "lora_name": ["COMBO", {"options": ["style.pt"]}]
    }
    models.touch()
    assert await models.current("d", recorded, spec) is current, "read again, not made again"
    assert await models.current("d", recorded, DeploymentSpec()) is recorded


async def test_mounts_of_single_folders_and_deeper_ones_count(home: Path) -> None:
    engine = EngineSpec(EngineKind.COMMAND, command=("serve",))
    mounts = (
        VolumeMount("base", "ComfyUI/models/checkpoints"),
        VolumeMount("styles", "ComfyUI/models/loras/styles"),
        VolumeMount("results", "output"),
    )
    spec = DeploymentSpec(engine=engine, volumes=mounts)
    for name in ("base", "styles", "results"):
        (make_volume_directory(home, name) / f"{name}.safetensors").touch()
    assert set(await list_volumes(home, spec)) == {"base", "styles"}
    current = await VolumeModels(home, SystemClock()).current("d", a_snapshot(), spec)
    assert "base.safetensors" in current.answer("/models/checkpoints")
    assert current.answer("/models/loras") == ["styles/styles.safetensors"]


async def test_what_is_no_comfyui_has_no_lists(home: Path) -> None:
    spec = DeploymentSpec(
        engine=EngineSpec(EngineKind.COMMAND, command=("serve",)),
        volumes=(VolumeMount("base", "models"),),
    )
    nothing = Snapshot(b"{}", {})
    assert await VolumeModels(home, SystemClock()).current("d", nothing, spec) is nothing


def test_comfyui_is_shown_the_folders_by_a_file(home: Path, tmp_path: Path) -> None:
    weights = make_volume_directory(home, "weights")
    (weights / "ipadapter").mkdir()
    for name in (".comfyserve-uploads", "custom_nodes", "base_path", "x\n", "clip"):
        (weights / name).mkdir()
    directory = tmp_path / "deployment"

    def launched(spec: DeploymentSpec) -> tuple[dict[str, str], tuple[str, ...], tuple[str, ...]]:
        settings = Settings(home=str(home))
        launch = launch_spec("rv_1", spec, directory=directory, settings=settings)
        path = launch.argv[launch.argv.index("--extra-model-paths-config") + 1]
        assert path in launch.readable
        told: dict[str, str] = json.loads(Path(path).read_text())["comfyserve"]
        return told, launch.writable, launch.argv

    told, writable, _ = launched(a_spec(("weights", "./models")))
    assert told["checkpoints"] == f"{weights}/checkpoints"
    assert told["ipadapter"] == f"{weights}/ipadapter"
    assert told["text_encoders"].splitlines() == [f"{weights}/clip", f"{weights}/text_encoders"]
    assert not {".comfyserve-uploads", "custom_nodes", "base_path", "x\n", "clip"} & set(told)
    assert str(weights) in writable
    told, _, _ = launched(a_spec(("weights", "models/checkpoints"), ("more", "models/unet")))
    assert told == {"checkpoints": str(weights), "diffusion_models": str(home / "volumes/more")}
    plain = replace(a_spec(), engine=EngineSpec())
    without = launch_spec("rv_1", plain, directory=directory, settings=Settings(home=str(home)))
    assert "--extra-model-paths-config" not in without.argv


def test_a_volume_that_is_a_link_keeps_what_it_leads_to(home: Path, tmp_path: Path) -> None:
    elsewhere = tmp_path / "disk"
    elsewhere.mkdir()
    (elsewhere / "model").touch()
    make_volume_directory(home, "plain")
    (home / "volumes" / "linked").symlink_to(elsewhere)
    for name in ("plain", "linked", "never-made"):
        remove_volume_directory(home, name)
    assert list((home / "volumes").iterdir()) == []
    assert (elsewhere / "model").exists()
