"""Multipart forms: texts in memory, the one file straight to disk, both bounded."""

import asyncio
import warnings
from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

from aiohttp import (
    BadContentDispositionHeader,
    BadContentDispositionParam,
    content_disposition_filename,
    parse_content_disposition,
)
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import ClientDisconnect, Request

from comfyserve.domain.errors import InvalidInput, PayloadTooLarge
from comfyserve.store.blobs import BlobStore, Incoming

_FLUSH_BYTES = 1024 * 1024
_MAX_TEXT_BYTES = 64 * 1024
_MAX_PARTS = 64
_PLAIN_ENCODINGS = frozenset({b"", b"7bit", b"8bit", b"binary"})


@dataclass(frozen=True, slots=True)
class Form:
    """A form as it arrived. Of fields with one name the first counts, as with ComfyUI.

    `filename` is None without a file; `file` holds its bytes until the form is left. `listed` has
    every text of the one field that may come several times.
    """

    texts: Mapping[str, str]
    filename: str | None
    file: Incoming
    listed: tuple[str, ...] = ()


@asynccontextmanager
async def received_form(
    request: Request,
    blobs: BlobStore,
    *,
    file_field: str,
    limit_bytes: int,
    list_field: str | None = None,
) -> AsyncIterator[Form | None]:
    """Read the body as a form whose file is the field `file_field`; None if it is no form.

    Nothing is left on disk unless it was placed. Raises InvalidInput, PayloadTooLarge and
    StorageFull.
    """
    kind, options = parse_options_header(request.headers.get("content-type"))
    if kind != b"multipart/form-data":
        yield None
        return
    if int(request.headers.get("content-length") or 0) > limit_bytes:
        raise _too_large(limit_bytes)
    file = blobs.begin()
    try:
        parts = FormParts(file_field, list_field)
        await _read(
            request, form_parser(options.get(b"boundary", b""), parts), parts, file, limit_bytes
        )
        yield Form(parts.texts, parts.filename, file, tuple(parts.listed))
    finally:
        await asyncio.to_thread(file.discard)


async def _read(
    request: Request, parser: MultipartParser, parts: "FormParts", file: Incoming, limit_bytes: int
) -> None:
    size = 0
    with reading(parts):
        async for chunk in request.stream():
            size += len(chunk)
            if size > limit_bytes:
                raise _too_large(limit_bytes)
            parser.write(chunk)
            if len(parts.arrived) >= _FLUSH_BYTES:
                await asyncio.to_thread(file.write, parts.take())
    if parts.filename is not None:
        await asyncio.to_thread(file.write, parts.take())


@contextmanager
def reading(parts: "FormParts") -> Iterator[None]:
    """Read a form to its end. Raises InvalidInput for one that cannot be read, or is cut off."""
    try:
        yield
    except FormParserError as error:
        raise InvalidInput(f"this form cannot be read: {error}", code="invalid_form") from error
    except ClientDisconnect:
        raise InvalidInput("the client left before its form was complete") from None
    if not parts.is_complete:
        raise InvalidInput(
            "this form is cut off: its last boundary is missing", code="invalid_form"
        )


