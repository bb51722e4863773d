"""Files and stdin: read and written whole, with errors that say what to do."""

import json
import sys
from pathlib import Path
from typing import Any, BinaryIO, Final

from comfyserve.cli.errors import CommandError
from comfyserve.domain.errors import InvalidInput, NotFound

STDIN = "-"
MAX_BYTES: Final = 1024**3
"""What is read: a video that ComfyUI saved may be long, /dev/zero is endless."""


def read_input(name: str) -> bytes:
    """Read a file, or stdin where its name is `-`. Raises NotFound and InvalidInput."""
    return _bounded(sys.stdin.buffer, "stdin") if name == STDIN else read_file(Path(name))


def read_file(path: Path) -> bytes:
    """Read a whole file. Raises NotFound and InvalidInput."""
    try:
        with path.open("rb") as file:
            return _bounded(file, str(path))
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error


def _bounded(file: BinaryIO, name: str) -> bytes:
    data = file.read(MAX_BYTES + 1)
    if len(data) > MAX_BYTES:
        raise InvalidInput(f"{name} has more than {MAX_BYTES} bytes: hand in a smaller file")
    return data


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file, over what was there. Raises CommandError."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error


def write_json(path: Path, document: Any) -> None:  # noqa: ANN401 - the JSON border
    """Write indented JSON. Raises CommandError."""
    write_file(path, f"{json.dumps(document, indent=2, ensure_ascii=False)}\n".encode())
