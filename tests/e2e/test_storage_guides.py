"""The guides to secrets and volumes do what they say."""

from pathlib import Path

import pytest
from tests.e2e.guide import run_guide

pytestmark = pytest.mark.e2e


@pytest.mark.timeout(120)
def test_the_guide_to_secrets(tmp_path: Path, free_port: int) -> None:
    result = run_guide("secrets.md", tmp_path, free_port)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "refused, as it should be" in result.stdout
    assert "there is: HF_TOKEN" in result.stderr
    assert "hf_a" not in result.stdout + result.stderr


@pytest.mark.timeout(120)
def test_the_guide_to_volumes(tmp_path: Path, free_port: int) -> None:
    result = run_guide("volumes.md", tmp_path, free_port)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "weights:/loras/styles/ink.safetensors" in result.stdout
    assert not list((tmp_path / "comfyserve-home" / "volumes").iterdir())
