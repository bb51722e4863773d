"""ComfyUI installations that lie on this machine already."""

import shutil
from pathlib import Path

from comfyserve.domain.errors import InvalidInput

_VENV_PYTHONS = ("venv/bin/python", ".venv/bin/python", "../venv/bin/python", "../.venv/bin/python")


def python_of(directory: Path, named: str | None = None) -> str:
    """The interpreter for an installation: as told, else a virtual environment at hand, else python3.

    Raises InvalidInput if the directory is not ComfyUI's, or the Python cannot be run.
    """
    if not (directory / "main.py").is_file() or not (directory / "nodes.py").is_file():
        raise InvalidInput(
            f"'{directory}' on the server is not a ComfyUI directory: give the one that holds "
            "ComfyUI's main.py",
            code="not_comfyui",
        )
    python = named or _at_hand(directory)
    found = shutil.which(python)
    if found is None:
        raise InvalidInput(f"'{python}' is not a Python that can be run", code="python_not_found")
    return found


def _at_hand(directory: Path) -> str:
    for relative in _VENV_PYTHONS:
        if (candidate := directory / relative).exists():
            # Not resolved: a virtual environment is found by the path of its own link.
            return str(candidate.parent.parent.resolve() / "bin" / candidate.name)
    return "python3"
