"""`POST /upload/image` and `/upload/mask`: files for a deployment, whether or not a replica runs.

Inputs become files in the directory that the replicas read; outputs and temporary ones become
assets, like those that jobs make.
"""

import asyncio
import posixpath
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response

from comfyserve.domain.errors import InvalidInput
from comfyserve.gateway.answers import empty, json_response
from comfyserve.gateway.beneath import relative_parts
from comfyserve.gateway.content_types import content_type_of
from comfyserve.gateway.context import Gateway, Target, as_mapping, decode_json, gateway_of
from comfyserve.gateway.files import FileName, find_file
from comfyserve.gateway.forms import Form, received_form
from comfyserve.gateway.placing import Wish, place_file
from comfyserve.gateway.studio import compose_mask, in_studio
from comfyserve.store.assets import NewAsset
from comfyserve.store.blobs import Incoming
from comfyserve.workflow.input_files import split_annotation

_FILE_FIELD = "image"
_KINDS = ("input", "temp", "output")
_YES = frozenset({"true", "1"})

# What is to be stored for a form; None stores nothing and only finds the name.
Preparation = Callable[[Request, Wish, Form], AbstractAsyncContextManager[Incoming | None]]


async def upload_image(request: Request) -> Response:
    """Store a file of any type."""
    return await _receive(request, _as_sent)


async def upload_mask(request: Request) -> Response:
    """Store a picture that is here already with the alpha of the one that was sent."""
    return await _receive(request, _masked)


async def _receive(request: Request, prepare: Preparation) -> Response:
    gateway, target = gateway_of(request), request.state.target
    limit = target.deployment.spec.limits.max_upload_bytes
    async with received_form(
        request, gateway.store.blobs, file_field=_FILE_FIELD, limit_bytes=limit
    ) as form:
        wish = None if form is None else _read_wish(form)
        if form is None or wish is None:
            return empty(400)
        async with prepare(request, wish, form) as file:
            if wish.kind == "input":
                name = await asyncio.to_thread(_place, target.input_dir, wish, file, form.file)
            else:
                name = await _store_asset(gateway, target, wish, file)
    return json_response({"name": name, "subfolder": wish.subfolder, "type": wish.kind})


@asynccontextmanager
async def _as_sent(request: Request, wish: Wish, form: Form) -> AsyncIterator[Incoming]:  # noqa: ARG001 - a Preparation
    yield form.file


@asynccontextmanager
async def _masked(request: Request, wish: Wish, form: Form) -> AsyncIterator[Incoming | None]:
    store = gateway_of(request).store
    original = await find_file(store, request.state.target, _read_original(form))
    if original is None:
        # ComfyUI answers as if it had saved something, and so do we.
        yield None
        return
    file = store.blobs.begin()
    try:
        await in_studio(_compose, original.opened.file, form.file, wish.leaf, file)
        yield file
    finally:
        await asyncio.to_thread(file.discard)


def _compose(original: BinaryIO, mask: Incoming, name: str, masked: Incoming) -> None:
    with original, mask.settle().open("rb") as above:
        masked.write(compose_mask(original, above, name))


def _place(directory: Path, wish: Wish, file: Incoming | None, arrived: Incoming) -> str:
    source = None if file is None else file.settle()
    return place_file(directory, wish, source, arrived.settle())


async def _store_asset(gateway: Gateway, target: Target, wish: Wish, file: Incoming | None) -> str:
    if file is None:
        return wish.filename
    blob = await asyncio.to_thread(gateway.store.blobs.place, file)
    now = gateway.clock.now()
    is_temp = wish.kind == "temp"
    asset = await gateway.store.assets.add_upload(
        NewAsset(
            deployment_id=target.deployment.id,
            job_id=None,
            node_id="",
            name=wish.leaf,
            subfolder="/".join(wish.folder),
            type=wish.kind,
            digest=blob.digest,
            size_bytes=blob.size_bytes,
            content_type=content_type_of(wish.leaf),
            expires_at=now + gateway.settings.temp_expiry_s if is_temp else None,
        ),
        now,
        overwrite=wish.overwrite,
    )
    return posixpath.join(posixpath.dirname(wish.filename), asset.name)


def _read_wish(form: Form) -> Wish | None:
    """Where the file is to go; None where ComfyUI refuses with an empty 400.

    Raises InvalidInput where ComfyUI answers 500.
    """
    kind = form.texts.get("type", "input")
    if kind not in _KINDS:
        raise InvalidInput(f"type must be input, temp or output, not '{kind[:80]}'")
    if form.filename is None:
        if form.texts.get(_FILE_FIELD):
            raise InvalidInput(f"the field '{_FILE_FIELD}' must be a file, with a filename")
        return None
    subfolder = form.texts.get("subfolder", "")
    parts = relative_parts(subfolder, form.filename)
    if parts is None:
        return None
    if not parts or form.filename.endswith("/"):
        raise InvalidInput(f"'{form.filename[:80]}' is not the name of a file")
    is_overwrite = form.texts.get("overwrite") in _YES
    return Wish(form.filename, subfolder, kind, parts, is_overwrite)


def _read_original(form: Form) -> FileName:
    """The picture that a mask belongs to. Raises InvalidInput."""
    text = form.texts.get("original_ref")
    if text is None:
        raise InvalidInput("a mask needs 'original_ref': the picture that it belongs to")
    reference = as_mapping(decode_json(text.encode()), "original_ref")
    filename, subfolder = reference.get("filename"), reference.get("subfolder") or ""
    kind = reference.get("type", "output")
    if not (isinstance(filename, str) and isinstance(subfolder, str) and isinstance(kind, str)):
        raise InvalidInput("original_ref needs texts: filename, and if need be subfolder and type")
    bare, annotated = split_annotation(filename)
    if bare != filename:
        kind = annotated
    parts = relative_parts(subfolder, bare)
    if kind not in _KINDS or ".." in bare or bare.startswith("/") or not parts:
        raise InvalidInput("original_ref names no file of this deployment")
    return FileName(parts[-1], parts[:-1], kind)
