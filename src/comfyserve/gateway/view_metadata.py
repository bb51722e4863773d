"""`GET /view_metadata/{folder}`: what a safetensors file says about itself, read from its header."""

import asyncio
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from comfyserve.gateway.answers import empty, json_response
from comfyserve.gateway.beneath import relative_parts
from comfyserve.gateway.context import Target
from comfyserve.gateway.files import first

# ComfyUI's bound; the header of a large model has well under this.
_MAX_HEADER_BYTES = 1024 * 1024
_LENGTH = struct.Struct("<Q")
_ENDING = ".safetensors"
# ComfyUI still knows these folders by their former names.
_RENAMED = {"unet": "diffusion_models", "clip": "text_encoders"}


async def view_metadata(request: Request) -> Response:
    """The file's `__metadata__`; an empty 404 where there is none."""
    target: Target = request.state.target
    folder = request.path_params["folder"]
    directories = target.snapshot.folder_paths.get(_RENAMED.get(folder, folder), ())
    name = first(request.query_params, "filename") or ""
    parts = relative_parts(name.lstrip("/"))
    if not name.endswith(_ENDING) or not parts:
        return empty(404)
    found = await asyncio.to_thread(_read_metadata, directories, parts)
    return empty(404) if found is None else json_response(found)


def _read_metadata(directories: Sequence[str], parts: tuple[str, ...]) -> Any:  # noqa: ANN401 - JSON
    for directory in directories:
        path = Path(directory, *parts)
        # A model may be a link: the operator keeps it where there is room.
        if path.is_file():
            return _metadata_of(path)
    return None


def _metadata_of(path: Path) -> Any:  # noqa: ANN401 - JSON
    try:
        with path.open("rb") as file:
            header = _read_header(file)
    except OSError:
        return None
    return header.get("__metadata__") if isinstance(header, dict) else None


def _read_header(file: BinaryIO) -> Any:  # noqa: ANN401 - JSON
    length = file.read(_LENGTH.size)
    if len(length) < _LENGTH.size or _LENGTH.unpack(length)[0] > _MAX_HEADER_BYTES:
        return None
    try:
        return msgspec.json.decode(file.read(_LENGTH.unpack(length)[0]))
    except (msgspec.DecodeError, RecursionError):
        return None
