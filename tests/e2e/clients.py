"""Third-party clients from their registries, each in an environment of its own."""

import subprocess
import venv
from pathlib import Path

import pytest

INSTALL_S = 240


def installed(directory: Path, *packages: str) -> Path:
    """A Python that has packages from the registry; skips the test where there is none to have."""
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", *packages]
    done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode:
        pytest.skip(f"pip cannot install {packages}: {done.stderr[-300:]}")
    return python
