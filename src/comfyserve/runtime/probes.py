"""Readiness and liveness: does the engine answer?"""

import asyncio

import aiohttp

from comfyserve.runtime.comfy import ComfyClient
from comfyserve.runtime.launchers.base import Launcher, LaunchState, LaunchStatus

_SHORTEST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.25
# The pause grows with the time waited, so that looking costs at most this share of a start.
_PAUSE_SHARE = 0.02
_ANSWER_TIMEOUT_S = 5.0


async def await_ready(
    launcher: Launcher, session: aiohttp.ClientSession, replica_id: str, *, timeout_s: float
) -> LaunchStatus | None:
    """Wait until the replica's engine answers; None when it ended. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    began = loop.time()
    async with asyncio.timeout(timeout_s):
        while True:
            status = await launcher.get(replica_id)
            if status is None or status.state in {LaunchState.GONE, LaunchState.STOPPING}:
                return None
            if status.state is LaunchState.RUNNING and status.endpoint is not None:
                base_url = f"http://{status.endpoint.host}:{status.endpoint.port}"
                if await ComfyClient(session, base_url).is_alive(_ANSWER_TIMEOUT_S):
                    return status
            pause = _PAUSE_SHARE * (loop.time() - began)
            await asyncio.sleep(min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, pause)))


async def watch_health(client: ComfyClient, *, interval_s: float, failures: int) -> None:
    """Return once the engine failed to answer `failures` times in a row."""
    failed = 0
    while failed < failures:
        await asyncio.sleep(interval_s)
        failed = 0 if await client.is_alive(max(interval_s, _ANSWER_TIMEOUT_S)) else failed + 1
