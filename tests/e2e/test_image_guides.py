"""The guides to images do what they say, beside repositories that stand for real ones."""

from pathlib import Path

import pytest
from tests.e2e.comfyui_like import comfyui_like
from tests.e2e.fake_hub import serving_hub
from tests.e2e.guide import run_guide
from tests.unit.build.supplies import make_repository

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(240)]


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A directory with the repositories that the guides name."""
    make_repository(tmp_path / "comfyui", comfyui_like(), "v1.0")
    make_repository(tmp_path / "my-pack", {"__init__.py": "NODE_CLASS_MAPPINGS = {}\n"}, "v1.0")
    return tmp_path


def test_deploy_comfyui_as_it_is(place: Path, free_port: int) -> None:
    result = run_guide("deploy-comfyui-as-it-is.md", place, free_port)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "/d/preview/" in result.stdout
    assert "EmptyImage" in (place / "object_info.json").read_text()
    assert "removed 0 images" in result.stderr


def test_custom_nodes(place: Path, free_port: int) -> None:
    result = run_guide("custom-nodes.md", place, free_port)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "import of my-pack" in result.stdout
    assert "custom_node my-pack" in result.stdout


def test_bake_or_mount_weights(place: Path, free_port: int) -> None:
    with serving_hub(b"weights" * 1000) as hub:
        result = run_guide(
            "bake-or-mount-weights.md", place, free_port, env={"HF_ENDPOINT": hub.url}
        )
    assert result.returncode == 0, result.stdout + result.stderr
    stored = list((place / "comfyserve-home" / "models" / "contents").iterdir())
    assert [path.name for path in stored] == [hub.sha256]
