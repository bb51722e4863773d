"""The guide to Comfy API v2 does what it says: each shell block runs as it stands."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

GUIDE = Path(__file__).parents[2] / "docs" / "guides" / "comfy-api-v2.md"
SHELL = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run_guide(directory: Path, port: int, more: str = "", **environment: str) -> str:
    """Run the shell blocks in one shell, then `more`; what was printed."""
    blocks = SHELL.findall(GUIDE.read_text("utf-8"))
    script = "\n".join(["set -euo pipefail", "trap 'kill %1; wait' EXIT", *blocks, more])
    result = subprocess.run(
        ["bash", "-c", script.replace("127.0.0.1:8000", f"127.0.0.1:{port}")],
        cwd=directory,
        capture_output=True,
        text=True,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "COMFYSERVE_PORT": str(port),
            "COMFY_BASE_URL": f"http://127.0.0.1:{port}",
            "LANG": "C.UTF-8",
            **environment,
        },
    )
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_the_shell_blocks(tmp_path: Path, free_port: int) -> None:
    told = run_guide(tmp_path, free_port)
    assert 'event: status\ndata: {"status":"succeeded"}' in told
    assert told.index("event: output") < told.index('{"status":"succeeded"}')
    assert (tmp_path / "copy.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.e2e
@pytest.mark.clients
@pytest.mark.timeout(400)
def test_the_python_block(tmp_path: Path, free_port: int, comfy_sdk: Path) -> None:
    (tmp_path / "guide.py").write_text(PYTHON.findall(GUIDE.read_text("utf-8"))[0])
    told = run_guide(tmp_path, free_port, f"{comfy_sdk} guide.py")
    assert "OutputReady" in told
    assert (tmp_path / "inverted.png").read_bytes().startswith(b"\x89PNG")
