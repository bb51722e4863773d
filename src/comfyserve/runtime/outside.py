"""Requests to URLs that callers gave: every address and every redirect is judged, all is bounded.

The judgement (`domain/outside.py`) is made where the connection is made: names are resolved here,
once, and the socket goes to the very address that was judged. So a name that leads elsewhere the
next time (DNS rebinding) gains nothing.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from types import TracebackType
from typing import Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from comfyserve.domain.errors import FetchFailed, PayloadTooLarge, UrlRefused
from comfyserve.domain.outside import OutsidePolicy, origin_of

CHUNK_BYTES = 256 * 1024
_RESOLVER_THREADS = 8
_CONNECTIONS = 256
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_HARMLESS = frozenset({"range", "if-range"})
"""What another origin may be told too: no credential."""
_AGENT = {"User-Agent": "comfyserve"}


@dataclass(frozen=True, slots=True)
class FetchLimits:
    """How much of the outside one fetch takes in. A content type may be a pattern: `image/*`."""

    size_bytes: int
    timeout_s: float = 60.0
    idle_s: float = 20.0
    redirects: int = 5
    content_types: tuple[str, ...] = ("*/*",)


@dataclass(slots=True)
class Fetched:
    """An answer whose head is there; its bytes come from `chunks`, once."""

    url: str
    status: int
    content_type: str
    size_bytes: int | None
    headers: Mapping[str, str]
    _response: aiohttp.ClientResponse = field(repr=False)
    _limits: FetchLimits = field(repr=False)

    async def chunks(self) -> AsyncIterator[bytes]:
        """The bytes as they come. Raises PayloadTooLarge beyond the limit, FetchFailed."""
        taken = 0
        async for chunk in self._response.content.iter_chunked(CHUNK_BYTES):
            taken += len(chunk)
            if taken > self._limits.size_bytes:
                raise _too_large(self.url, self._limits)
            yield chunk

    async def read(self) -> bytes:
        """All of it."""
        return b"".join([chunk async for chunk in self.chunks()])


@dataclass(frozen=True, slots=True)
class Posted:
    """The head of an answer. `retry_after_s` is when the receiver wants to be asked again."""

    status: int
    retry_after_s: float | None = None


class Outside:
    """The one way to URLs that callers gave."""

    def __init__(self, policy: OutsidePolicy, resolver: AbstractResolver | None = None) -> None:
        self.policy = policy
        self._resolver = _JudgingResolver(policy, resolver or _ThreadResolver())
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,
            socket_factory=self._open_socket,
            limit=_CONNECTIONS,
            # A kept connection that the other side has closed would cost a message its try.
            force_close=True,
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(total=None),
            cookie_jar=aiohttp.DummyCookieJar(),
            trust_env=False,
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()
        await self._resolver.close()

    async def post(
        self, url: str, body: bytes, headers: Mapping[str, str], *, timeout_s: float
    ) -> Posted:
        """Send `body`; the head of the answer, whose body is not read. A redirect is not followed.

        Raises UrlRefused, FetchFailed.
        """
        judged = self.policy.judge_url(url)
        async with _bounded(judged, timeout_s), self._request("POST", judged, headers, body) as got:
            return Posted(got.status, _seconds(got.headers.get("Retry-After")))

    @asynccontextmanager
    async def fetch(
        self, url: str, limits: FetchLimits, headers: Mapping[str, str] | None = None
    ) -> AsyncIterator[Fetched]:
        """Get what a URL leads to, within `limits`; they hold for the whole context.

        `headers` go to the URL's own origin only, but for those that ask for a part.
        Raises UrlRefused, FetchFailed, PayloadTooLarge.
        """
        judged = self.policy.judge_url(url)
        async with _bounded(judged, limits.timeout_s):
            for _ in range(limits.redirects + 1):
                async with self._request("GET", judged, headers or {}, None, limits) as response:
                    if response.status not in _REDIRECTS:
                        yield _accept(judged, response, limits)
                        return
                    target = self._target(response, judged)
                if origin_of(target) != origin_of(judged):
                    headers = {n: v for n, v in (headers or {}).items() if n.lower() in _HARMLESS}
                judged = target
            raise FetchFailed(f"'{url}' redirects more than {limits.redirects} times.")

    def _target(self, response: aiohttp.ClientResponse, judged: str) -> str:
        location = response.headers.get("Location")
        if location is None:
            raise FetchFailed(f"'{judged}' answers {response.status} without saying where to go.")
        try:
            target = str(response.url.join(URL(location)))
        except ValueError:
            raise UrlRefused(f"'{judged}' redirects to something that is not a URL.") from None
        return self.policy.judge_redirect(target, judged)

    @asynccontextmanager
    async def _request(
        self,
        method: str,
        url: str,
        headers: Mapping[str, str],
        body: bytes | None,
        limits: FetchLimits | None = None,
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        if self._session is None:
            raise RuntimeError("the outside is closed")
        idle_s = None if limits is None else limits.idle_s
        async with self._session.request(
            method,
            url,
            data=body,
            headers={**_AGENT, "Accept-Encoding": "identity", **headers},
            allow_redirects=False,
            timeout=aiohttp.ClientTimeout(total=None, sock_read=idle_s, sock_connect=idle_s),
        ) as response:
            yield response

    def _open_socket(self, info: aiohttp.AddrInfoType) -> socket.socket:
        """The last gate, which literal addresses pass too."""
        family, kind, protocol, _, address = info
        try:
            self.policy.judge_address(str(address[0]))
        except UrlRefused as error:
            raise _Barred(error) from error
        return socket.socket(family, kind, protocol)


class _Barred(OSError):
    """How a refusal travels through a library that knows no others."""

    def __init__(self, refusal: UrlRefused) -> None:
        super().__init__(str(refusal))
        self.refusal = refusal


class _JudgingResolver(AbstractResolver):
    """Lets a name through only if all of its addresses may be connected to."""

    def __init__(self, policy: OutsidePolicy, inner: AbstractResolver) -> None:
        self._policy = policy
        self._inner = inner

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """The addresses of a host. Raises UrlRefused, OSError."""
        found = await self._inner.resolve(host, port, family)
        for each in found:
            self._policy.judge_address(each["host"], host=host)
        return found

    async def close(self) -> None:
        """Release what the resolver below holds."""
        await self._inner.close()


class _ThreadResolver(AbstractResolver):
    """The system's resolver in threads of its own: a dead name server holds up nobody else."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(_RESOLVER_THREADS, thread_name_prefix="resolver")

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        """Ask the system for the addresses of a host. Raises OSError."""
        loop = asyncio.get_running_loop()
        found = await loop.run_in_executor(
            self._threads,
            lambda: socket.getaddrinfo(host, port, family=family, type=socket.SOCK_STREAM),
        )
        return [
            ResolveResult(
                hostname=host,
                host=str(address[0]),
                port=port,
                family=kind,
                proto=protocol,
                flags=socket.AI_NUMERICHOST,
            )
            for kind, _, protocol, _, address in found
        ]

    async def close(self) -> None:
        """Wait for nobody: a look-up under way ends in its own time."""
        self._threads.shutdown(wait=False, cancel_futures=True)


