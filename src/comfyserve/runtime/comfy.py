"""Speak to one ComfyUI: submit, follow, interrupt, fetch. No decisions.

Wire facts: a fresh client id for each connection (a reused one can go deaf), preview metadata
announced (else previews carry no prompt id), `extra_data` always an object (null kills 0.3.64).
"""

import asyncio
import json
import struct
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any

import aiohttp
import msgspec

from comfyserve.domain.errors import EngineError

_CALL_TIMEOUT_S = 30.0
_CHUNK_BYTES = 256 * 1024
_READING = aiohttp.ClientTimeout(sock_connect=_CALL_TIMEOUT_S, sock_read=_CALL_TIMEOUT_S)
# An engine that is stuck does not answer a goodbye.
_GOODBYE = aiohttp.ClientWSTimeout(ws_close=1.0)
PREVIEW_WITH_METADATA = 4


@dataclass(frozen=True, slots=True)
class Said:
    """One JSON message of the engine."""

    kind: str
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Shown:
    """One preview picture of the engine, with its metadata (`node_id`, `prompt_id`, `image_type`)."""

    metadata: Mapping[str, Any]
    image: bytes


@dataclass(frozen=True, slots=True)
class Framed:
    """Another binary message of the engine, such as progress text; passed on as it is."""

    payload: bytes


@dataclass(frozen=True, slots=True)
class Hushed:
    """The connection ended; what follows must be asked for."""


News = Said | Shown | Framed | Hushed


@dataclass(frozen=True, slots=True)
class Forwarded:
    """The engine's answer to a forwarded request, still streaming."""

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True)
class Rejected:
    """The engine refused a prompt: its status and its JSON answer."""

    status: int
    body: Mapping[str, Any]


class ComfyClient:
    """One engine at one address, over a shared HTTP session."""

    def __init__(self, session: aiohttp.ClientSession, base_url: str) -> None:
        self._session = session
        self.base_url = base_url

    async def is_alive(self, timeout_s: float) -> bool:
        """Whether it answers `GET /prompt` within `timeout_s` seconds."""
        try:
            async with (
                asyncio.timeout(timeout_s),
                self._session.get(f"{self.base_url}/prompt") as answer,
            ):
                await answer.read()
                return answer.status == 200
        except (aiohttp.ClientError, OSError, TimeoutError):
            return False

    async def get(self, path: str, *, timeout_s: float = _CALL_TIMEOUT_S) -> tuple[int, bytes]:
        """GET `path`; return status and body. Raises EngineError when it does not answer."""
        with _as_engine_error(f"GET {path}"):
            async with (
                asyncio.timeout(timeout_s),
                self._session.get(self.base_url + path) as answer,
            ):
                return answer.status, await answer.read()

    async def get_json(self, path: str, *, timeout_s: float = _CALL_TIMEOUT_S) -> Any:  # noqa: ANN401 - the JSON border
        """GET `path` and decode it. Raises EngineError for anything but 200 with JSON."""
        status, body = await self.get(path, timeout_s=timeout_s)
        if status != 200:
            raise EngineError(f"the engine answered {status} to GET {path}")
        return _decode(body, path)

    async def post(
        self, path: str, body: Mapping[str, Any], *, timeout_s: float = _CALL_TIMEOUT_S
    ) -> tuple[int, bytes]:
        """POST JSON; return status and body. Raises EngineError when it does not answer."""
        with _as_engine_error(f"POST {path}"):
            async with (
                asyncio.timeout(timeout_s),
                self._session.post(
                    self.base_url + path,
                    data=msgspec.json.encode(body),
                    headers={"Content-Type": "application/json"},
                ) as answer,
            ):
                return answer.status, await answer.read()

    async def submit(self, body: Mapping[str, Any]) -> Rejected | None:
        """POST /prompt; None when it was accepted. Raises EngineError when it does not answer."""
        status, answer = await self.post("/prompt", body)
        if status == 200:
            return None
        try:
            decoded = msgspec.json.decode(answer)
        except msgspec.DecodeError:
            decoded = None
        if isinstance(decoded, dict):
            return Rejected(status, decoded)
        text = answer[:500].decode("utf-8", "replace")
        return Rejected(status, {"error": {"type": "engine_error", "message": text}})

    async def forward(
        self, method: str, path: str, *, query: str, headers: Mapping[str, str], body: bytes
    ) -> Forwarded:
        """Pass a request on as it is and stream the answer. Raises EngineError."""
        with _as_engine_error(f"{method} {path}"):
            url = f"{self.base_url}{path}" + (f"?{query}" if query else "")
            answer = await self._session.request(method, url, headers=headers, data=body)
        return Forwarded(answer.status, answer.headers, _chunks(answer))

    async def history(self, prompt_id: str) -> Mapping[str, Any] | None:
        """The history entry of a finished prompt, None while there is none."""
        found = await self.get_json(f"/history/{prompt_id}")
        return found.get(prompt_id) if isinstance(found, dict) else None

    async def knows(self, prompt_id: str) -> bool:
        """Whether the prompt is running or pending."""
        queue = await self.get_json("/queue")
        items = [*queue.get("queue_running", ()), *queue.get("queue_pending", ())]
        return any(len(item) > 1 and item[1] == prompt_id for item in items)

    async def interrupt(self, prompt_id: str) -> None:
        """Stop this prompt, whether it runs or still waits in the engine's own queue."""
        await self.post("/queue", {"delete": [prompt_id]})
        await self.post("/interrupt", {"prompt_id": prompt_id})

    @asynccontextmanager
    async def fetch(
        self, filename: str, subfolder: str, kind: str
    ) -> AsyncIterator[AsyncIterator[bytes] | None]:
        """Stream a file through `/view`; None if there is no such file."""
        query = {"filename": filename, "subfolder": subfolder, "type": kind}
        with _as_engine_error("GET /view"):
            async with self._session.get(
                f"{self.base_url}/view", params=query, timeout=_READING
            ) as answer:
                if answer.status in {400, 403, 404}:
                    yield None
                elif answer.status != 200:
                    raise EngineError(f"the engine answered {answer.status} for file '{filename}'")
                else:
                    yield answer.content.iter_chunked(_CHUNK_BYTES)

    @asynccontextmanager
    async def listen(self, client_id: str) -> AsyncIterator[AsyncIterator[News]]:
        """Open `/ws` under `client_id` and yield the news; `Hushed` is the last."""
        with _as_engine_error("GET /ws"):
            async with asyncio.timeout(_CALL_TIMEOUT_S):
                socket = await self._session.ws_connect(
                    f"{self.base_url}/ws",
                    params={"clientId": client_id},
                    max_msg_size=0,
                    timeout=_GOODBYE,
                )
        try:
            hello = {"type": "feature_flags", "data": {"supports_preview_metadata": True}}
            await socket.send_json(hello)
            yield _news(socket)
        finally:
            await socket.close()


