"""Multipart forms with any number of files: each straight to disk, all bounded together."""

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field

from python_multipart.multipart import parse_options_header
from starlette.requests import Request

from comfyserve.domain.errors import InvalidInput, PayloadTooLarge
from comfyserve.gateway.forms import FormParts, form_parser, reading
from comfyserve.store.blobs import BlobStore, Incoming

_FLUSH_BYTES = 1024 * 1024
_HEAD_BYTES = 64


@dataclass(slots=True)
class Upload:
    """A file of a form. `head`: its first bytes, which tell what it is."""

    filename: str
    incoming: Incoming
    head: bytes = b""
    pending: bytearray = field(default_factory=bytearray)

    def take(self) -> bytes:
        """The bytes since the last time."""
        taken = bytes(self.pending)
        self.pending.clear()
        return taken


@asynccontextmanager
async def received_files(
    request: Request, blobs: BlobStore, limit_bytes: int
) -> AsyncIterator[tuple[Mapping[str, str], Mapping[str, Upload]]]:
    """Read the body as a form: its texts and its files by field.

    Nothing is left on disk unless it was placed. Raises InvalidInput, PayloadTooLarge, StorageFull.
    """
    parts = _Parts(blobs)
    try:
        await _read(request, parts, limit_bytes)
        yield parts.texts, parts.files
    finally:
        for upload in parts.files.values():
            await asyncio.to_thread(upload.incoming.discard)


async def _read(request: Request, parts: "_Parts", limit_bytes: int) -> None:
    if int(request.headers.get("content-length") or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    options = parse_options_header(request.headers.get("content-type"))[1]
    parser, size = form_parser(options.get(b"boundary", b""), parts), 0
    with reading(parts):
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            parser.write(chunk)
            await _flush(parts, _FLUSH_BYTES)
    await _flush(parts, 1)


async def _flush(parts: "_Parts", least: int) -> None:
    for upload in parts.files.values():
        if len(upload.pending) >= least:
            if not upload.head:
                upload.head = bytes(upload.pending[:_HEAD_BYTES])
            await asyncio.to_thread(upload.incoming.write, upload.take())


class _Parts(FormParts):
    """Any part with a file name is a file; a field that comes twice is refused."""

    def __init__(self, blobs: BlobStore) -> None:
        super().__init__("")
        self.files: dict[str, Upload] = {}
        self._blobs = blobs

    def choose_sink(self, filename: str | None, *, is_first: bool) -> bytearray:
        """Where the bytes of a part go."""
        if not is_first:
            raise InvalidInput(f"the field '{self.name[:80]}' comes twice", code="invalid_form")
        if not filename:
            return bytearray()
        upload = self.files[self.name] = Upload(filename, self._blobs.begin())
        self.arrived = upload.pending
        return upload.pending


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"this form is larger than {limit_bytes} bytes (max_upload_bytes of the deployment)"
    )
