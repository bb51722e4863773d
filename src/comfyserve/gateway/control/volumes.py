"""Volumes: named directories; their files listed, sent, fetched, moved and removed."""

import asyncio
import shutil
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Annotated

from fastapi import APIRouter, Depends, Query, Request, Response
from starlette.requests import ClientDisconnect

from comfyserve.domain.errors import Conflict
from comfyserve.gateway import models_stored as m
from comfyserve.gateway import volume_files
from comfyserve.gateway.auth import ADMIN
from comfyserve.gateway.content_types import UNKNOWN
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.control.common import Caller, Parts
from comfyserve.gateway.serving import OpenFile, send_file
from comfyserve.gateway.volume_files import file_parts_of, parts_of
from comfyserve.gateway.volume_uploads import Partial, Upload
from comfyserve.runtime.volumes import (
    make_volume_directory,
    remove_volume_directory,
    volume_directory,
)
from comfyserve.store.volumes import Volume

router = APIRouter()


async def _root(name: str, gateway: Parts, caller: Caller) -> Path:
    caller.require(ADMIN)
    await gateway.store.volumes.find(name)
    return await asyncio.to_thread(make_volume_directory, gateway.settings.home_path, name)


Root = Annotated[Path, Depends(_root)]

_PAGE = 1000
_WRITE_BYTES = 1024 * 1024


@router.get("/volumes", tags=["volumes"])
async def list_volumes(gateway: Parts, caller: Caller) -> m.VolumeList:
    """All volumes by name."""
    caller.require(ADMIN)
    volumes = await gateway.store.volumes.list()
    usage = await asyncio.to_thread(shutil.disk_usage, gateway.settings.home_path)
    return m.VolumeList(
        volumes=[_volume(gateway, volume) for volume in volumes], free_bytes=usage.free
    )


@router.put("/volumes/{name}", tags=["volumes"], status_code=200)
async def put_volume(
    name: str, gateway: Parts, caller: Caller, response: Response
) -> m.VolumeModel:
    """Make a volume (201), or find that it is there (200)."""
    caller.require(ADMIN)
    known = {volume.name for volume in await gateway.store.volumes.list()}
    volume = await gateway.store.volumes.ensure(name, gateway.clock.now())
    await asyncio.to_thread(make_volume_directory, gateway.settings.home_path, name)
    response.status_code = 200 if name in known else 201
    return _volume(gateway, volume)


@router.delete("/volumes/{name}", tags=["volumes"], status_code=204)
async def delete_volume(name: str, gateway: Parts, caller: Caller) -> None:
    """Delete a volume with all its files; refused while a deployment or a replica mounts it."""
    caller.require(ADMIN)
    await gateway.store.volumes.find(name)
    if users := [*_users(gateway, name), *_replicas(gateway, name)]:
        raise Conflict(
            f"the volume '{name}' is mounted by {', '.join(users)}: deploy without it, or delete "
            "the deployment",
            code="volume_in_use",
        )
    await gateway.store.volumes.delete(name)
    await asyncio.to_thread(remove_volume_directory, gateway.settings.home_path, name)


@router.get("/volumes/{name}/entries", tags=["volumes"])
async def list_entries(
    root: Root,
    path: str = "/",
    after: str = "",
    limit: Annotated[int, Query(ge=1, le=_PAGE)] = _PAGE,
) -> m.EntryPage:
    """What lies in a directory, by name; the path of a file gives that one entry."""
    page = await asyncio.to_thread(volume_files.list_page, root, parts_of(path), after, limit)
    return m.EntryPage(
        kind=page.kind,
        entries=[
            m.EntryModel(
                name=entry.name,
                kind=entry.kind,
                size_bytes=entry.size_bytes,
                modified_at=entry.modified,
            )
            for entry in page.entries
        ],
        next_after=page.next_after,
    )


@router.get("/volumes/{name}/files/{path:path}", tags=["volumes"])
async def get_file(root: Root, path: str, request: Request) -> Response:
    """The bytes of a file; ranges and conditions are answered."""
    parts = file_parts_of(path)
    opened = await asyncio.to_thread(OpenFile.beneath, root, parts)
    if opened is None:
        raise volume_files.not_found(parts)
    headers = {
        "content-type": UNKNOWN,
        "content-disposition": "attachment",
        "x-content-type-options": "nosniff",
    }
    return await send_file(request, opened, headers)


