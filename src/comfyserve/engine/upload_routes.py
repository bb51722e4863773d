"""`/upload/image` and `/upload/mask`: files in, by ComfyUI's rules for names.

A name that is taken is kept where the bytes are the same, else counted up: `cat.png`, `cat (1).png`.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from aiohttp import web
from aiohttp.web_request import FileField

from comfyserve.engine.folders import FileType, Folders, OutsideDirectory
from comfyserve.engine.state import engine_of

_Write = Callable[[IO[bytes], Path], None]


def routes() -> list[web.RouteDef]:
    """Return the routes of this module."""
    return [web.post("/upload/image", upload_image), web.post("/upload/mask", upload_mask)]


class _NoFile(ValueError):
    """Nothing was uploaded, or it has no name that can be used."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where an upload goes."""

    directory: Path
    name: str
    subfolder: str
    file_type: FileType

    def to_wire(self) -> dict[str, str]:
        return {"name": self.name, "subfolder": self.subfolder, "type": self.file_type.value}


async def upload_image(request: web.Request) -> web.Response:
    """Store a file."""
    return _store(engine_of(request).folders, await request.post(), _write_bytes)


async def upload_mask(request: web.Request) -> web.Response:
    """Store an image: alpha from the upload, colours from the image that `original_ref` names."""
    folders = engine_of(request).folders
    form = await request.post()

    def write(mask: IO[bytes], target: Path) -> None:
        from comfyserve.engine.images import save_with_alpha_of  # noqa: PLC0415 - imports Pillow

        # Without a reference this fails with a bare 500: so does ComfyUI.
        original = _referenced(folders, json.loads(str(form["original_ref"])))
        if original is not None and original.is_file():
            save_with_alpha_of(mask, original, target)

    return _store(folders, form, write)


def _store(folders: Folders, form: Mapping[str, Any], write: _Write) -> web.Response:
    try:
        file, place = _place(folders, form)
    except (_NoFile, OutsideDirectory):
        return web.Response(status=400)
    place.directory.mkdir(parents=True, exist_ok=True)
    is_kept = False
    if form.get("overwrite") not in ("true", "1"):
        place, is_kept = _free_name(place, file)
    if not is_kept:
        write(file, place.directory / place.name)
    return web.json_response(place.to_wire())


def _place(folders: Folders, form: Mapping[str, Any]) -> tuple[IO[bytes], _Place]:
    """Return the uploaded file and the place that it asks for.

    Raises:
        _NoFile: there is none, or it has no name.
        OutsideDirectory: its place is not below the directory of its type.
        TypeError: the field is a text; ComfyUI answers with a bare 500, and so does who calls this.
    """
    field = form.get("image")
    if not field:
        raise _NoFile
    if not isinstance(field, FileField):
        raise TypeError("the field `image` holds no file")
    if not field.filename:
        raise _NoFile
    file_type = FileType(form.get("type") or FileType.INPUT)
    subfolder = str(form.get("subfolder", ""))
    path = folders.subfolder(file_type, os.path.join(subfolder, field.filename))
    name = os.path.relpath(path, folders.subfolder(file_type, subfolder))
    return field.file, _Place(folders.subfolder(file_type, subfolder), name, subfolder, file_type)


def _free_name(place: _Place, file: IO[bytes]) -> tuple[_Place, bool]:
    """Return a place that is free, or one that holds the same bytes already (and whether it does)."""
    digest = hashlib.sha256(file.read()).digest()
    file.seek(0)
    stem, suffix = os.path.splitext(place.name)
    candidate, count = place, 0
    while (path := candidate.directory / candidate.name).exists():
        if hashlib.sha256(path.read_bytes()).digest() == digest:
            return candidate, True
        count += 1
        name = f"{stem} ({count}){suffix}"
        candidate = _Place(place.directory, name, place.subfolder, place.file_type)
    return candidate, False


def _write_bytes(file: IO[bytes], target: Path) -> None:
    target.write_bytes(file.read())


def _referenced(folders: Folders, reference: Mapping[str, Any]) -> Path | None:
    """Return the image that an `original_ref` names; `None` where it leads elsewhere."""
    name, annotated = folders.annotated(str(reference["filename"]))
    if not name or name.startswith("/") or ".." in name:
        return None
    try:
        file_type = annotated or FileType(reference.get("type", FileType.OUTPUT))
        return folders.subfolder(file_type, str(reference.get("subfolder", ""))) / name
    except ValueError:
        return None
