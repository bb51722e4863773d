"""Builds: ask for one, follow it, cancel it; remove what is not needed."""

from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request, Response
from fastapi.responses import StreamingResponse

from comfyserve.domain.build import Build
from comfyserve.gateway.auth import ADMIN, READ
from comfyserve.gateway.context import Gateway, decode_json, read_body
from comfyserve.gateway.control.common import Caller, Parts
from comfyserve.gateway.job_events import sse_event
from comfyserve.gateway.models_builds import BuildList, BuildModel, PrunedModel

router = APIRouter(tags=["builds"])

_BODY: dict[str, Any] = {
    "requestBody": {
        "required": True,
        "description": "An image: its steps, as `Image` of the SDK compiles them.",
        "content": {"application/json": {"schema": {"type": "object"}}},
    }
}
_CHUNK_BYTES = 64 * 1024
_TAIL_BYTES = 8 * 1024 * 1024
_HEARTBEAT_S = 15.0
_LOG_PAUSE_S = 0.5
"""Steps write to the log without telling; it is looked at so often."""
_TEXT = "text/plain; charset=utf-8"


@router.post("/builds", status_code=201, openapi_extra=_BODY)
async def post_build(
    request: Request, gateway: Parts, caller: Caller, *, no_cache: bool = False
) -> BuildModel:
    """Build an image. One that is being built already is not built twice: its build is answered.

    Steps that an earlier build has done are reused, unless `no_cache`.
    """
    caller.require(ADMIN)
    body = await read_body(request, gateway.settings.max_body_bytes)
    build = await gateway.builds.submit(decode_json(body), is_fresh=no_cache)
    return BuildModel.of(build)


@router.get("/builds")
async def list_builds(
    gateway: Parts, caller: Caller, limit: Annotated[int, Query(ge=1, le=500)] = 50
) -> BuildList:
    """Builds, newest first."""
    caller.require(READ)
    found = await gateway.store.builds.newest(limit)
    return BuildList(builds=[_shown(gateway, build) for build in found])


@router.get("/builds/{build_id}")
async def get_build(build_id: str, gateway: Parts, caller: Caller) -> BuildModel:
    """One build, with how far it is or what came of it."""
    caller.require(READ)
    return _shown(gateway, await gateway.store.builds.get(build_id))


@router.post("/builds/{build_id}/cancel")
async def cancel_build(build_id: str, gateway: Parts, caller: Caller) -> BuildModel:
    """End a build; on one that has ended nothing happens."""
    caller.require(ADMIN)
    return _shown(gateway, await gateway.builds.cancel(build_id))


@router.post("/builds:prune")
async def prune_builds(
    gateway: Parts,
    caller: Caller,
    unused_for_s: Annotated[float, Query(ge=0)] = 0.0,
    *,
    models: bool = False,
) -> PrunedModel:
    """Remove images that no deployment names and that were not used for so long, and their layers."""
    caller.require(ADMIN)
    pruned = await gateway.builds.prune(unused_for_s=unused_for_s, models=models)
    return PrunedModel.of(pruned)


@router.get("/builds/{build_id}/logs")
async def build_logs(
    build_id: str,
    gateway: Parts,
    caller: Caller,
    tail: Annotated[int, Query(ge=0, le=100_000)] = 100_000,
    *,
    follow: bool = False,
) -> Response:
    """The last lines of a build's log; with `follow`, what comes until it ends."""
    caller.require(READ)
    await gateway.store.builds.get(build_id)
    end = await gateway.builds.log_size(build_id)
    begin = max(0, end - _TAIL_BYTES)
    data = await gateway.builds.log(build_id, begin, _TAIL_BYTES) if end else b""
    last = b"".join(data.splitlines(keepends=True)[-tail:]) if tail else b""
    if not follow:
        return Response(last, media_type=_TEXT)
    return StreamingResponse(_follow(gateway, build_id, last, begin + len(data)), media_type=_TEXT)


@router.get("/builds/{build_id}/events")
async def build_events(build_id: str, gateway: Parts, caller: Caller) -> Response:
    """A build's story as server-sent events to its end: `build` when it changes, `log`, `end`."""
    caller.require(READ)
    await gateway.store.builds.get(build_id)
    return StreamingResponse(
        _events(gateway, build_id),
        media_type="text/event-stream",
        headers={"Cache-Control": "no-store", "X-Accel-Buffering": "no"},
    )


async def _follow(
    gateway: Gateway, build_id: str, first: bytes, offset: int
) -> AsyncIterator[bytes]:
    yield first
    while True:
        build = await gateway.store.builds.get(build_id)
        if await gateway.builds.log_size(build_id) > offset:
            data = await gateway.builds.log(build_id, offset, _CHUNK_BYTES)
            offset += len(data)
            yield data
        elif build.is_terminal:
            return
        else:
            await gateway.builds.news(build_id, _LOG_PAUSE_S)


async def _events(gateway: Gateway, build_id: str) -> AsyncIterator[bytes]:
    offset, silent_s, last = 0, 0.0, None
    while True:
        build = await gateway.store.builds.get(build_id)
        shown = _shown(gateway, build)
        if shown != last:
            yield sse_event("build", shown.model_dump(mode="json"))
            last, silent_s = shown, 0.0
        if await gateway.builds.log_size(build_id) > offset:
            data = await gateway.builds.log(build_id, offset, _CHUNK_BYTES)
            whole = data[: data.rfind(b"\n") + 1] or data
            offset += len(whole)
            yield sse_event("log", {"lines": whole.decode("utf-8", "replace").splitlines()})
        elif build.is_terminal:
            yield sse_event("end", shown.model_dump(mode="json"))
            return
        else:
            await gateway.builds.news(build_id, _LOG_PAUSE_S)
            silent_s += _LOG_PAUSE_S
            if silent_s >= _HEARTBEAT_S:
                yield b": still here\n\n"
                silent_s = 0.0


def _shown(gateway: Gateway, build: Build) -> BuildModel:
    return BuildModel.of(build, gateway.builds.progress(build.id))
