"""A drawing of a workflow as a file: SVG as it is, PNG where the machine has a converter."""

import shutil
import subprocess
from pathlib import Path

from comfyserve.cli.documents import write_file
from comfyserve.cli.errors import CommandError
from comfyserve.domain.errors import InvalidInput
from comfyserve.workflow import Prepared
from comfyserve.workflow.draw import draw

# The program, and what makes it read SVG from stdin and write PNG to stdout.
_CONVERTERS = (
    ("rsvg-convert", ("--format=png",)),
    ("resvg", ("-", "-c")),
    ("inkscape", ("--pipe", "--export-type=png", "--export-filename=-")),
    ("magick", ("svg:-", "png:-")),
)
_CONVERT_S = 60.0


def check_target(path: Path) -> None:
    """See before any work that the file can be made. Raises InvalidInput."""
    match path.suffix.lower():
        case ".svg":
            return
        case ".png":
            if _converter() is None:
                names = ", ".join(name for name, _ in _CONVERTERS)
                raise InvalidInput(
                    f"a PNG takes one of {names}, and none is on PATH: "
                    f"draw {path.with_suffix('.svg')} instead"
                )
        case _:
            raise InvalidInput(f"--draw takes a name that ends in .svg or .png, not {path.name}")


def save_drawing(prepared: Prepared, path: Path) -> None:
    """Draw the workflow, nodes with problems marked. Raises InvalidInput and CommandError."""
    check_target(path)
    svg = draw(prepared).encode()
    write_file(path, svg if path.suffix.lower() == ".svg" else _as_png(svg, path))


def _converter() -> list[str] | None:
    for name, arguments in _CONVERTERS:
        if program := shutil.which(name):
            return [program, *arguments]
    return None


def _as_png(svg: bytes, path: Path) -> bytes:
    command = _converter()
    assert command is not None  # noqa: S101 - see check_target
    instead = f"draw {path.with_suffix('.svg')} instead"
    try:
        done = subprocess.run(  # noqa: S603 - one of the programs above
            command, input=svg, capture_output=True, timeout=_CONVERT_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CommandError(f"{command[0]} could not make a PNG ({error}): {instead}") from error
    if done.returncode or not done.stdout:
        said = done.stderr.decode("utf-8", "replace").splitlines()
        raise CommandError(f"{command[0]} could not make a PNG: {instead}", evidence=said[-5:])
    return done.stdout
