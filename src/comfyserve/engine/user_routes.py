"""`/users`, `/settings`, `/userdata`: what the frontend keeps for its one user. Files are read only."""

import json
import os
from pathlib import Path
from typing import Any

from aiohttp import web

from comfyserve.engine.state import engine_of

_SETTINGS_FILE = "comfy.settings.json"


def routes() -> list[web.RouteDef]:
    """Return the routes of this module."""
    return [
        web.get("/users", users),
        web.get("/settings", settings),
        web.post("/settings", change_settings),
        web.get("/settings/{id}", setting),
        web.post("/settings/{id}", change_setting),
        web.get("/userdata", list_userdata),
        web.get("/userdata/{file}", read_userdata),
    ]


async def users(_request: web.Request) -> web.Response:
    """There is one user, and it is ready."""
    return web.json_response({"storage": "server", "migrated": True})


async def settings(request: web.Request) -> web.Response:
    """Return all settings."""
    return web.json_response(_read_settings(_user(request)))


async def setting(request: web.Request) -> web.Response:
    """Return one setting; `null` where it was never set."""
    return web.json_response(_read_settings(_user(request)).get(request.match_info["id"]))


async def change_settings(request: web.Request) -> web.Response:
    """Set several settings."""
    _write_settings(_user(request), await request.json())
    return web.Response()


async def change_setting(request: web.Request) -> web.Response:
    """Set one setting."""
    _write_settings(_user(request), {request.match_info["id"]: await request.json()})
    return web.Response()


def _user(request: web.Request) -> Path:
    return engine_of(request).folders.user


def _read_settings(user: Path) -> dict[str, Any]:
    try:
        content: dict[str, Any] = json.loads((user / _SETTINGS_FILE).read_bytes())
    except FileNotFoundError:
        return {}
    return content


def _write_settings(user: Path, changes: dict[str, Any]) -> None:
    text = json.dumps(_read_settings(user) | changes, indent=4)
    (user / _SETTINGS_FILE).write_text(text, encoding="utf-8")


async def list_userdata(request: web.Request) -> web.Response:
    """List the files of a directory: names, or objects with `full_info`, or parts with `split`."""
    query = request.query
    directory = query.get("dir", "")
    if not directory:
        return web.Response(status=400, text="Directory not provided")
    root = _below(_user(request), directory)
    if root is None:
        return web.Response(status=403, text="Invalid directory")
    if not root.is_dir():
        return web.Response(status=404, text="Directory not found")
    found = sorted(_files(root, is_recursive=_is_on(query.get("recurse"))))
    names = [path.relative_to(root).as_posix() for path in found]
    if _is_on(query.get("full_info")):
        return web.json_response(
            [_info(path, name) for path, name in zip(found, names, strict=True)]
        )
    if _is_on(query.get("split")):
        return web.json_response([[name, *name.split("/")] for name in names])
    return web.json_response(names)


async def read_userdata(request: web.Request) -> web.StreamResponse:
    """Return one file."""
    path = _below(_user(request), request.match_info["file"])
    if path is None:
        return web.Response(status=403)
    return web.FileResponse(path) if path.is_file() else web.Response(status=404)


def _below(root: Path, name: str) -> Path | None:
    path = Path(os.path.normpath(root / name))
    return path if path.is_relative_to(root) else None


def _files(root: Path, *, is_recursive: bool) -> list[Path]:
    return [path for path in root.glob("**/*" if is_recursive else "*") if path.is_file()]


def _is_on(value: str | None) -> bool:
    return value is not None and value.lower() == "true"


def _info(path: Path, name: str) -> dict[str, Any]:
    status = path.stat()
    return {
        "path": name,
        "size": status.st_size,
        "modified": int(status.st_mtime * 1000),
        "created": int(status.st_ctime * 1000),
    }