@router.delete("/volumes/{name}/files/{path:path}", tags=["volumes"], status_code=204)
async def delete_file(root: Root, path: str, gateway: Parts, *, recursive: bool = False) -> None:
    """Delete a file or an empty directory; with `recursive`, a directory with what is in it."""
    remove = partial(volume_files.remove, root, parts_of(path), recursive=recursive)
    await asyncio.to_thread(remove)
    gateway.volumes.touch()


@router.put("/volumes/{name}/directories/{path:path}", tags=["volumes"], status_code=204)
async def put_directory(root: Root, path: str) -> None:
    """Make a directory, with those above it."""
    await asyncio.to_thread(volume_files.make, root, parts_of(path))


@router.post("/volumes/{name}/move", tags=["volumes"], status_code=204)
async def move_file(root: Root, wanted: m.NewMove, gateway: Parts) -> None:
    """Give a file or directory another path in the same volume."""
    source, dest = parts_of(wanted.source), parts_of(wanted.destination)
    move = partial(volume_files.move, root, source, dest, overwrite=wanted.overwrite)
    await asyncio.to_thread(move)
    gateway.volumes.touch()


@router.post("/volumes/{name}/uploads", tags=["volumes"])
async def begin_upload(root: Root, new: m.NewUpload, gateway: Parts) -> m.UploadModel:
    """Ask whether a file may come, and how much of it is there from an earlier try."""
    parts = file_parts_of(new.path)
    upload = Upload(root, parts, new.size_bytes, new.key, overwrite=new.overwrite)
    held = await asyncio.to_thread(upload.check, gateway.clock.now())
    return m.UploadModel(received_bytes=held)


@router.put("/volumes/{name}/files/{path:path}", tags=["volumes"])
async def put_file(  # noqa: PLR0913 - each is a query parameter
    root: Root,
    path: str,
    gateway: Parts,
    request: Request,
    size_bytes: int,
    key: str,
    offset: int = 0,
    *,
    overwrite: bool = True,
) -> m.UploadModel:
    """Send a file, or the rest of it from `offset` on: the body is its bytes as they are.

    `size_bytes` is the whole file's. It gets its name when all of it is there, not before.
    """
    upload = Upload(root, file_parts_of(path), size_bytes, key, overwrite=overwrite)
    file = await asyncio.to_thread(upload.open, offset)
    try:
        await _receive(request, file)
        is_complete = await asyncio.to_thread(file.finish)
    finally:
        await asyncio.to_thread(file.close)
    if is_complete:
        gateway.volumes.touch()
    return m.UploadModel(received_bytes=file.size, is_complete=is_complete)


async def _receive(request: Request, file: Partial) -> None:
    """Write the body in pieces that are worth a thread's while; what came before a break is kept."""
    waiting = bytearray()
    # Nobody hears the answer then; who comes again goes on from what is there.
    with suppress(ClientDisconnect):
        async for chunk in request.stream():
            waiting += chunk
            if len(waiting) >= _WRITE_BYTES:
                data, waiting = bytes(waiting), bytearray()
                await asyncio.to_thread(file.write, data)
    if waiting:
        await asyncio.to_thread(file.write, bytes(waiting))


def _volume(gateway: Gateway, volume: Volume) -> m.VolumeModel:
    return m.VolumeModel(
        id=volume.id,
        name=volume.name,
        created_at=volume.created_at,
        deployments=_users(gateway, volume.name),
    )


def _users(gateway: Gateway, name: str) -> Sequence[str]:
    return [
        item.name
        for item in gateway.runtime.deployments
        if any(mount.name == name for mount in item.spec.volumes)
    ]


def _replicas(gateway: Gateway, name: str) -> Sequence[str]:
    """Replicas that mount a volume still, of a revision before the present one."""
    directory = str(volume_directory(gateway.settings.home_path, name))
    return [
        supervisor.id
        for item in gateway.runtime.deployments
        for supervisor in gateway.runtime.fleet(item.id).supervisors
        if directory in supervisor.terms.spec.writable
    ]
