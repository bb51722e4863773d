"""Stored files that a call names as inputs: found in its deployment, laid where the engine looks."""

import asyncio

from comfyserve.domain.errors import NotFound
from comfyserve.domain.ids import is_canonical_uuid
from comfyserve.gateway.disk import explained
from comfyserve.gateway.door import Call
from comfyserve.store.assets import Asset


class BytesGone(NotFound):
    """An asset is on record, but its bytes were deleted meanwhile."""

    code = "blob_missing"


async def find_asset(call: Call, asset_id: str) -> Asset | None:
    """A live asset of the deployment that was addressed; None for any other id."""
    if not is_canonical_uuid(asset_id):
        return None
    asset = await call.gateway.store.assets.get(asset_id)
    is_here = asset is not None and asset.deployment_id == call.deployment_id
    return asset if is_here and asset is not None and asset.is_live(call.now) else None


async def lay_down(call: Call, asset: Asset) -> str:
    """Have an asset in the input directory; return its name there. Raises BytesGone, StorageFull."""
    blob = call.gateway.store.blobs.path_of(asset.digest)
    place = call.gateway.runtime.materials.lay_down
    try:
        with explained(asset.name):
            return await asyncio.to_thread(place, asset, blob, call.target.input_dir)
    except FileNotFoundError:
        raise BytesGone(f"the bytes of asset '{asset.id}' are gone") from None
