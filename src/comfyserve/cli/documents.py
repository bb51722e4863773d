"""Files and stdin: read and written whole, with errors that say what to do."""

import json
import sys
from pathlib import Path
from typing import Any

from comfyserve.cli.errors import CommandError
from comfyserve.domain.errors import InvalidInput, NotFound

STDIN = "-"


def read_input(name: str) -> bytes:
    """Read a file, or stdin where its name is `-`. Raises NotFound and InvalidInput."""
    return sys.stdin.buffer.read() if name == STDIN else read_file(Path(name))


def read_file(path: Path) -> bytes:
    """Read a whole file. Raises NotFound and InvalidInput."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise NotFound(f"there is no file {path}") from None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}") from error


def write_file(path: Path, data: bytes) -> None:
    """Write a whole file, over what was there. Raises CommandError."""
    try:
        path.write_bytes(data)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error


def write_json(path: Path, document: Any) -> None:  # noqa: ANN401 - the JSON border
    """Write indented JSON. Raises CommandError."""
    write_file(path, f"{json.dumps(document, indent=2, ensure_ascii=False)}\n".encode())
