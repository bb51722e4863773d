"""One file over HTTP: conditions, ranges and streaming, as aiohttp's FileResponse answers them."""

import asyncio
import email.utils
import math
import os
import re
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from datetime import UTC
from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.types import Receive, Scope, Send

from comfyserve.gateway.beneath import open_file

CHUNK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d*)-(\d*)", re.ASCII | re.IGNORECASE)
_ETAG = re.compile(r'(W/)?"([^"]*)"')
# Longer numbers are past the end of any file, and slow to read.
_MAX_DIGITS = 18


@dataclass(frozen=True, slots=True)
class Version:
    """What conditions compare: a strong tag (without quotes), seconds since the epoch, bytes."""

    tag: str
    modified: float
    size_bytes: int

    @property
    def headers(self) -> dict[str, str]:
        """The headers that tell it."""
        whole = math.ceil(self.modified)
        return {
            "etag": f'"{self.tag}"',
            "last-modified": email.utils.formatdate(whole, usegmt=True),
        }


@dataclass(frozen=True, slots=True)
class Slice:
    """The bytes to send, and the status that says how they relate to the file."""

    status: int
    start: int = 0
    count: int = 0


@dataclass(frozen=True, slots=True)
class OpenFile:
    """A file that is open for reading; a small one is in memory already. Whoever gets it closes it."""

    file: BinaryIO
    version: Version

    @classmethod
    def of(cls, handle: int, tag: str | None = None, modified: float | None = None) -> "OpenFile":
        """Take over a handle. The tag is ComfyUI's (time and size) unless a better one is known.

        Blocks; for threads.
        """
        file: BinaryIO = os.fdopen(handle, "rb", buffering=0)
        facts = os.fstat(handle)
        size = facts.st_size
        if size <= CHUNK_BYTES:
            with file:
                body = file.read()
            file, size = BytesIO(body), len(body)
        version = Version(
            tag=tag or f"{facts.st_mtime_ns:x}-{size:x}",
            modified=facts.st_mtime if modified is None else modified,
            size_bytes=size,
        )
        return cls(file, version)

    @classmethod
    def at(cls, path: Path, tag: str, modified: float) -> "OpenFile | None":
        """Open a file of our own; None if there is none. Blocks; for threads."""
        try:
            return cls.of(os.open(path, os.O_RDONLY | os.O_CLOEXEC), tag, modified)
        except FileNotFoundError:
            return None

    @classmethod
    def beneath(cls, root: Path, parts: tuple[str, ...]) -> "OpenFile | None":
        """Open a regular file beneath a directory; None if there is none. Blocks; for threads."""
        handle = open_file(root, parts)
        return None if handle is None else cls.of(handle)


def choose_slice(headers: Mapping[str, str], version: Version) -> Slice:
    """What to send for these request headers: 200, 206, 304, 412 or 416 (RFC 9110, 13.2.2)."""
    if _is_refused(headers, version):
        return Slice(412)
    if _is_known(headers, version):
        return Slice(304)
    whole = Slice(200, 0, version.size_bytes)
    wanted = headers.get("range")
    if wanted is None or not _may_slice(headers.get("if-range"), version):
        return whole
    return _slice_of(wanted, version.size_bytes) or Slice(416)


async def send_file(request: Request, opened: OpenFile, headers: Mapping[str, str]) -> Response:
    """The answer for an open file, which it closes once it is sent. `headers` go with any status."""
    chosen = choose_slice(request.headers, opened.version)
    size = opened.version.size_bytes
    sent = {**headers, **opened.version.headers}
    if chosen.status in {200, 206}:
        sent["accept-ranges"] = "bytes"
        sent["content-length"] = str(chosen.count)
    if chosen.status == 206:
        sent["content-range"] = f"bytes {chosen.start}-{chosen.start + chosen.count - 1}/{size}"
    if chosen.status == 416:
        sent["content-range"] = f"bytes */{size}"
    if request.method == "HEAD" or chosen.count == 0:
        opened.file.close()
        return Response(b"", chosen.status, sent)
    if isinstance(opened.file, BytesIO):
        end = chosen.start + chosen.count
        return Response(opened.file.getvalue()[chosen.start : end], chosen.status, sent)
    return _Streamed(opened.file, chosen, sent)


class _Streamed(StreamingResponse):
    """Sends a slice in chunks, stops when the client goes, and always closes the file."""

    def __init__(self, file: BinaryIO, chosen: Slice, headers: Mapping[str, str]) -> None:
        super().__init__(_chunks(file, chosen), chosen.status, headers)
        self._file = file

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._file.close()


async def _chunks(file: BinaryIO, chosen: Slice) -> AsyncIterator[bytes]:
    offset, left = chosen.start, chosen.count
    while left > 0:
        chunk = await asyncio.to_thread(os.pread, file.fileno(), min(CHUNK_BYTES, left), offset)
        if not chunk:
            # The file became shorter: the missing bytes end the connection, not the answer.
            return
        offset, left = offset + len(chunk), left - len(chunk)
        yield chunk


def _is_refused(headers: Mapping[str, str], version: Version) -> bool:
    if (sought := headers.get("if-match")) is not None:
        return not _has_tag(sought, version.tag, weak=False)
    limit = _date(headers.get("if-unmodified-since"))
    return limit is not None and version.modified > limit


def _is_known(headers: Mapping[str, str], version: Version) -> bool:
    if (sought := headers.get("if-none-match")) is not None:
        return _has_tag(sought, version.tag, weak=True)
    limit = _date(headers.get("if-modified-since"))
    return limit is not None and version.modified <= limit


def _may_slice(condition: str | None, version: Version) -> bool:
    """`If-Range`: aiohttp knows dates only; a tag that is not the file's means the whole file."""
    if condition is None:
        return True
    if '"' in condition:
        return _has_tag(condition, version.tag, weak=False)
    limit = _date(condition)
    return limit is None or version.modified <= limit


def _slice_of(wanted: str, size: int) -> Slice | None:
    """The one range that is asked for; None if it is not one, or not in the file."""
    found = _RANGE.fullmatch(wanted.strip())
    if found is None or found[1] == found[2] == "":
        return None
    first, last = (_number(text) for text in found.groups())
    if first is None:
        # aiohttp reads a tail of no bytes as the whole file.
        first, last = max(0, size - last) if last else 0, None
    elif last is not None and last < first:
        return None
    if first >= size:
        return None
    end = size if last is None else min(last + 1, size)
    return Slice(206, first, end - first)


def _number(digits: str) -> int | None:
    return int(digits.lstrip("0")[:_MAX_DIGITS] or "0") if digits else None


def _has_tag(listed: str, tag: str, *, weak: bool) -> bool:
    if listed.strip() == "*":
        return True
    return any(value == tag and (weak or not mark) for mark, value in _ETAG.findall(listed))


def _date(text: str | None) -> float | None:
    if text is None:
        return None
    try:
        date = email.utils.parsedate_to_datetime(text)
    except (ValueError, OverflowError):
        return None
    return date.replace(tzinfo=date.tzinfo or UTC).timestamp()
