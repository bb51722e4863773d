"""What a client can learn about the engine: its classes, its state, its folders, its log."""

import os
import platform
import sys
from typing import Any

from aiohttp import web

from comfyserve.engine import COMFYUI_VERSION, ENGINE_VERSION
from comfyserve.engine.folders import MODEL_FOLDERS, FileType
from comfyserve.engine.state import engine_of

_PAGE = f"""<!doctype html>
<html lang="en">
<head><meta charset="utf-8"><title>comfyserve engine</title>
<style>body {{ font: 16px/1.5 system-ui, sans-serif; max-width: 40em; margin: 4em auto; padding: 0 1em }}
code {{ background: #8882; padding: .1em .3em; border-radius: .2em }}</style></head>
<body>
<h1>comfyserve engine {ENGINE_VERSION}</h1>
<p>This is <strong>not ComfyUI</strong>. It is a small engine that speaks ComfyUI's protocol (as of
{COMFYUI_VERSION}) and computes a few dozen image nodes, for demos and tests. It has no editor.</p>
<p>See <a href="system_stats"><code>/system_stats</code></a>,
<a href="object_info"><code>/object_info</code></a>, <a href="queue"><code>/queue</code></a>,
<a href="history"><code>/history</code></a>.</p>
</body></html>
"""


def routes() -> list[web.RouteDef]:
    """Return the routes that exist with and without `/api`."""
    return [
        web.get("/object_info", object_info),
        web.get("/object_info/{class_type}", object_info_of),
        web.get("/system_stats", system_stats),
        web.get("/features", features),
        web.get("/embeddings", embeddings),
        web.get("/extensions", no_list),
        web.get("/models", model_folders),
        web.get("/models/{folder}", models),
        web.get("/experiment/models", described_model_folders),
        web.get("/experiment/models/{folder}", described_models),
        web.get("/node_replacements", no_object),
        web.get("/global_subgraphs", no_object),
        web.get("/workflow_templates", no_object),
        web.get("/i18n", no_object),
    ]


def plain_routes() -> list[web.RouteDef]:
    """Return the routes that have no twin below `/api`."""
    return [
        web.get("/", page),
        web.get("/internal/logs", logs),
        web.get("/internal/logs/raw", raw_logs),
        web.patch("/internal/logs/subscribe", subscribe_logs),
        web.get("/internal/folder_paths", folder_paths),
        web.get("/internal/files/{file_type}", files),
        web.get("/{path:.*}", not_found),
    ]


async def page(_request: web.Request) -> web.Response:
    """Say what this is and what it is not."""
    return web.Response(text=_PAGE, content_type="text/html", headers={"Cache-Control": "no-store"})


async def not_found(_request: web.Request) -> web.Response:
    """There is no such page: 404 also where only other methods are served, as in ComfyUI."""
    return web.Response(status=404)


async def object_info(request: web.Request) -> web.Response:
    """Describe all node classes."""
    return web.json_response(engine_of(request).library.object_info())


async def object_info_of(request: web.Request) -> web.Response:
    """Describe one node class; an unknown one has an empty description."""
    engine = engine_of(request)
    name = request.match_info["class_type"]
    node_class = engine.library.classes.get(name)
    described = {} if node_class is None else {name: node_class.describe(engine.folders)}
    return web.json_response(described)


async def system_stats(request: web.Request) -> web.Response:
    """Describe system and device. `comfyserve_engine` is how a client knows that this is no ComfyUI."""
    total, available = _memory()
    device = {
        "name": "cpu",
        "type": "cpu",
        "index": None,
        "vram_total": total,
        "vram_free": available,
        "torch_vram_total": total,
        "torch_vram_free": available,
    }
    system = {
        "os": sys.platform,
        "ram_total": total,
        "ram_free": available,
        "comfyserve_engine": ENGINE_VERSION,
        "comfyui_version": COMFYUI_VERSION,
        "required_frontend_version": None,
        "installed_templates_version": None,
        "required_templates_version": None,
        "comfy_package_versions": [],
        "python_version": f"{platform.python_version()} (comfyserve engine, not ComfyUI)",
        "pytorch_version": None,
        "embedded_python": False,
        "deploy_environment": "comfyserve",
        "argv": ["comfyserve.engine", *engine_of(request).options.argv],
    }
    return web.json_response({"system": system, "devices": [device]})


def _memory() -> tuple[int, int]:
    """Return all and the available memory of the machine in bytes."""
    page_bytes = os.sysconf("SC_PAGE_SIZE")
    total = os.sysconf("SC_PHYS_PAGES") * page_bytes
    return total, os.sysconf("SC_AVPHYS_PAGES") * page_bytes


async def features(request: web.Request) -> web.Response:
    """Return the features of this server."""
    return web.json_response(engine_of(request).features())


async def embeddings(request: web.Request) -> web.Response:
    """Return the names of the embeddings, without endings."""
    names = engine_of(request).folders.models("embeddings")
    return web.json_response([os.path.splitext(name)[0] for name in names])


async def no_list(_request: web.Request) -> web.Response:
    """There are none."""
    return web.json_response([])


async def no_object(_request: web.Request) -> web.Response:
    """There are none."""
    return web.json_response({})


async def model_folders(_request: web.Request) -> web.Response:
    """Return the kinds of models."""
    return web.json_response(list(MODEL_FOLDERS))


async def models(request: web.Request) -> web.Response:
    """Return the models of one kind."""
    folder = request.match_info["folder"]
    if folder not in MODEL_FOLDERS:
        return web.Response(status=404)
    return web.json_response(engine_of(request).folders.models(folder))


async def described_model_folders(request: web.Request) -> web.Response:
    """Return the kinds of models with their directories."""
    places = _model_places(request)
    return web.json_response([{"name": name, "folders": place} for name, place in places.items()])


async def described_models(request: web.Request) -> web.Response:
    """Return the models of one kind with the directory that each is in."""
    folder = request.match_info["folder"]
    if folder not in MODEL_FOLDERS:
        return web.Response(status=404)
    names = engine_of(request).folders.models(folder)
    return web.json_response([{"name": name, "pathIndex": 0} for name in names])


def _model_places(request: web.Request) -> dict[str, list[str]]:
    folders = engine_of(request).folders
    return {name: [str(path) for path in folders.model_directories(name)] for name in MODEL_FOLDERS}


async def logs(request: web.Request) -> web.Response:
    """Return the latest log lines as one text."""
    return web.json_response(engine_of(request).logs.text())


async def raw_logs(request: web.Request) -> web.Response:
    """Return the latest log lines one by one."""
    return web.json_response(engine_of(request).logs.raw())


async def subscribe_logs(request: web.Request) -> web.Response:
    """Send new log lines to a client's socket, or stop doing so."""
    engine = engine_of(request)
    body = await request.json()
    engine.logs.subscribe(body["clientId"], engine.hub.send if body["enabled"] else None)
    return web.Response()


async def folder_paths(request: web.Request) -> web.Response:
    """Return where models lie."""
    return web.json_response(_model_places(request))


async def files(request: web.Request) -> web.Response:
    """Return the files of one directory, the newest first, as annotated names."""
    name = request.match_info["file_type"]
    if name not in set(FileType):
        return web.json_response({"error": "Invalid directory type"}, status=400)
    found: list[Any] = []
    with os.scandir(engine_of(request).folders.of_type(FileType(name))) as entries:
        found = [each for each in entries if each.is_file() and not each.name.startswith(".")]
    found.sort(key=lambda entry: -entry.stat().st_mtime)
    return web.json_response([f"{entry.name} [{name}]" for entry in found])
