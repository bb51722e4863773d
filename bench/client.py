"""One ComfyUI client, the same for both sides: submit, follow by WebSocket, fetch."""

import asyncio
import json
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit

import aiohttp

from bench.prompts import Prompt


class Client:
    """A client with its WebSocket open, as an application holds one."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._id = uuid.uuid4().hex
        self._session = aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
        self._socket: aiohttp.ClientWebSocketResponse | None = None

    async def __aenter__(self) -> Self:
        self._socket = await self._session.ws_connect(f"{self._url}/ws?clientId={self._id}")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._socket is not None:
            await self._socket.close()
        await self._session.close()

    async def run(self, prompt: Prompt) -> float:
        """Submit, wait for the end, read the history, fetch every file; return the seconds."""
        began = time.perf_counter()
        prompt_id = await self.submit(prompt)
        await self.ended(prompt_id)
        async with self._session.get(f"{self._url}/history/{prompt_id}") as answer:
            entry = json.loads(await answer.read())[prompt_id]
        if entry["status"]["status_str"] != "success":
            raise RuntimeError(f"the job failed: {entry['status']}")
        for output in entry["outputs"].values():
            for image in output.get("images", ()):
                async with self._session.get(f"{self._url}/view", params=image) as answer:
                    answer.raise_for_status()
                    await answer.read()
        return time.perf_counter() - began

    async def submit(self, prompt: Prompt) -> str:
        """POST /prompt; return the prompt id."""
        body = {"prompt": prompt, "client_id": self._id}
        async with self._session.post(f"{self._url}/prompt", json=body) as answer:
            answer.raise_for_status()
            found: str = json.loads(await answer.read())["prompt_id"]
            return found

    async def began(self, prompt_id: str) -> None:
        """Wait until the first node of this prompt executes."""
        await self._until(lambda data: data.get("node") is not None, prompt_id)

    async def ended(self, prompt_id: str) -> None:
        """Wait until nothing of this prompt executes any more."""
        await self._until(lambda data: data.get("node") is None, prompt_id)

    async def _until(self, is_sought: Callable[[Mapping[str, Any]], bool], prompt_id: str) -> None:
        assert self._socket is not None  # noqa: S101 - entered
        async for frame in self._socket:
            if frame.type is not aiohttp.WSMsgType.TEXT:
                continue
            message = json.loads(frame.data)
            data = message.get("data", {})
            is_ours = message["type"] == "executing" and data.get("prompt_id") == prompt_id
            if is_ours and is_sought(data):
                return
        raise RuntimeError("the WebSocket closed before the job came so far")


async def requests_a_second(url: str, requests: Sequence[bytes], *, at_once: int) -> float:
    """Send raw requests over `at_once` connections; return how many were answered a second.

    A plain socket costs a tenth of an HTTP client, so it is the server that is measured.
    """
    where = urlsplit(url)
    waiting = iter(requests)

    async def lane() -> None:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        for request in waiting:
            writer.write(request)
            head = await reader.readuntil(b"\r\n\r\n")
            if not head.startswith(b"HTTP/1.1 200"):
                raise RuntimeError(f"refused: {head[:200]!r}")
            length = int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0])
            await reader.readexactly(length)
        writer.close()
        await writer.wait_closed()

    began = time.perf_counter()
    await asyncio.gather(*(lane() for _ in range(at_once)))
    return len(requests) / (time.perf_counter() - began)


def raw_request(method: str, path: str, body: Mapping[str, Any] | None = None) -> bytes:
    """An HTTP/1.1 request as bytes."""
    data = b"" if body is None else json.dumps(body).encode()
    head = f"{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: {len(data)}\r\n\r\n"
    return head.encode() + data
