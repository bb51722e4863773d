"""Readiness and liveness: does the engine answer?"""

import asyncio
from dataclasses import dataclass

import aiohttp
from yarl import URL

from comfyserve.runtime.comfy import ComfyClient
from comfyserve.runtime.launchers.base import Launcher, LaunchState, LaunchStatus

_SHORTEST_PAUSE_S = 0.005
_LONGEST_PAUSE_S = 0.25
# The pause grows with the time waited, so that looking costs at most this share of a start.
_PAUSE_SHARE = 0.02
_ANSWER_TIMEOUT_S = 5.0
_NOT_YET = frozenset({502, 503, 504})
_AGENT = {"User-Agent": "comfyserve-probe"}


@dataclass(frozen=True, slots=True)
class Probe:
    """How a server shows that it is ready: as ComfyUI does (`path` None), or by an answer to GET.

    `is_lenient`: any answer will do that does not say "not yet" (502, 503, 504); else only 2xx
    and 3xx.
    """

    path: str | None = None
    is_lenient: bool = False

    async def answers(self, session: aiohttp.ClientSession, base_url: str) -> bool:
        """Ask once."""
        if self.path is None:
            return await ComfyClient(session, base_url).is_alive(_ANSWER_TIMEOUT_S)
        try:
            async with (
                asyncio.timeout(_ANSWER_TIMEOUT_S),
                session.get(
                    URL(base_url + self.path, encoded=True), headers=_AGENT, allow_redirects=False
                ) as answer,
            ):
                return answer.status < 400 or (self.is_lenient and answer.status not in _NOT_YET)
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False


COMFYUI = Probe()


async def await_ready(
    launcher: Launcher,
    session: aiohttp.ClientSession,
    replica_id: str,
    *,
    timeout_s: float,
    probe: Probe = COMFYUI,
) -> LaunchStatus | None:
    """Wait until the replica's server is ready; None when it ended. Raises TimeoutError."""
    loop = asyncio.get_running_loop()
    async with asyncio.timeout(timeout_s):
        status = await _listening(launcher, replica_id)
        began = loop.time()
        while status is not None and not _is_ending(status):
            if status.endpoint is not None:
                base_url = f"http://{status.endpoint.host}:{status.endpoint.port}"
                if await probe.answers(session, base_url):
                    return status
            pause = _PAUSE_SHARE * (loop.time() - began)
            await asyncio.sleep(min(_LONGEST_PAUSE_S, max(_SHORTEST_PAUSE_S, pause)))
            status = await launcher.get(replica_id)
        return None


async def _listening(launcher: Launcher, replica_id: str) -> LaunchStatus | None:
    """The status of the replica once its server listens; None when it ended before, or is unknown."""
    if await launcher.get(replica_id) is None:
        return None
    async for status in launcher.watch():
        if status.id != replica_id:
            continue
        if _is_ending(status):
            return None
        if status.state is LaunchState.RUNNING:
            return status
    return None


def _is_ending(status: LaunchStatus) -> bool:
    return status.state in {LaunchState.GONE, LaunchState.STOPPING}


async def watch_health(client: ComfyClient, *, interval_s: float, failures: int) -> None:
    """Return once the engine failed to answer `failures` times in a row."""
    failed = 0
    while failed < failures:
        await asyncio.sleep(interval_s)
        failed = 0 if await client.is_alive(max(interval_s, _ANSWER_TIMEOUT_S)) else failed + 1
