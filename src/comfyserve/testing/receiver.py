"""A receiver of webhooks on a real socket: takes, refuses, redirects or hangs, as it is told."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import msgspec
from aiohttp import web

DEADLINE_S = 20.0


@dataclass(frozen=True, slots=True)
class Message:
    """What came, as it came."""

    path: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        """By what it is de-duplicated."""
        return self.headers["webhook-id"]

    @property
    def json(self) -> dict[str, Any]:
        """The body, decoded."""
        decoded: dict[str, Any] = msgspec.json.decode(self.body)
        return decoded

    @property
    def type(self) -> str:
        """What it tells of."""
        kind: str = self.json["type"]
        return kind


@dataclass(slots=True)
class Receiver:
    """Listens on the loopback. `answers` are the statuses of the next messages; then 204 for ever.

    A message to a path that is in `hung` waits for its answer until `release`.
    """

    answers: list[int] = field(default_factory=list)
    hung: set[str] = field(default_factory=set)
    headers: dict[str, str] = field(default_factory=dict)
    messages: list[Message] = field(default_factory=list)
    waiting: int = 0
    _port: int = 0
    _news: asyncio.Event = field(default_factory=asyncio.Event)
    _released: asyncio.Event = field(default_factory=asyncio.Event)
    _runner: web.ServerRunner | None = None

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.close()

    async def listen(self) -> None:
        """Begin to listen; after a `close` on the same port."""
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", self._port).start()
        self._port = self._runner.addresses[0][1]

    async def close(self) -> None:
        """Stop listening, as a receiver does that is down. Twice is fine."""
        self.release()
        runner, self._runner = self._runner, None
        if runner is not None:
            await runner.cleanup()

    def url(self, path: str = "/hook", host: str = "127.0.0.1") -> str:
        """Where it takes messages."""
        return f"http://{host}:{self._port}{path}"

    def release(self) -> None:
        """Answer what hangs."""
        self.hung.clear()
        self._released.set()

    async def got(self, count: int, path: str | None = None) -> list[Message]:
        """Wait until so many messages came (to this path); all of them. Raises TimeoutError."""
        async with asyncio.timeout(DEADLINE_S):
            while len(found := self.to(path)) < count:
                self._news.clear()
                await self._news.wait()
            return found

    def to(self, path: str | None) -> list[Message]:
        """What came to a path, or all."""
        return [message for message in self.messages if path in (None, message.path)]

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.messages.append(Message(request.path, headers, await request.read()))
        self._news.set()
        if request.path in self.hung:
            self.waiting += 1
            try:
                await self._released.wait()
            finally:
                self.waiting -= 1
        status = self.answers.pop(0) if self.answers else 204
        return web.Response(status=status, headers=self.headers)
