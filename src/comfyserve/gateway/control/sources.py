"""User code for applications: a tar that a later deploy names by its digest."""

import asyncio
import tarfile
from pathlib import Path
from typing import Any

from fastapi import APIRouter, Request
from pydantic import BaseModel

from comfyserve.domain.errors import InvalidInput, PayloadTooLarge
from comfyserve.gateway.auth import ADMIN
from comfyserve.gateway.control.common import Caller, Parts

router = APIRouter()

_MOST_BYTES = 256 * 1024 * 1024
_MOST_FILES = 20_000
_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "content": {"application/x-tar": {"schema": {"type": "string", "format": "binary"}}},
    }
}


class SourceModel(BaseModel):
    """Code that is stored: what `engine.app.source` of a spec takes."""

    digest: str
    size_bytes: int
    files: int


@router.post("/sources", tags=["deployments"], status_code=201, openapi_extra=_BODY)
async def post_source(request: Request, gateway: Parts, caller: Caller) -> SourceModel:
    """Store a tar of code; without a deployment that uses it, it is deleted after an hour."""
    caller.require(ADMIN)
    store, size = gateway.store, 0
    async with store.blobs.writer() as writer:
        async for chunk in request.stream():
            size += len(chunk)
            if size > _MOST_BYTES:
                raise PayloadTooLarge(f"code is larger than {_MOST_BYTES >> 20} MiB")
            await writer.write(chunk)
        if not size:
            raise InvalidInput("the body is empty: send a tar of the code", code="invalid_source")
        blob = await writer.commit()
    # First, so that what is refused is deleted too.
    await store.assets.release([blob.digest])
    count = await asyncio.to_thread(_count_files, blob.path)
    return SourceModel(digest=blob.digest, size_bytes=blob.size_bytes, files=count)


def _count_files(path: Path) -> int:
    """How many files a tar holds. Raises InvalidInput for what could not be unpacked safely."""
    count = 0
    try:
        with tarfile.open(path) as archive:
            for member in archive:
                # Refuses what would lie outside, links that lead out, and devices.
                tarfile.data_filter(member, "/comfyserve-source")
                count += 1
                if count > _MOST_FILES:
                    raise InvalidInput(
                        f"the code has more than {_MOST_FILES} files", code="invalid_source"
                    )
    except (tarfile.TarError, EOFError) as error:
        raise InvalidInput(
            f"the code is not a usable tar: {error}", code="invalid_source"
        ) from error
    return count
