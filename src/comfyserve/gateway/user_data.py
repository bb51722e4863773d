"""`/userdata`: the files that ComfyUI's web page keeps, saved workflows above all, by deployment."""

import asyncio
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response

from comfyserve.gateway.answers import empty, json_response
from comfyserve.gateway.beneath import (
    move_file,
    relative_parts,
    remove_file,
    replace_file,
)
from comfyserve.gateway.content_types import content_type_of
from comfyserve.gateway.context import Target, gateway_of, read_body
from comfyserve.gateway.disk import explained
from comfyserve.gateway.files import GUARDED_SINCE, first
from comfyserve.gateway.serving import OpenFile, send_file
from comfyserve.gateway.user_settings import user_dir

_EXISTS = "File already exists"
_MOVE = "move"

Parts = tuple[str, ...]


async def list_user_data(request: Request) -> Response:
    """Names of the files in a directory, or more about them, in the shape that is asked for."""
    target: Target = request.state.target
    wanted = first(request.query_params, "dir") or ""
    if not wanted:
        return PlainTextResponse("Directory not provided", 400)
    parts = _parts_of(wanted)
    if parts is None:
        return PlainTextResponse("Invalid directory", 403)
    root = user_dir(target).joinpath(*parts)
    recurse, full, split = (_is_true(request, name) for name in ("recurse", "full_info", "split"))
    found = await asyncio.to_thread(_list_files, root, recurse=recurse)
    if found is None:
        return PlainTextResponse("Directory not found", 404)
    if full:
        return json_response([_describe(target, facts) for facts in found])
    if split:
        return json_response([[facts.path, *facts.path.split("/")] for facts in found])
    return json_response([facts.path for facts in found])


async def list_user_data_v2(request: Request) -> Response:
    """Everything beneath a directory, directories first."""
    root = user_dir(request.state.target)
    parts = _parts_of(first(request.query_params, "path") or "")
    if parts is None:
        return PlainTextResponse("Invalid path requested", 400)
    directory = root.joinpath(*parts)
    if not await asyncio.to_thread(directory.exists):
        return PlainTextResponse("Requested path not found", 404) if parts else json_response([])
    if not await asyncio.to_thread(directory.is_dir):
        return PlainTextResponse("Requested path is not a directory", 400)
    return json_response(await asyncio.to_thread(_list_tree, root, directory))


async def get_user_data(request: Request) -> Response:
    """One file."""
    target: Target = request.state.target
    names = _names(request)
    if len(names) != 1:
        return empty(404)
    parts = _parts_of(names[0])
    if parts is None:
        return empty(403)
    opened = await asyncio.to_thread(OpenFile.beneath, user_dir(target), parts)
    if opened is None:
        return empty(404)
    headers = {"content-type": content_type_of(parts[-1])}
    if target.version >= GUARDED_SINCE:
        headers |= {"x-content-type-options": "nosniff", "content-disposition": "attachment"}
    return await send_file(request, opened, headers)


async def post_user_data(request: Request) -> Response:
    """Write a file, or move one: `/userdata/{file}` and `/userdata/{file}/move/{dest}`."""
    target: Target = request.state.target
    names = _names(request)
    places = [parts for name in names if (parts := _parts_of(name)) is not None]
    if not names:
        return empty(404)
    if len(places) < len(names):
        return empty(403)
    is_new = first(request.query_params, "overwrite") == "false"
    *source, dest = places
    if source:
        refused = await asyncio.to_thread(_move, user_dir(target), source[0], dest, is_new=is_new)
    else:
        body = await read_body(request, gateway_of(request).settings.max_body_bytes)
        refused = await asyncio.to_thread(_write, user_dir(target), dest, body, is_new=is_new)
    if refused is not None:
        return refused
    path = "/".join(dest)
    if not _is_true(request, "full_info"):
        return json_response(path)
    facts = await asyncio.to_thread(_facts_of, user_dir(target) / path, path)
    return json_response(_describe(target, facts))


