"""`/view` and `/view_metadata`: files out, by ComfyUI's rules for names and answers."""

import json
import mimetypes
import os
from pathlib import Path
from typing import Any

from aiohttp import web

from comfyserve.engine.folders import MODEL_FOLDERS, FileType, Folders, OutsideDirectory
from comfyserve.engine.state import engine_of

_ACTIVE_TYPES = frozenset(
    {
        *("text/html", "text/html-sandboxed", "application/xhtml+xml", "image/svg+xml"),
        *("text/javascript", "application/javascript", "text/css", "text/xml", "application/xml"),
    }
)
"""Would run or restyle in a browser: given out as unnamed bytes only."""
_MAX_HEADER_BYTES = 1024 * 1024


def routes() -> list[web.RouteDef]:
    """Return the routes of this module."""
    return [
        web.get("/view", view),
        web.get("/view_metadata/{folder}", view_metadata),
    ]


class _Refused(Exception):
    """A name that is not allowed; carries the status to answer with."""

    def __init__(self, status: int) -> None:
        super().__init__(status)
        self.status = status


async def view(request: web.Request) -> web.StreamResponse:
    """Send a file, as it is or as a preview."""
    query = request.query
    if "filename" not in query:
        return web.Response(status=404)
    folders = engine_of(request).folders
    try:
        path = _viewed_path(
            folders, query["filename"], query.get("type"), query.get("subfolder", "")
        )
    except _Refused as refused:
        return web.Response(status=refused.status)
    if not path.is_file():
        return web.Response(status=404)
    headers = {"Content-Disposition": f'filename="{path.name}"'}
    if "preview" in query or query.get("channel") in ("rgb", "a"):
        body, kind = _converted(path, query.get("preview"), query.get("channel", ""))
        return web.Response(body=body, content_type=kind, headers=headers)
    kind = mimetypes.guess_type(path.name)[0] or "application/octet-stream"
    headers["Content-Type"] = "application/octet-stream" if kind in _ACTIVE_TYPES else kind
    headers["X-Content-Type-Options"] = "nosniff"
    return web.FileResponse(path, headers=headers)


def _converted(path: Path, preview: str | None, channel: str) -> tuple[bytes, str]:
    """Return the image in another form, and its content type."""
    from comfyserve.engine import images  # noqa: PLC0415 - imports Pillow, which takes its time

    if preview is not None:
        return images.encode_preview(path, preview, channel)
    return (
        images.without_alpha(path) if channel == "rgb" else images.alpha_only(path)
    ), "image/png"


def _viewed_path(folders: Folders, name: str, given_type: str | None, subfolder: str) -> Path:
    """Return the path that a request names, which may not exist.

    Raises:
        _Refused: it leads elsewhere.
    """
    bare, annotated = folders.annotated(name)
    if not bare or bare.startswith("/") or ".." in bare:
        raise _Refused(400)
    try:
        file_type = annotated or FileType(given_type or FileType.OUTPUT)
    except ValueError:
        raise _Refused(400) from None
    try:
        return folders.subfolder(file_type, subfolder) / os.path.basename(bare)
    except OutsideDirectory:
        raise _Refused(403) from None


async def view_metadata(request: web.Request) -> web.Response:
    """Return the `__metadata__` of a safetensors file."""
    folder, name = request.match_info["folder"], request.query.get("filename", "")
    if folder not in MODEL_FOLDERS or not name.endswith(".safetensors"):
        return web.Response(status=404)
    for directory in engine_of(request).folders.model_directories(folder):
        metadata = _metadata(directory, name)
        if metadata is not None:
            return web.json_response(metadata)
    return web.Response(status=404)


def _metadata(directory: Path, name: str) -> object | None:
    path = Path(os.path.normpath(directory / name))
    if not path.is_relative_to(directory) or not path.is_file():
        return None
    return _safetensors_header(path).get("__metadata__")


def _safetensors_header(path: Path) -> dict[str, Any]:
    """Read the JSON at the start of the file: its length in 8 bytes, then itself."""
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if length > _MAX_HEADER_BYTES:
            return {}
        header: dict[str, Any] = json.loads(file.read(length))
        return header