class FormParts:
    """What the parser calls: sorts the parts into texts, the file, and what nobody asked for."""

    def __init__(self, file_field: str, list_field: str | None = None) -> None:
        self.texts: dict[str, str] = {}
        self.listed: list[str] = []
        self.filename: str | None = None
        self.arrived = bytearray()
        self.is_complete = False
        self._file_field = file_field
        self._list_field = list_field
        self._seen: set[str] = set()
        self._parts = 0
        self._headers: dict[bytes, bytes] = {}
        self._header = (bytearray(), bytearray())
        self.name = ""
        self._sink: bytearray | None = None

    def take(self) -> bytes:
        """The file's bytes since the last time."""
        taken = bytes(self.arrived)
        self.arrived.clear()
        return taken

    def on_part_begin(self) -> None:
        """A part begins."""
        self._parts += 1
        if self._parts > _MAX_PARTS:
            raise InvalidInput(f"this form has more than {_MAX_PARTS} parts", code="invalid_form")
        self._headers = {}

    def on_header_begin(self) -> None:
        """A header begins."""
        self._header = (bytearray(), bytearray())

    def on_header_field(self, data: bytes, start: int, end: int) -> None:
        """Some of a header's name."""
        self._header[0].extend(data[start:end])

    def on_header_value(self, data: bytes, start: int, end: int) -> None:
        """Some of a header's value."""
        self._header[1].extend(data[start:end])

    def on_header_end(self) -> None:
        """A header is complete."""
        name, value = self._header
        self._headers[bytes(name).lower()] = bytes(value)

    def on_headers_finished(self) -> None:
        """Decide what this part is."""
        encoding = self._headers.get(b"content-transfer-encoding", b"").strip().lower()
        if encoding not in _PLAIN_ENCODINGS:
            raise InvalidInput(
                f"a part is encoded as {encoding.decode('latin-1')}; send its bytes as they are",
                code="invalid_form",
            )
        self.name, filename = _disposition(self._headers.get(b"content-disposition", b""))
        is_first = self.name not in self._seen
        self._seen.add(self.name)
        self._sink = self.choose_sink(filename, is_first=is_first)

    def choose_sink(self, filename: str | None, *, is_first: bool) -> bytearray | None:
        """Where the bytes of the part go; None for those that nobody asked for."""
        if not is_first and self.name != self._list_field:
            return None
        if not filename:
            return bytearray()
        if self.name != self._file_field:
            return None
        self.filename = filename
        return self.arrived

    def on_part_data(self, data: bytes, start: int, end: int) -> None:
        """Some of a part's bytes."""
        if self._sink is None:
            return
        self._sink.extend(data[start:end])
        if self._sink is not self.arrived and len(self._sink) > _MAX_TEXT_BYTES:
            raise InvalidInput(
                f"the field '{self.name[:80]}' is longer than {_MAX_TEXT_BYTES} bytes",
                code="invalid_form",
            )

    def on_part_end(self) -> None:
        """A part is complete."""
        if self._sink is None or self._sink is self.arrived:
            return
        try:
            text = self._sink.decode()
        except UnicodeDecodeError as error:
            raise InvalidInput(
                f"the field '{self.name[:80]}' is not UTF-8 text", code="invalid_form"
            ) from error
        self.texts.setdefault(self.name, text)
        if self.name == self._list_field:
            self.listed.append(text)

    def on_end(self) -> None:
        """The last boundary was seen."""
        self.is_complete = True


def form_parser(boundary: bytes, parts: FormParts) -> MultipartParser:
    if not boundary:
        raise InvalidInput(
            "the content type multipart/form-data names no boundary", code="invalid_form"
        )
    try:
        return MultipartParser(
            boundary,
            {
                "on_part_begin": parts.on_part_begin,
                "on_part_data": parts.on_part_data,
                "on_part_end": parts.on_part_end,
                "on_header_begin": parts.on_header_begin,
                "on_header_field": parts.on_header_field,
                "on_header_value": parts.on_header_value,
                "on_header_end": parts.on_header_end,
                "on_headers_finished": parts.on_headers_finished,
                "on_end": parts.on_end,
            },
        )
    except FormParserError as error:
        raise InvalidInput(f"this form cannot be read: {error}", code="invalid_form") from error


def _disposition(header: bytes) -> tuple[str, str | None]:
    """Field name and file name, read by the very function that ComfyUI's server uses."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", BadContentDispositionHeader)
        warnings.simplefilter("ignore", BadContentDispositionParam)
        options = parse_content_disposition(header.decode("utf-8", "surrogateescape"))[1]
    name = options.get("name")
    if name is None:
        raise InvalidInput("a part of this form has no name", code="invalid_form")
    return name, content_disposition_filename(options)


def _too_large(limit_bytes: int) -> PayloadTooLarge:
    return PayloadTooLarge(
        f"this upload is larger than {limit_bytes} bytes (max_upload_bytes of the deployment)"
    )
