"""The guides to secrets, volumes and HTTPS do what they say."""

from pathlib import Path

import pytest
from tests.e2e.guide import run_guide
from tests.gateway.v2_door import unused_port

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


@pytest.mark.timeout(120)
def test_the_guide_to_https(tmp_path: Path, free_port: int) -> None:
    secure, plain = str(unused_port()), str(unused_port())
    result = run_guide("https.md", tmp_path, free_port, ports={"9443": secure, "9080": plain})
    assert result.returncode == 0, result.stdout + result.stderr
    assert '"queue_running"' in result.stdout
    assert f"308 https://demo.gpu.test:{secure}/queue" in result.stdout
