"""Third-party clients from their registries, each in an environment of its own."""

import subprocess
import venv
from pathlib import Path

import pytest

INSTALL_S = 240


def installed(directory: Path, package: str) -> Path:
    """A Python that has a package from the registry; skips the test where there is none to have."""
    venv.create(directory, with_pip=True)
    python = directory / "bin" / "python"
    install = [str(python), "-m", "pip", "install", "--quiet", package]
    done = subprocess.run(install, capture_output=True, text=True, timeout=INSTALL_S)
    if done.returncode:
        pytest.skip(f"pip cannot install {package}: {done.stderr[-300:]}")
    return python
