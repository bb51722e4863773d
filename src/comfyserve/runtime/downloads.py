"""Downloads of builds: whatever URL an image names, through the guard of the outside."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp

from comfyserve.build.models import DownloadBroken, Remote
from comfyserve.runtime.outside import Fetched, FetchLimits, Outside

_LIMITS = FetchLimits(size_bytes=1 << 42, timeout_s=24 * 3600.0, idle_s=60.0, redirects=8)


class GuardedFetcher:
    """A build's way to HTTP."""

    def __init__(self, outside: Outside) -> None:
        self._outside = outside

    @asynccontextmanager
    async def open(
        self, url: str, *, offset: int = 0, validator: str | None = None, bearer: str | None = None
    ) -> AsyncIterator[Remote]:
        """The bytes from `offset`, if what is there still is what `validator` says; else from 0.

        Raises UrlRefused, FetchFailed, PayloadTooLarge; DownloadBroken once bytes have come.
        """
        headers = {} if bearer is None else {"Authorization": f"Bearer {bearer}"}
        if offset and validator:
            headers |= {"Range": f"bytes={offset}-", "If-Range": validator}
        async with self._outside.fetch(url, _LIMITS, headers) as fetched:
            start = offset if fetched.status == 206 else 0
            size = None if fetched.size_bytes is None else start + fetched.size_bytes
            yield Remote(start, size, _validator(fetched), _chunks(fetched))


async def _chunks(fetched: Fetched) -> AsyncIterator[bytes]:
    try:
        async for chunk in fetched.chunks():
            yield chunk
    except (aiohttp.ClientError, TimeoutError) as error:
        what = str(error) or type(error).__name__
        raise DownloadBroken(f"'{fetched.url}' broke off: {what}") from error


def _validator(fetched: Fetched) -> str | None:
    """What tells one state of the file from another, strongly enough to go on in its middle."""
    tag = fetched.headers.get("etag", "")
    if tag and not tag.startswith("W/"):
        return tag
    return fetched.headers.get("last-modified")
