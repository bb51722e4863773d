"""Outputs that applications keep, and signed links to any output: made, followed, revoked."""

import asyncio
import hmac
import re
from typing import Annotated, Any
from urllib.parse import quote

from fastapi import APIRouter, Depends, Query, Request, Response
from pydantic import BaseModel, Field

from comfyserve.domain.errors import Forbidden, Gone, InvalidInput, NotFound, PayloadTooLarge
from comfyserve.domain.inside import PREFIX, deployment_of
from comfyserve.domain.signing import signature_of
from comfyserve.gateway.auth import READ, RUN, Principal
from comfyserve.gateway.content_headers import file_headers
from comfyserve.gateway.content_types import UNKNOWN, content_type_of
from comfyserve.gateway.context import Gateway, gateway_of
from comfyserve.gateway.control.common import Parts, deployment_name, identify
from comfyserve.gateway.models import Time
from comfyserve.gateway.serving import OpenFile, send_file
from comfyserve.store.assets import Asset, NewAsset

router = APIRouter()

# The name is for people and for what a browser saves; the id alone says which file it is.
_NAMED: dict[str, Any] = {
    "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}]
}

_MOST_BYTES = 8 * 1024**3
_MOST_EXPIRES_S = 366 * 24 * 3600
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_CONTENT_TYPE = re.compile(r"[\w.+-]{1,64}/[\w.+-]{1,64}", re.ASCII)
_ORIGIN = re.compile(
    r"(https?://(?:[A-Za-z0-9._-]{1,255}|\[[0-9A-Fa-f:.]{2,45}\])(?::\d{1,5})?)(?:/.*)?", re.ASCII
)


async def _owner(request: Request) -> Principal:
    """Who asks: a deployment's own replica by its inside token, else whoever the token says."""
    gateway = gateway_of(request)
    kind, _, secret = request.headers.get("authorization", "").partition(" ")
    if kind.lower() == "bearer" and secret.startswith(PREFIX):
        deployment_id = deployment_of(gateway.store.signing_key, secret.strip())
        if deployment_id is None or not deployment_name(gateway, deployment_id):
            raise Forbidden("this inside token is of no deployment of this server")
        return Principal(f"inside:{deployment_id}", frozenset({READ, RUN}), deployment_id)
    return await identify(request)


Owner = Annotated[Principal, Depends(_owner)]


class StoredOutput(BaseModel):
    """An output: stored bytes of a deployment. `request_id` is that of the request that made it."""

    id: str
    deployment: str
    name: str
    request_id: str
    size_bytes: int
    content_type: str
    digest: str
    created_at: Time

    @classmethod
    def of(cls, gateway: Gateway, asset: Asset) -> "StoredOutput":
        """Show an asset."""
        return cls(
            id=asset.id,
            deployment=deployment_name(gateway, asset.deployment_id),
            name=asset.name,
            request_id=asset.subfolder.removeprefix("requests/"),
            size_bytes=asset.size_bytes,
            content_type=asset.content_type,
            digest=f"blake3:{asset.digest}",
            created_at=asset.created_at,
        )


class NewLink(BaseModel):
    """What a link is asked for with. `base_url` is how its reader reaches this server."""

    expires_s: float = Field(3600, description="how long the link is good, in seconds")
    base_url: str | None = None


class LinkModel(BaseModel):
    """A link that works without a token until `expires_at`, or until it is revoked."""

    url: str
    expires_at: Time


class RevokedModel(BaseModel):
    """How often the links to an output have been revoked."""

    revoked: int


@router.post("/outputs", tags=["outputs"], status_code=201)
async def post_output(
    request: Request,
    gateway: Parts,
    owner: Owner,
    name: Annotated[str, Query(min_length=1, max_length=255)],
    *,
    deployment: str | None = None,
    request_id: Annotated[str, Query(max_length=128)] = "",
) -> StoredOutput:
    """Keep the body as an output of a deployment; its own replicas need not say of which."""
    deployment_id = await _deployment_id(gateway, owner, deployment)
    owner.require(RUN, deployment_id)
    leaf = name.replace("\\", "/").rpartition("/")[2]
    if not leaf or leaf in {".", ".."} or not leaf.isprintable():
        raise InvalidInput(f"'{name[:80]}' cannot be the name of a file")
    size = 0
    async with gateway.store.blobs.writer() as writer:
        async for chunk in request.stream():
            size += len(chunk)
            if size > _MOST_BYTES:
                raise PayloadTooLarge(f"an output is {_MOST_BYTES >> 30} GiB at most")
            await writer.write(chunk)
        if size:
            blob = await writer.commit()
        else:
            blob = await gateway.store.blobs.put_bytes(b"")
    folder = _UNSAFE.sub("_", request_id) or "none"
    asset = await gateway.store.assets.add(
        NewAsset(
            deployment_id=deployment_id,
            job_id=None,
            node_id="",
            name=leaf,
            subfolder=f"requests/{folder}",
            type="output",
            digest=blob.digest,
            size_bytes=blob.size_bytes,
            content_type=_type_of(leaf, request.headers.get("content-type", "")),
        ),
        gateway.clock.now(),
    )
    return StoredOutput.of(gateway, asset)


