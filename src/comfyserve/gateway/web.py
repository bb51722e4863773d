"""ComfyUI's own web page, from the disk: it opens, and stays open, with nothing awake."""

import asyncio
import os
import re
from html import escape
from pathlib import Path
from string import Template
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response

from comfyserve.gateway.answers import json_response
from comfyserve.gateway.beneath import relative_parts
from comfyserve.gateway.content_types import content_type_of
from comfyserve.gateway.context import Target
from comfyserve.gateway.files import GUARDED_SINCE
from comfyserve.gateway.serving import OpenFile, send_file
from comfyserve.gateway.web_roots import WebRoots, find_web_roots

_DAY_S = 86_400
_PICTURES = (".jpg", ".jpeg", ".png", ".ppm", ".bmp", ".pgm", ".tif", ".tiff", ".webp")
_EXAMPLES = "/api/workflow_templates/"
_EXTENSIONS = "/extensions/"
# Custom nodes import ComfyUI's own scripts like this; under `/d/NAME/` that would miss them.
_ABSOLUTE_IMPORT = re.compile(
    rb"""\b(?:from|import)\s*\(?\s*["']/(?=(?:scripts|extensions|lib)/)"""
)


async def web_file(request: Request) -> Response | None:
    """The file of the page with this path; None if the page has none, or is not read."""
    target: Target = request.state.target
    path: str = request.scope["path"]
    if request.method not in {"GET", "HEAD"}:
        return None
    roots = await _roots_of(request)
    if path == "/" and roots.page is None:
        return _plain_page(target, roots)
    for root, inner in _places(roots, path):
        opened = await asyncio.to_thread(_open_beneath, root, inner)
        if opened is None:
            continue
        headers = {"content-type": content_type_of(inner)} | _cache_headers(path, target.version)
        prefix = request.state.prefix
        if prefix and path.startswith(_EXTENSIONS) and path.endswith(".js"):
            script = await asyncio.to_thread(_read_script, opened, prefix)
            return Response(script, headers=headers)
        return await send_file(request, opened, headers)
    return None


async def global_subgraph(request: Request) -> Response:
    """`/global_subgraphs/{id}`: one blueprint with its data; null for one that is not there."""
    target: Target = request.state.target
    listed = target.snapshot.answer("/global_subgraphs")
    entry = listed.get(request.path_params["id"]) if isinstance(listed, dict) else None
    if not isinstance(entry, dict):
        return json_response(None)
    name = f"{entry.get('name')}.json"
    roots = await _roots_of(request)
    for root in _subgraph_roots(roots, entry):
        data = await asyncio.to_thread(_read_beneath, root, name)
        if data is not None:
            return json_response({**entry, "data": data.decode("utf-8", "replace")})
    return json_response(None)


def _subgraph_roots(roots: WebRoots, entry: dict[str, object]) -> tuple[Path, ...]:
    if entry.get("source") != "custom_node":
        return roots.blueprints
    info = entry.get("info")
    pack = str(info.get("node_pack", "")) if isinstance(info, dict) else ""
    directory = roots.packs.get(pack.removeprefix("custom_nodes."))
    return () if directory is None else (directory / "subgraphs",)


async def _roots_of(request: Request) -> WebRoots:
    """The roots of the deployment's revision, looked for once."""
    target: Target = request.state.target
    revision = target.deployment.revision
    state = request.app.state
    if not hasattr(state, "web_roots"):
        state.web_roots = {}
    known: dict[str, WebRoots] = state.web_roots
    if revision.id not in known:
        known[revision.id] = await asyncio.to_thread(find_web_roots, revision.spec, target.snapshot)
    return known[revision.id]


def _places(roots: WebRoots, path: str) -> tuple[tuple[Path, str], ...]:
    """Directories that may have the file, with its path inside them."""
    directories: tuple[Path, ...] = () if roots.page is None else (roots.page,)
    inner = path.removeprefix("/") or "index.html"
    if path.startswith(_EXAMPLES):
        pack, _, inner = path.removeprefix(_EXAMPLES).partition("/")
        directories = roots.examples(pack)
    elif path.startswith("/templates/"):
        directories, inner = roots.templates, path.removeprefix("/templates/")
    elif path.startswith("/docs/"):
        directories, inner = roots.docs, path.removeprefix("/docs/")
    elif path.startswith(_EXTENSIONS):
        name, _, rest = path.removeprefix(_EXTENSIONS).partition("/")
        if name in roots.extensions:
            directories, inner = (roots.extensions[name],), rest
    return tuple((directory, inner) for directory in directories)


def _open_beneath(root: Path, inner: str) -> OpenFile | None:
    # Roots were resolved when they were found: one that leads elsewhere now was tampered with.
    parts = relative_parts(inner)
    if not parts or Path(os.path.realpath(root)) != root:
        return None
    return OpenFile.beneath(root, parts)


def _read_beneath(root: Path, inner: str) -> bytes | None:
    opened = _open_beneath(root, inner)
    if opened is None:
        return None
    with opened.file as file:
        return file.read()


def _read_script(opened: OpenFile, prefix: str) -> bytes:
    """A script of a custom node whose `/scripts/app.js` is that of its own deployment."""
    with opened.file as file:
        return _ABSOLUTE_IMPORT.sub(rb"\g<0>" + prefix.encode()[1:] + b"/", file.read())


def _cache_headers(path: str, version: tuple[int, ...]) -> dict[str, str]:
    """What ComfyUI says about keeping copies."""
    is_newer = version >= GUARDED_SINCE
    name = path.rpartition("/")[2]
    if not name and path == "/":
        kept = "no-store, must-revalidate" if is_newer else "no-cache"
        return {"cache-control": kept, "pragma": "no-cache", "expires": "0"}
    if path.endswith((".js", ".css")) or (name.startswith("index") and name.endswith(".json")):
        return {"cache-control": "no-store" if is_newer else "no-cache"}
    if path.lower().endswith(_PICTURES):
        return {"cache-control": f"public, max-age={_DAY_S}"}
    return {}


def _plain_page(target: Target, roots: WebRoots) -> Response:
    """A page for deployments without an editor: what this is, and where its API answers."""
    links = "".join(
        f'<li><a href="{quote(path)}">/{escape(path)}</a> {escape(what)}</li>'
        for path, what in _LINKS
    )
    body = _PAGE.substitute(
        name=escape(target.deployment.name),
        engine=escape(target.deployment.spec.engine.kind),
        version=escape(target.deployment.revision.engine_version or "unknown"),
        missing=escape(roots.missing),
        links=links,
    )
    headers = {"content-type": "text/html; charset=utf-8", "cache-control": "no-store"}
    return Response(body, headers=headers)


_LINKS = (
    ("object_info", "its node classes"),
    ("queue", "what runs and waits"),
    ("history", "what ended, with its outputs"),
    ("system_stats", "the engine, as it was recorded"),
)
_PAGE = Template(
    """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>$name - comfyserve</title>
<style>
body { font: 16px/1.5 system-ui, sans-serif; max-width: 40rem; margin: 4rem auto; padding: 0 1rem;
  color-scheme: light dark; }
code { background: #8882; padding: 0 .3em; border-radius: .2em; }
</style>
</head>
<body>
<h1>$name</h1>
<p>This deployment runs the engine <code>$engine</code> (ComfyUI API $version) behind comfyserve. It
speaks ComfyUI's API at this address; there is no editor here: $missing.</p>
<ul>$links</ul>
<p>Reading never wakes anything. <code>POST prompt</code> with a workflow does.</p>
</body>
</html>
"""
)
