"""Downloads of builds over real HTTP: parts, redirects without credentials, the guard."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiohttp import web

from comfyserve.build.models import DownloadBroken
from comfyserve.domain.errors import FetchFailed, UrlRefused
from comfyserve.domain.outside import OutsidePolicy
from comfyserve.runtime.downloads import GuardedFetcher
from comfyserve.runtime.outside import Outside

_DATA = bytes(range(256)) * 40


class Origin:
    """Two origins: one redirects to the other, which serves a file with its ETag."""

    def __init__(self) -> None:
        self.seen: list[tuple[str, str | None, str | None]] = []
        self.target = ""
        self.is_cut = False

    async def redirect(self, request: web.Request) -> web.StreamResponse:
        self._note("first", request)
        raise web.HTTPFound(f"{self.target}/file")

    async def file(self, request: web.Request) -> web.StreamResponse:
        self._note("second", request)
        headers = {"ETag": '"one"', "Content-Length": str(len(_DATA))}
        wanted = request.headers.get("Range")
        start, status = 0, 200
        if wanted and request.headers.get("If-Range") == '"one"':
            start, status = int(wanted.removeprefix("bytes=").rstrip("-")), 206
            headers["Content-Length"] = str(len(_DATA) - start)
        response = web.StreamResponse(status=status, headers=headers)
        await response.prepare(request)
        await response.write(_DATA[start : start + 100] if self.is_cut else _DATA[start:])
        if self.is_cut and request.transport is not None:
            request.transport.close()
        return response

    def _note(self, who: str, request: web.Request) -> None:
        self.seen.append((who, request.headers.get("Authorization"), request.headers.get("Range")))


@asynccontextmanager
async def _serving(routes: list[web.RouteDef]) -> AsyncIterator[str]:
    app = web.Application()
    app.add_routes(routes)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}"
    finally:
        await runner.cleanup()


@asynccontextmanager
async def _origins() -> AsyncIterator[tuple[Origin, str]]:
    origin = Origin()
    async with (
        _serving([web.get("/start", origin.redirect)]) as first,
        _serving([web.get("/file", origin.file)]) as second,
    ):
        origin.target = second
        yield origin, f"{first}/start"


async def test_a_part_is_asked_for_across_a_redirect_and_the_credential_is_not() -> None:
    async with _origins() as (origin, url), Outside(OutsidePolicy.of("127.0.0.0/8")) as outside:
        fetcher = GuardedFetcher(outside)
        async with fetcher.open(url, bearer="key") as remote:
            assert (remote.start, remote.size, remote.validator) == (0, len(_DATA), '"one"')
            assert b"".join([chunk async for chunk in remote.chunks]) == _DATA
        async with fetcher.open(url, offset=1000, validator='"one"', bearer="key") as remote:
            assert (remote.start, remote.size) == (1000, len(_DATA))
            assert b"".join([chunk async for chunk in remote.chunks]) == _DATA[1000:]
        async with fetcher.open(url, offset=1000, validator='"two"') as remote:
            assert remote.start == 0
    assert origin.seen == [
        ("first", "Bearer key", None),
        ("second", None, None),
        ("first", "Bearer key", "bytes=1000-"),
        ("second", None, "bytes=1000-"),
        ("first", None, "bytes=1000-"),
        ("second", None, "bytes=1000-"),
    ]


async def test_bytes_that_end_too_early_are_told_from_an_address_that_is_wrong() -> None:
    async with _origins() as (origin, url), Outside(OutsidePolicy.of("127.0.0.0/8")) as outside:
        fetcher = GuardedFetcher(outside)
        origin.is_cut = True
        async with fetcher.open(url) as remote:
            with pytest.raises(DownloadBroken):
                assert [chunk async for chunk in remote.chunks]
        with pytest.raises(FetchFailed, match="answers 404"):
            async with fetcher.open(f"{origin.target}/nothing"):
                pass


async def test_addresses_inside_are_refused() -> None:
    async with Outside(OutsidePolicy()) as outside:
        with pytest.raises(UrlRefused, match="not a public address"):
            async with GuardedFetcher(outside).open("http://127.0.0.1:8000/model"):
                pass