@router.get("/outputs/{output_id}", tags=["outputs"])
async def get_output(output_id: str, gateway: Parts, owner: Owner) -> StoredOutput:
    """One output, of an application or of a job."""
    return StoredOutput.of(gateway, await _find(gateway, owner, output_id, READ))


@router.delete("/outputs/{output_id}", tags=["outputs"], status_code=204)
async def delete_output(output_id: str, gateway: Parts, owner: Owner) -> None:
    """Delete an output; links to it answer 410 from now on."""
    asset = await _find(gateway, owner, output_id, RUN)
    await gateway.store.assets.delete(asset.id)


@router.post("/outputs/{output_id}/url", tags=["outputs"])
async def post_link(
    output_id: str, wish: NewLink, request: Request, gateway: Parts, owner: Owner
) -> LinkModel:
    """A signed link to an output. It shows the file; it needs no token."""
    asset = await _find(gateway, owner, output_id, READ)
    if not 0 < wish.expires_s <= _MOST_EXPIRES_S:
        raise InvalidInput(
            f"a link expires after more than 0 and at most {_MOST_EXPIRES_S} seconds, not "
            f"{wish.expires_s:g}; one that never expires cannot be made",
            code="invalid_expiry",
        )
    base = wish.base_url or str(request.base_url)
    origin = _ORIGIN.fullmatch(base)
    if origin is None:
        raise InvalidInput(f"base_url '{base[:80]}' is no http address of this server")
    expires_at = int(gateway.clock.now() + wish.expires_s)
    generation = await gateway.store.links.generation(asset.id)
    signature = _signature(gateway, asset.id, generation, expires_at)
    path = f"/api/v1/outputs/{asset.id}/content/{quote(asset.name, safe='')}"
    query = f"exp={expires_at}&gen={generation}&sig={signature}"
    return LinkModel(url=f"{origin[1]}{path}?{query}", expires_at=expires_at)


@router.post("/outputs/{output_id}/revoke", tags=["outputs"])
async def revoke_links(output_id: str, gateway: Parts, owner: Owner) -> RevokedModel:
    """Make all links to an output worthless; new ones can be made."""
    asset = await _find(gateway, owner, output_id, RUN)
    return RevokedModel(revoked=await gateway.store.links.revoke(asset.id))


@router.get("/outputs/{output_id}/content/{name}", tags=["outputs"], openapi_extra=_NAMED)
@router.head("/outputs/{output_id}/content/{name}", tags=["outputs"], include_in_schema=False)
async def follow_link(
    output_id: str,
    request: Request,
    gateway: Parts,
    exp: Annotated[int, Query(ge=0, le=10**11)],
    gen: Annotated[int, Query(ge=0, le=10**9)],
    sig: Annotated[str, Query(max_length=64)],
) -> Response:
    """The bytes behind a signed link, whole or in part: 403 says what is wrong with a link."""
    right = _signature(gateway, output_id, gen, exp)
    if not hmac.compare_digest(sig.encode(), right.encode()):
        raise Forbidden(
            "this link was tampered with: its signature does not fit", code="link_tampered"
        )
    if exp < gateway.clock.now():
        raise Forbidden("this link has expired; ask for a new one", code="link_expired")
    if gen != await gateway.store.links.generation(output_id):
        raise Forbidden("this link was revoked; ask for a new one", code="link_revoked")
    asset = await gateway.store.assets.get(output_id)
    if asset is None or not asset.is_live(gateway.clock.now()):
        raise Gone("this output was deleted", code="output_deleted")
    path = gateway.store.blobs.path_of(asset.digest)
    opened = await asyncio.to_thread(OpenFile.at, path, asset.digest, asset.created_at)
    if opened is None:
        raise Gone("this output was deleted", code="output_deleted")
    content_type = asset.content_type or content_type_of(asset.name)
    return await send_file(request, opened, file_headers(asset.name, content_type))


def _signature(gateway: Gateway, output_id: str, generation: int, expires_at: int) -> str:
    # The generation makes another subject, so that this never signs a URL of another door.
    subject = f"output/{output_id}/{generation}"
    return signature_of(gateway.store.signing_key, subject, expires_at)


async def _deployment_id(gateway: Gateway, owner: Principal, name: str | None) -> str:
    if name is not None:
        return (await gateway.deployer.find(name)).id
    if owner.deployment_id is None:
        raise InvalidInput("say of which deployment: ?deployment=NAME")
    return owner.deployment_id


async def _find(gateway: Gateway, owner: Principal, output_id: str, scope: str) -> Asset:
    """The output with this id, if the caller may see it; a foreign one is not found."""
    asset = await gateway.store.assets.get(output_id)
    is_visible = (
        asset is not None
        and asset.is_live(gateway.clock.now())
        and owner.deployment_id in (None, asset.deployment_id)
    )
    if asset is None or not is_visible:
        raise NotFound(f"there is no output '{output_id[:80]}'", code="output_not_found")
    owner.require(scope, asset.deployment_id)
    return asset


def _type_of(name: str, sent: str) -> str:
    """What was sent, if it says anything, else what the name promises."""
    bare = sent.partition(";")[0].strip().lower()
    known = bare if _CONTENT_TYPE.fullmatch(bare) and bare != UNKNOWN else ""
    return known or content_type_of(name)