@asynccontextmanager
async def _bounded(url: str, timeout_s: float) -> AsyncIterator[None]:
    """One deadline for everything inside, and our own errors for the library's."""
    deadline = asyncio.timeout(timeout_s)
    try:
        async with deadline:
            yield
    except aiohttp.ClientConnectorError as error:
        if isinstance(error.os_error, _Barred):
            raise error.os_error.refusal from None
        raise FetchFailed(f"'{url}' cannot be reached: {error.os_error}.") from error
    except aiohttp.InvalidURL as error:
        raise UrlRefused(f"'{url}' is not a URL that can be followed.") from error
    except aiohttp.ClientError as error:
        what = str(error) or type(error).__name__
        raise FetchFailed(f"'{url}' broke off: {what}.") from error
    except TimeoutError as error:
        if not deadline.expired():
            raise
        raise FetchFailed(f"'{url}' took longer than it may ({timeout_s:g} s in all).") from error


def _accept(url: str, response: aiohttp.ClientResponse, limits: FetchLimits) -> Fetched:
    """Judge the head of an answer."""
    is_asked_part = response.status == 206 and "Range" in response.request_info.headers
    if response.status != 200 and not is_asked_part:
        raise FetchFailed(f"'{url}' answers {response.status}.")
    kind = response.content_type
    if not any(fnmatchcase(kind, pattern) for pattern in limits.content_types):
        wanted = ", ".join(limits.content_types)
        raise FetchFailed(f"'{url}' is of type '{kind}'; wanted: {wanted}.")
    size = response.content_length
    if size is not None and size > limits.size_bytes:
        raise _too_large(url, limits)
    headers = {name.lower(): value for name, value in response.headers.items()}
    return Fetched(url, response.status, kind, size, headers, response, limits)


def _seconds(text: str | None) -> float | None:
    """A `Retry-After` in seconds; one that is a date counts as none."""
    is_number = text is not None and text.isascii() and text.isdecimal() and len(text) < 9
    return float(text) if is_number and text is not None else None


def _too_large(url: str, limits: FetchLimits) -> PayloadTooLarge:
    return PayloadTooLarge(f"'{url}' is larger than the limit of {limits.size_bytes} bytes.")
