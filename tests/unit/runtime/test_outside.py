"""Fetching what callers name, from real servers on the loopback."""

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

import pytest
from aiohttp import web
from aiohttp.abc import AbstractResolver, ResolveResult

from comfyserve.domain.errors import FetchFailed, PayloadTooLarge, UrlRefused
from comfyserve.domain.outside import OutsidePolicy
from comfyserve.runtime.outside import FetchLimits, Outside, Posted

LOOPBACK = OutsidePolicy.of("127.0.0.1, ::1")
SMALL = FetchLimits(size_bytes=1000, timeout_s=20)


class Names(AbstractResolver):
    """A name server of the test: each look-up takes the next answer, the last one stays."""

    def __init__(self, names: Mapping[str, list[str]]) -> None:
        self.names = {name: list(answers) for name, answers in names.items()}

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        answers = self.names.get(host)
        if answers is None:
            raise OSError(f"no such name: {host}")
        answer = answers.pop(0) if len(answers) > 1 else answers[0]
        return [
            ResolveResult(
                hostname=host, host=each, port=port, family=socket.AF_INET, proto=0, flags=0
            )
            for each in answer.split()
        ]

    async def close(self) -> None:
        self.names.clear()


class Site:
    """A small web site, which remembers who came."""

    def __init__(self) -> None:
        self.port = 0
        self.seen: list[web.BaseRequest] = []
        self.hold = asyncio.Event()

    def url(self, path: str, host: str = "127.0.0.1") -> str:
        return f"http://{host}:{self.port}{path}"

    async def answer(self, request: web.BaseRequest) -> web.StreamResponse:
        self.seen.append(request)
        match request.path:
            case "/ok":
                headers = {"Retry-After": "7"}
                return web.Response(body=b"x" * 900, content_type="image/png", headers=headers)
            case "/part" | "/large":
                is_part = request.path == "/part"
                return web.Response(body=b"x" * 1001, status=206 if is_part else 200)
            case "/endless":
                return await self._stream(request, 20_000)
            case "/hang":
                await self.hold.wait()
                raise web.HTTPNotFound
            case "/cut":
                await self._stream(request, 1)
                raise ConnectionResetError
            case "/loop":
                raise web.HTTPFound("/loop")
            case "/lost":
                return web.Response(status=302)
            case "/to":
                return web.Response(status=307, headers={"Location": request.query["url"]})
            case _:
                raise web.HTTPNotFound

    async def _stream(self, request: web.BaseRequest, count: int) -> web.StreamResponse:
        response = web.StreamResponse()
        response.content_length = None
        await response.prepare(request)
        for _ in range(count):
            await response.write(b"y" * 100)
        if request.transport is not None and count == 1:
            request.transport.abort()
        return response


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    site = Site()
    server = web.Server(site.answer)
    runner = web.ServerRunner(server, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    site.port = runner.addresses[0][1]
    yield site
    site.hold.set()
    await runner.cleanup()


@asynccontextmanager
async def outside(
    policy: OutsidePolicy = LOOPBACK, names: Mapping[str, list[str]] | None = None
) -> AsyncIterator[Outside]:
    async with Outside(policy, None if names is None else Names(names)) as made:
        yield made


async def fetch(client: Outside, url: str, limits: FetchLimits = SMALL) -> bytes:
    async with client.fetch(url, limits) as fetched:
        return await fetched.read()


async def test_a_fetch_brings_type_size_and_bytes(site: Site) -> None:
    async with outside() as client, client.fetch(site.url("/ok"), SMALL) as fetched:
        assert (fetched.content_type, fetched.size_bytes) == ("image/png", 900)
        assert await fetched.read() == b"x" * 900


async def test_nothing_private_is_reached_without_the_setting(site: Site) -> None:
    async with outside(OutsidePolicy()) as client:
        for host in ("127.0.0.1", "localhost"):
            with pytest.raises(UrlRefused):
                await fetch(client, site.url("/ok", host))
            with pytest.raises(UrlRefused):
                await client.post(site.url("/ok", host), b"", {}, timeout_s=20)
    assert site.seen == []


async def test_a_name_is_judged_by_the_address_that_it_leads_to(site: Site) -> None:
    names = {"inside.example": ["127.0.0.1"], "both.example": ["8.8.8.8 127.0.0.1"]}
    async with outside(OutsidePolicy(), names) as client:
        for name in names:
            with pytest.raises(UrlRefused, match=f"'{name}' leads to 127.0.0.1"):
                await fetch(client, site.url("/ok", name))
    assert site.seen == []


async def test_the_system_resolver_is_judged_too(site: Site) -> None:
    async with outside(OutsidePolicy.of("127.0.0.1, ::1")) as client:
        assert await fetch(client, site.url("/ok", "localhost")) == b"x" * 900
    async with outside(OutsidePolicy.of("127.9.9.9")) as client:
        with pytest.raises(UrlRefused):
            await fetch(client, site.url("/ok", "localhost"))
        with pytest.raises(FetchFailed, match="cannot be reached"):
            await fetch(client, site.url("/ok", "no-such-name.invalid"))


async def test_a_name_that_moves_gains_nothing(site: Site) -> None:
    """DNS rebinding: public at first sight, private at the second."""
    names = {"moving.example": ["127.0.0.1", "127.0.0.2"]}
    async with outside(LOOPBACK, names) as client:
        with pytest.raises(UrlRefused, match=r"127\.0\.0\.2"):
            await fetch(client, site.url("/to?url=http://moving.example:81/", "moving.example"))
    assert [request.path for request in site.seen] == ["/to"]


async def test_every_redirect_is_judged(site: Site) -> None:
    async with outside() as client:
        assert await fetch(client, site.url("/to?url=/ok")) == b"x" * 900
        for target in ("http://127.0.0.2/", "http://10.0.0.1/", "file:///etc/passwd", "http://[x/"):
            with pytest.raises(UrlRefused):
                await fetch(client, site.url(f"/to?url={target}"))


async def test_redirects_are_bounded(site: Site) -> None:
    async with outside() as client:
        with pytest.raises(FetchFailed, match="redirects more than 5 times"):
            await fetch(client, site.url("/loop"))
        assert len(site.seen) == 6
        with pytest.raises(FetchFailed, match="without saying where"):
            await fetch(client, site.url("/lost"))


async def test_credentials_stay_with_their_origin(site: Site) -> None:
    names = {"a.example": ["127.0.0.1"], "b.example": ["127.0.0.1"]}
    async with outside(LOOPBACK, names) as client:
        start = site.url(f"/to?url={site.url('/ok', 'b.example')}", "a.example")
        async with client.fetch(start, SMALL, {"Authorization": "Bearer x"}) as fetched:
            assert fetched.url == site.url("/ok", "b.example")
    assert [request.headers.get("Authorization") for request in site.seen] == ["Bearer x", None]


async def test_size_is_bounded_by_what_is_said_and_by_what_comes(site: Site) -> None:
    async with outside() as client:
        for path in ("/large", "/endless"):
            with pytest.raises(PayloadTooLarge, match="1000 bytes"):
                await fetch(client, site.url(path))


async def test_only_the_wanted_types_are_taken(site: Site) -> None:
    async with outside() as client:
        images = FetchLimits(size_bytes=1000, content_types=("image/*",))
        assert await fetch(client, site.url("/ok"), images) == b"x" * 900
        with pytest.raises(FetchFailed, match=r"of type 'application/octet-stream'; wanted: image"):
            await fetch(client, site.url("/endless"), images)


async def test_time_is_bounded(site: Site) -> None:
    async with outside() as client:
        with pytest.raises(FetchFailed, match="took longer"):
            await fetch(client, site.url("/hang"), FetchLimits(1000, timeout_s=0.05))
        with pytest.raises(FetchFailed, match="broke off"):
            await fetch(client, site.url("/hang"), FetchLimits(1000, idle_s=0.05))
        with pytest.raises(FetchFailed, match="took longer"):
            await client.post(site.url("/hang"), b"", {}, timeout_s=0.05)


async def test_an_answer_that_is_none_is_told_apart(site: Site) -> None:
    async with outside() as client:
        with pytest.raises(FetchFailed, match="answers 404"):
            await fetch(client, site.url("/nowhere"))
        with pytest.raises(FetchFailed, match="answers 206"):
            await fetch(client, site.url("/part"))
        with pytest.raises(FetchFailed, match="broke off"):
            await fetch(client, site.url("/cut"))
        limits = FetchLimits(size_bytes=2000)
        async with client.fetch(site.url("/part"), limits, {"Range": "bytes=0-1000"}) as fetched:
            assert fetched.status == 206


async def test_a_timeout_of_the_reader_stays_his_own(site: Site) -> None:
    async with outside() as client:
        with pytest.raises(TimeoutError):
            async with client.fetch(site.url("/ok"), SMALL), asyncio.timeout(0):
                await site.hold.wait()


async def test_a_post_tells_the_status_and_follows_nothing(site: Site) -> None:
    async with outside() as client:
        url = site.url("/to?url=/ok")
        assert await client.post(url, b"{}", {"X-A": "1"}, timeout_s=20) == Posted(307)
        assert await client.post(site.url("/ok"), b"{}", {}, timeout_s=20) == Posted(200, 7.0)
    assert [request.method for request in site.seen] == ["POST", "POST"]
