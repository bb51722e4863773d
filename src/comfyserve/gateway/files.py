"""`GET /view`: a deployment's files by ComfyUI's rules, with nothing awake.

Outputs and previews come from the store, where they outlive the replica that made them; inputs
lie on disk, in the directory that the replicas read.
"""

import asyncio
import posixpath
from dataclasses import dataclass

from starlette.datastructures import QueryParams
from starlette.requests import Request
from starlette.responses import Response

from comfyserve.gateway.answers import empty
from comfyserve.gateway.beneath import relative_parts
from comfyserve.gateway.content_types import UNKNOWN, content_type_of, is_markup, is_page
from comfyserve.gateway.context import Target, gateway_of
from comfyserve.gateway.serving import OpenFile, send_file
from comfyserve.gateway.studio import Rendering, in_studio, render
from comfyserve.store import Store
from comfyserve.store.assets import Asset
from comfyserve.workflow.input_files import split_annotation

# Since this version ComfyUI also guards against scripts in SVG and against content sniffing.
GUARDED_SINCE = (0, 4)
_KINDS = frozenset({"output", "temp", "input"})
_DIGEST = "blake3:"


@dataclass(frozen=True, slots=True)
class FileName:
    """A file as ComfyUI names it: `kind` is the directory, `folder` the steps inside it."""

    name: str
    folder: tuple[str, ...]
    kind: str

    @property
    def subfolder(self) -> str:
        """The steps as one text."""
        return "/".join(self.folder)


@dataclass(frozen=True, slots=True)
class Found:
    """An open file and what it is called."""

    opened: OpenFile
    name: str


async def view(request: Request) -> Response:
    """Give a file, whole or in part, or a picture made from it."""
    target: Target = request.state.target
    is_guarded = target.version >= GUARDED_SINCE
    store = gateway_of(request).store
    name = first(request.query_params, "filename")
    if name is None:
        return empty(404)
    if is_guarded and name.startswith(_DIGEST):
        found = await _find_digest(store, target, name.removeprefix(_DIGEST))
    else:
        sought = read_name(name, request.query_params)
        if isinstance(sought, int):
            return empty(sought)
        found = await find_file(store, target, sought)
    if found is None:
        return empty(404)
    query = request.query_params
    rendering = Rendering(first(query, "preview"), first(query, "channel") or "")
    if rendering.is_plain:
        is_image = request.headers.get("sec-fetch-dest") == "image"
        headers = _headers(found, is_guarded=is_guarded, is_image=is_image)
        return await send_file(request, found.opened, headers)
    with found.opened.file as file:
        picture = await in_studio(render, file, rendering)
    headers = {"content-type": picture.content_type, "content-disposition": disposition(found.name)}
    return Response(picture.body, headers=headers)


def first(query: QueryParams, name: str) -> str | None:
    """The first value of a parameter, which is the one that ComfyUI reads."""
    values = query.getlist(name)
    return values[0] if values else None


def read_name(name: str, query: QueryParams) -> FileName | int:
    """Read a possibly annotated name with its `type` and `subfolder`, or the status to refuse it."""
    bare, kind = split_annotation(name)
    if not bare or bare.startswith("/") or ".." in bare:
        return 400
    if bare == name:
        told = first(query, "type")
        kind = "output" if told is None else told
    if kind not in _KINDS:
        return 400
    folder = relative_parts(first(query, "subfolder") or "")
    if folder is None:
        return 403
    file = posixpath.basename(bare)
    return FileName(file, folder, kind) if relative_parts(file) else 404


async def find_file(store: Store, target: Target, sought: FileName) -> Found | None:
    """Open a file of the deployment; None if there is none."""
    if sought.kind == "input":
        parts = (*sought.folder, sought.name)
        opened = await asyncio.to_thread(OpenFile.beneath, target.input_dir, parts)
        return None if opened is None else Found(opened, sought.name)
    asset = await store.assets.find(
        target.deployment.id, sought.name, sought.subfolder, sought.kind
    )
    return None if asset is None else await _open_asset(store, asset)


async def _find_digest(store: Store, target: Target, digest: str) -> Found | None:
    asset = await store.assets.find_digest(target.deployment.id, digest)
    return None if asset is None else await _open_asset(store, asset)


async def _open_asset(store: Store, asset: Asset) -> Found | None:
    path = store.blobs.path_of(asset.digest)
    opened = await asyncio.to_thread(OpenFile.at, path, asset.digest, asset.created_at)
    return None if opened is None else Found(opened, asset.name)


def disposition(name: str, kind: str = "") -> str:
    """`Content-Disposition` for a file name, in UTF-8 as ComfyUI sends it."""
    visible = "".join(char for char in name if char >= " " and char != "\x7f")
    quoted = visible.replace("\\", "\\\\").replace('"', '\\"')
    # Starlette writes headers as latin-1, so the bytes that are meant go through it.
    return f'{kind}filename="{quoted}"'.encode().decode("latin-1")


def _headers(found: Found, *, is_guarded: bool, is_image: bool) -> dict[str, str]:
    """Content headers, with what keeps a file from acting as a page of the gateway's origin."""
    content_type = content_type_of(found.name)
    markup = is_markup(content_type)
    is_forced = is_page(content_type) or (is_guarded and markup and not is_image)
    headers = {
        "content-disposition": disposition(found.name),
        "content-type": UNKNOWN if is_forced else content_type,
    }
    if markup:
        # Scripts in it do not run wherever it is opened; as an image it never ran any.
        headers["content-security-policy"] = "sandbox"
    if is_guarded:
        headers["x-content-type-options"] = "nosniff"
        if is_forced:
            headers["content-disposition"] = disposition(found.name, "attachment; ")
        if is_forced or markup:
            headers["cache-control"] = "no-store"
    return headers
