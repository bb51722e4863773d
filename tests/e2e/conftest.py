"""What the end-to-end tests share."""

import subprocess
import sys
from pathlib import Path

import pytest
from tests.e2e.clients import installed


@pytest.fixture(scope="session")
def comfy_sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Python with the official SDK of Comfy API v2."""
    has_sdk = subprocess.run([sys.executable, "-c", "import comfy_sdk"], capture_output=True)
    if has_sdk.returncode == 0:
        return Path(sys.executable)
    return installed(tmp_path_factory.mktemp("comfy-sdk"), "comfy-sdk")
