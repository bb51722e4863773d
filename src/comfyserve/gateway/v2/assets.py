"""`/assets`: records over bytes that are known by their BLAKE3 hash."""

import asyncio
from dataclasses import dataclass

from starlette.responses import Response

from comfyserve.domain.errors import NotFound
from comfyserve.domain.ids import is_canonical_uuid
from comfyserve.gateway.answers import empty, json_response
from comfyserve.gateway.asset_content import send_asset
from comfyserve.gateway.context import read_body
from comfyserve.gateway.door import Call
from comfyserve.gateway.errors import Refusal
from comfyserve.gateway.forms import Form, received_form
from comfyserve.gateway.v2.errors import invalid_request
from comfyserve.gateway.v2.fields import (
    read_content_type,
    read_expires_in,
    read_file_path,
    read_hash,
    read_tags,
    refuse_unknown,
)
from comfyserve.gateway.v2.shapes import asset_json, hash_of
from comfyserve.gateway.v2.submit import claimable_key, read_object
from comfyserve.store.assets import Asset
from comfyserve.store.references import NewReference

_KEY_SPACE = "v2/assets:"
_HASH_FIELDS = frozenset({"hash", "file_path", "tags", "expires_in"})
_MOST_HASH_BODY_BYTES = 64 * 1024


@dataclass(frozen=True, slots=True)
class Upload:
    """The fields beside an uploaded file, read and checked."""

    content_type: str
    file_path: str
    expected_digest: str | None
    tags: tuple[str, ...]
    expires_in: int | None


async def upload_asset(call: Call) -> Response:
    """Take a file: 201 for bytes that were not here, 200 for those that were."""
    key = await claimable_key(call, _KEY_SPACE)
    store = call.gateway.store
    limit = call.target.deployment.spec.limits.max_upload_bytes
    async with received_form(
        call.request, store.blobs, file_field="file", limit_bytes=limit, list_field="tags"
    ) as form:
        upload = _read_upload(form)
        assert form is not None  # noqa: S101 - `_read_upload` refuses it
        digest = form.file.digest
        if upload.expected_digest not in {None, digest}:
            raise Refusal(
                409,
                "hash_mismatch",
                f"the bytes that arrived have the hash {hash_of(digest)}; nothing was stored",
            )
        blob = await asyncio.to_thread(store.blobs.place, form.file)
    referenced = await store.references.refer(
        NewReference(
            deployment_id=call.deployment_id,
            digest=digest,
            file_path=upload.file_path,
            expires_at=_expiry(call, upload.expires_in),
            size_bytes=blob.size_bytes,
            content_type=upload.content_type,
            tags=upload.tags,
            key=key,
        ),
        call.now,
    )
    is_new = referenced.is_new_blob
    shown = asset_json(referenced.asset, call.links, created_new=is_new)
    return json_response(shown, 201 if is_new else 200)


async def refer_by_hash(call: Call) -> Response:
    """A record over bytes that are here already: 201, or 200 for one that there was."""
    key = await claimable_key(call, _KEY_SPACE)
    sent = read_object(await read_body(call.request, _MOST_HASH_BODY_BYTES))
    refuse_unknown(sent, _HASH_FIELDS, "the body")
    path = sent.get("file_path")
    referenced = await call.gateway.store.references.refer(
        NewReference(
            deployment_id=call.deployment_id,
            digest=read_hash(sent.get("hash"), "hash"),
            file_path=None if path is None else read_file_path(path),
            expires_at=_expiry(call, read_expires_in(sent.get("expires_in"))),
            tags=read_tags(sent.get("tags")),
            key=key,
        ),
        call.now,
    )
    shown = asset_json(referenced.asset, call.links, created_new=False)
    return json_response(shown, 201 if referenced.is_new else 200)


async def has_hash(call: Call) -> Response:
    """Whether the deployment has these bytes: 200 or 404, without a body."""
    try:
        digest = read_hash(call.request.path_params["hash"], "hash")
    except Refusal:
        return empty(404)
    is_here = await call.gateway.store.references.has_bytes(call.deployment_id, digest, call.now)
    return empty(200 if is_here else 404)


async def get_asset(call: Call) -> Response:
    """An upload or an output, with a fresh download URL."""
    return json_response(asset_json(await _find(call), call.links))


async def delete_asset(call: Call) -> Response:
    """Delete a record; the bytes go when no other has them. What an open job makes stays."""
    asset = await _find(call)
    if asset.job_id is not None:
        job = await call.gateway.store.jobs.get(asset.job_id)
        if job is not None and not job.is_terminal:
            raise Refusal(409, "asset_in_use", "this asset is in use")
    if not await call.gateway.store.assets.delete(asset.id):
        raise _unknown(asset.id)
    return empty(204)


async def get_content(call: Call) -> Response:
    """The bytes, whole or in part."""
    asset = await _find(call)
    answer = await send_asset(call.gateway.store, call.request, asset)
    if answer is None:
        raise _unknown(asset.id)
    return answer


def _read_upload(form: Form | None) -> Upload:
    if form is None:
        raise invalid_request("an upload is a form: Content-Type multipart/form-data")
    if form.filename is None:
        raise invalid_request("the form needs 'file': a part with a filename")
    texts = form.texts
    for name in ("content_type", "file_path"):
        if name not in texts:
            raise invalid_request(f"the form needs the field '{name}'")
    expected = texts.get("expected_hash")
    return Upload(
        content_type=read_content_type(texts["content_type"]),
        file_path=read_file_path(texts["file_path"]),
        expected_digest=None if expected is None else read_hash(expected, "expected_hash"),
        tags=read_tags(form.listed),
        expires_in=read_expires_in(texts.get("expires_in")),
    )


def _expiry(call: Call, expires_in: int | None) -> float | None:
    """When a record goes; None for never."""
    kept_s = expires_in or call.retention_s
    return call.now + kept_s if kept_s else None


async def _find(call: Call) -> Asset:
    """The asset of the path. One of another deployment is as unknown as one that never was."""
    asset_id = call.request.path_params["asset_id"]
    asset = await call.gateway.store.assets.get(asset_id) if is_canonical_uuid(asset_id) else None
    is_here = asset is not None and asset.deployment_id == call.deployment_id
    if asset is None or not is_here or not asset.is_live(call.now):
        raise _unknown(asset_id)
    return asset


def _unknown(asset_id: str) -> NotFound:
    return NotFound(f"there is no asset '{asset_id[:80]}'")
