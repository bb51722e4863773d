"""The bytes of an asset over HTTP, so that no file acts as a page of the gateway's origin."""

import asyncio
import os
from collections.abc import Mapping

from starlette.requests import Request
from starlette.responses import Response

from comfyserve.gateway.content_headers import file_headers
from comfyserve.gateway.content_types import UNKNOWN
from comfyserve.gateway.job_facts import output_content_type
from comfyserve.gateway.serving import OpenFile, send_file
from comfyserve.store import Store
from comfyserve.store.assets import Asset


async def send_asset(
    store: Store, request: Request, asset: Asset, more: Mapping[str, str] | None = None
) -> Response | None:
    """The bytes, whole or in part; None if they are gone."""
    path = store.blobs.path_of(asset.digest)
    try:
        handle = await asyncio.to_thread(os.open, path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return None
    opened = OpenFile.of(handle, asset.digest, asset.created_at)
    return await send_file(request, opened, {**_headers(asset), **(more or {})})


def _headers(asset: Asset) -> dict[str, str]:
    content_type = asset.content_type or UNKNOWN
    if asset.job_id is not None:
        content_type = output_content_type(asset)
    return file_headers(asset.name, content_type)