async def _chunks(answer: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    async with answer:
        async for chunk in answer.content.iter_chunked(_CHUNK_BYTES):
            yield chunk


async def _news(socket: aiohttp.ClientWebSocketResponse) -> AsyncIterator[News]:
    async for frame in socket:
        if frame.type is aiohttp.WSMsgType.TEXT:
            message = _decode(frame.data.encode(), "/ws")
            if isinstance(message, dict) and isinstance(message.get("data"), dict):
                yield Said(str(message.get("type")), message["data"])
        elif frame.type is aiohttp.WSMsgType.BINARY:
            yield read_frame(frame.data)
    yield Hushed()


def read_frame(payload: bytes) -> Shown | Framed:
    """Read a binary frame; a preview with metadata is two big-endian lengths, JSON, picture."""
    if len(payload) < 8:
        return Framed(payload)
    kind, length = struct.unpack_from(">II", payload)
    if kind != PREVIEW_WITH_METADATA or len(payload) < 8 + length:
        return Framed(payload)
    try:
        metadata = msgspec.json.decode(payload[8 : 8 + length])
    except msgspec.DecodeError:
        return Framed(payload)
    return Shown(metadata, payload[8 + length :]) if isinstance(metadata, dict) else Framed(payload)


def _decode(body: bytes, path: str) -> Any:  # noqa: ANN401 - the JSON border
    try:
        return msgspec.json.decode(body)
    except msgspec.DecodeError:
        # ComfyUI writes what Python's json does and msgspec refuses: NaN, half surrogate pairs.
        return _decode_lenient(body, path)


def _decode_lenient(body: bytes, path: str) -> Any:  # noqa: ANN401 - the JSON border
    try:
        text = json.dumps(json.loads(body), ensure_ascii=False)
        return json.loads(text.encode("utf-8", "replace"))
    except ValueError as error:
        raise EngineError(f"the engine's answer to {path} is not JSON: {error}") from error


@contextmanager
def _as_engine_error(doing: str) -> Iterator[None]:
    try:
        yield
    except TimeoutError as error:
        raise EngineError(f"the engine did not answer in time: {doing}") from error
    except (aiohttp.ClientError, OSError) as error:
        raise EngineError(f"the engine cannot be reached: {doing}: {error}") from error