async def delete_user_data(request: Request) -> Response:
    """Delete a file."""
    names = _names(request)
    if len(names) != 1:
        return empty(404)
    parts = _parts_of(names[0])
    if parts is None:
        return empty(403)
    with explained(names[0]):
        is_gone = await asyncio.to_thread(remove_file, user_dir(request.state.target), parts)
    return empty(204 if is_gone else 404)


@dataclass(frozen=True, slots=True)
class _Facts:
    """A file: its path in the directory that is listed, bytes, seconds since the epoch."""

    path: str
    size_bytes: int
    modified: float
    created: float


def _describe(target: Target, facts: _Facts) -> dict[str, Any]:
    """ComfyUI's file information: times in seconds, in newer versions in whole milliseconds."""
    modified, created = facts.modified, facts.created
    if target.version >= GUARDED_SINCE:
        modified, created = int(modified * 1000), int(created * 1000)
    return {
        "path": facts.path,
        "size": facts.size_bytes,
        "modified": modified,
        "created": created,
    }


def _facts_of(path: Path, relative: str) -> _Facts:
    facts = path.stat()
    return _Facts(relative, facts.st_size, facts.st_mtime, facts.st_ctime)


def _list_files(directory: Path, *, recurse: bool) -> list[_Facts] | None:
    """The visible files of a directory, sorted; None if there is no such thing."""
    if not directory.exists():
        return None
    return [
        _facts_of(path, str(path.relative_to(directory)))
        for path in _visible(directory, recurse=recurse)
        if path.is_file()
    ]


def _visible(directory: Path, *, recurse: bool) -> Iterator[Path]:
    """As a shell's `*` sees it: without hidden names, and without following links to directories."""
    for path in sorted(directory.glob("[!.]*")):
        yield path
        if recurse and path.is_dir() and not path.is_symlink():
            yield from _visible(path, recurse=True)


def _list_tree(root: Path, directory: Path) -> list[dict[str, Any]]:
    entries: list[dict[str, Any]] = []
    for place, directories, files in os.walk(directory):
        for name in directories:
            path = Path(place, name)
            entries.append({"name": name, "path": str(path.relative_to(root)), "type": "directory"})
        for name in files:
            facts = _facts_of(Path(place, name), name)
            entries.append(
                {
                    "name": name,
                    "path": str(Path(place, name).relative_to(root)),
                    "type": "file",
                    "size": facts.size_bytes,
                    "modified": facts.modified,
                }
            )
    return sorted(entries, key=lambda entry: (entry["type"] != "directory", entry["name"].lower()))


def _write(root: Path, parts: Parts, body: bytes, *, is_new: bool) -> Response | None:
    if is_new and root.joinpath(*parts).exists():
        return PlainTextResponse(_EXISTS, 409)
    with explained("/".join(parts)):
        replace_file(root, parts, body)
    return None


def _move(root: Path, source: Parts, dest: Parts, *, is_new: bool) -> Response | None:
    if not root.joinpath(*source).is_file():
        return empty(404)
    if is_new and root.joinpath(*dest).exists():
        return PlainTextResponse(_EXISTS, 409)
    with explained("/".join(dest)):
        return None if move_file(root, source, dest) else empty(404)


def _parts_of(name: str) -> Parts | None:
    """The steps to a name that was sent; ComfyUI decodes what still looks encoded."""
    return relative_parts(unquote(name) if "%" in name else name)


def _names(request: Request) -> tuple[str, ...]:
    """The names in the path, each decoded once: one file, or two around `move`; else none.

    They are read from the path as it was sent: a slash in a name comes encoded, as `%2F`.
    """
    decoded = request.path_params["file"]
    segments = [
        unquote(segment.decode("ascii")) for segment in request.scope["raw_path"].split(b"/")
    ]
    if segments[-1] == decoded:
        return (decoded,) if decoded else ()
    file, move, dest = segments[-3:]
    return (file, dest) if move == _MOVE and f"{file}/{move}/{dest}" == decoded else ()


def _is_true(request: Request, name: str) -> bool:
    return (first(request.query_params, name) or "").lower() == "true"
