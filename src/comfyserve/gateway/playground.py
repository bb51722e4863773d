"""The page of a typed endpoint: the same few files for all of them, open to everybody.

They hold nothing of this server: the page asks the public API, with the token of its visitor. So it is
served before anybody is authenticated, and whatever is asleep.
"""

import asyncio
import hashlib
import re
from dataclasses import dataclass
from pathlib import Path

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from comfyserve.gateway.content_types import content_type_of

_FILES = Path(__file__).parent / "static" / "playground"
_PAGE = "page.html"
_ENDPOINT = re.compile(r"(?:/d/[^/]+)?/run/[a-z0-9][a-z0-9-]{0,62}", re.ASCII)
_FILE = re.compile(r"(?:/d/[^/]+)?/run/_page/([a-z]+\.(?:css|js|svg))", re.ASCII)
_HEADERS = {
    "cache-control": "no-cache",
    "content-security-policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' blob:; "
        "media-src 'self' blob:; connect-src 'self'; form-action 'none'; base-uri 'none'; "
        "frame-ancestors 'none'"
    ),
    "cross-origin-opener-policy": "same-origin",
    "referrer-policy": "no-referrer",
    "vary": "accept",
    "x-content-type-options": "nosniff",
}


@dataclass(frozen=True, slots=True)
class _File:
    """A file of the page, in memory."""

    body: bytes
    content_type: str
    tag: str


class Playground:
    """Answers browsers that open an endpoint, and the files that the page needs."""

    def __init__(self) -> None:
        self._files: dict[str, _File] = {}

    async def answer(self, scope: Scope) -> Response | None:
        """The page or a file of it; None where a request is for neither."""
        name = _wanted(scope)
        if name is None:
            return None
        if not self._files:
            self._files = await asyncio.to_thread(_read)
        file = self._files.get(name)
        if file is None:
            return None
        headers = {**_HEADERS, "etag": file.tag}
        if file.tag in Headers(scope=scope).get("if-none-match", ""):
            return Response(status_code=304, headers=headers)
        return Response(file.body, headers=headers, media_type=file.content_type)


def _wanted(scope: Scope) -> str | None:
    path: str = scope["path"]
    if "/run/" not in path or scope["type"] != "http" or scope["method"] not in {"GET", "HEAD"}:
        return None
    if (found := _FILE.fullmatch(path)) is not None:
        return found[1]
    is_browser = "text/html" in Headers(scope=scope).get("accept", "").lower()
    return _PAGE if is_browser and _ENDPOINT.fullmatch(path) else None


def _read() -> dict[str, _File]:
    """All files. Blocks; for threads."""
    found = {}
    for path in _FILES.iterdir():
        body = path.read_bytes()
        tag = hashlib.blake2b(body, digest_size=12).hexdigest()
        found[path.name] = _File(body, content_type_of(path.name), f'"{tag}"')
    return found
