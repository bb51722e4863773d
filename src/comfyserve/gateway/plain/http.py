"""One HTTP exchange through the plain door: wait for a replica, then stream both ways."""

import asyncio
from dataclasses import dataclass
from typing import Protocol

import aiohttp
import structlog
from starlette.types import Send
from yarl import URL

from comfyserve.domain.errors import ComfyserveError, EngineError
from comfyserve.gateway.auth import ADMIN
from comfyserve.gateway.plain.call import (
    KEEP_ALIVE,
    Call,
    downstream_headers,
    kept_seconds,
    upstream_headers,
)
from comfyserve.gateway.plain.inbound import CallerGone, Inbound
from comfyserve.gateway.plain.upstream import Delivery
from comfyserve.runtime.fleet import Fleet
from comfyserve.runtime.supervisor import Supervisor
from comfyserve.runtime.tasks import TaskScope
from comfyserve.runtime.traffic import Turn

log = structlog.get_logger()

_ATTEMPTS = 3
_NOTICE_S = 2.0
# aiohttp would add these to a request that came without them.
_NOT_ADDED = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
_DEAD = (aiohttp.ClientError, ConnectionError)


class BodyCheck(Protocol):
    """Something to hold against a body before anything wakes for it."""

    async def check(self, inbound: Inbound) -> None:
        """Raise the ComfyserveError to answer with, if the body will not do."""
        ...


@dataclass(frozen=True, slots=True)
class Exchange:
    """What one exchange works with."""

    call: Call
    fleet: Fleet
    session: aiohttp.ClientSession
    inbound: Inbound
    send: Send
    check: "BodyCheck | None" = None


async def proxy_http(exchange: Exchange) -> None:
    """Serve one exchange. Raises what kept it from being answered; a caller that goes ends it all."""
    async with TaskScope("proxy") as tasks:
        caller = tasks.spawn(exchange.inbound.run(), name="receive")
        work = tasks.spawn(_outcome(exchange), name="exchange")
        await asyncio.wait({caller, work}, return_when=asyncio.FIRST_COMPLETED)
        if not work.done():
            return  # Leaving cancels the work, and with it the request to the server.
        error = work.result()
    if error is not None:
        raise error


async def _outcome(exchange: Exchange) -> ComfyserveError | None:
    try:
        await _serve(exchange)
    except ComfyserveError as error:
        return error
    except CallerGone:
        return None
    return None


async def _serve(exchange: Exchange) -> None:
    call, traffic = exchange.call, exchange.fleet.traffic
    if exchange.check is not None:
        await exchange.check.check(exchange.inbound)
    for attempt in range(_ATTEMPTS):
        turn = await traffic.turn(exchange.fleet.deployment)
        try:
            response = await _ask(exchange, turn.supervisor)
            if response is not None:
                async with response:
                    await _relay(exchange, turn, response)
                return
            if attempt == _ATTEMPTS - 1 or not await _is_lost(turn.supervisor):
                what = "takes no connections"
                raise await _failure(call, turn.supervisor, what)
        finally:
            traffic.end(turn.slot)


async def _ask(exchange: Exchange, supervisor: Supervisor) -> aiohttp.ClientResponse | None:
    """The head of the server's answer; None if nothing of the request reached it."""
    call = exchange.call
    if (seconds := kept_seconds(call.header(KEEP_ALIVE.encode()))) is not None:
        supervisor.keep(seconds)
    delivery = Delivery()
    try:
        return await exchange.session.request(
            call.scope["method"],
            URL(supervisor.base_url + call.target, encoded=True),
            headers=upstream_headers(call),
            data=exchange.inbound.pieces() if call.has_body else None,
            skip_auto_headers=_NOT_ADDED,
            allow_redirects=False,
            trace_request_ctx=delivery,
        )
    except _DEAD as error:
        # aiohttp tries a read twice: the first time may have been what killed the server.
        if isinstance(error, aiohttp.ClientConnectorError) and not delivery.is_connected:
            return None
        if isinstance(error.__cause__, CallerGone):
            raise CallerGone from error
        raise await _failure(call, supervisor, "ended the connection without an answer") from error


async def _relay(exchange: Exchange, turn: Turn, response: aiohttp.ClientResponse) -> None:
    """Pass an answer on as it comes. One that breaks off is broken off for the caller too."""
    send, supervisor = exchange.send, turn.supervisor
    if (seconds := kept_seconds(response.headers.get(KEEP_ALIVE))) is not None:
        supervisor.keep(seconds)
    headers = downstream_headers(response.raw_headers)
    headers.append((b"x-comfyserve-receipt", receipt_of(turn).encode("latin-1", "replace")))
    await send({"type": "http.response.start", "status": response.status, "headers": headers})
    content = response.content
    try:
        async for chunk in content.iter_any():
            if content.at_eof():
                await send({"type": "http.response.body", "body": chunk})
                return
            await send({"type": "http.response.body", "body": chunk, "more_body": True})
    except _DEAD as error:
        # Returning in the middle of an answer has the server cut the connection: the caller sees
        # that something is missing.
        log.warning(
            "An answer broke off.",
            event_key="answer_broke_off",
            replica=supervisor.id,
            deployment=exchange.call.deployment.name,
            path=exchange.call.scope["path"][:200],
            error=str(error),
        )
        return
    await send({"type": "http.response.body", "body": b""})


def receipt_of(turn: Turn) -> str:
    """Where the time before the answer went, and on what it is given."""
    supervisor = turn.supervisor
    return (
        f"queued_ms={(turn.waited_s - turn.wake_s) * 1000:.0f}; wake_ms={turn.wake_s * 1000:.0f}; "
        f"replica={supervisor.id}; gpu={supervisor.replica.gpu or 'cpu'}; "
        f"price_per_hour={supervisor.price_per_hour:g}"
    )


async def _is_lost(supervisor: Supervisor) -> bool:
    """Whether a replica is known to have ended, or soon is."""
    try:
        async with asyncio.timeout(_NOTICE_S):
            await supervisor.lost.wait()
    except TimeoutError:
        return False
    return True


async def _failure(call: Call, supervisor: Supervisor, what: str) -> EngineError:
    """What went wrong with a replica; the end of its log is for those who administer it."""
    cause = ""
    if await _is_lost(supervisor):
        replica = supervisor.replica
        code = "" if replica.exit_code is None else f", exit code {replica.exit_code}"
        cause = f": it ended ({replica.cause or 'stopped'}{code})"
    log.warning(
        "A replica did not answer a request.",
        event_key="replica_no_answer",
        replica=supervisor.id,
        deployment=call.deployment.name,
        error=f"{what}{cause}",
    )
    tail = await supervisor.log_tail() if ADMIN in call.principal.scopes else ()
    return EngineError(
        f"replica {supervisor.id} of '{call.deployment.name}' {what}{cause}",
        code="bad_gateway",
        log_tail=tail,
    )
