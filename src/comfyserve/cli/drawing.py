"""A drawing of a workflow as a file: SVG or PNG."""

from pathlib import Path

from comfyserve.cli.documents import write_file
from comfyserve.domain.errors import InvalidInput
from comfyserve.workflow import Prepared
from comfyserve.workflow.draw import draw


def check_target(path: Path) -> None:
    """See before any work that the file can be made. Raises InvalidInput."""
    if path.suffix.lower() not in (".svg", ".png"):
        raise InvalidInput(f"--draw takes a name that ends in .svg or .png, not {path.name}")


def save_drawing(prepared: Prepared, path: Path) -> None:
    """Draw the workflow, nodes with problems marked. Raises InvalidInput."""
    check_target(path)
    if path.suffix.lower() == ".svg":
        write_file(path, draw(prepared).encode())
        return
    from comfyserve.cli.png_drawing import paint

    write_file(path, paint(prepared))
