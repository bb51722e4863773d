"""The workflow that ComfyUI writes into the files it saves: found in the bytes, without decoding pictures.

PNG text chunks, EXIF of WEBP, comments of FLAC, tags of MP4 and WebM. Files come from anywhere: every
size in them is checked against what is there, texts are bounded, nothing raises.
"""

import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from comfyserve.workflow.metadata_media import (
    Text,
    flac_comments,
    mp4_tags,
    webm_tags,
    webp_texts,
)

MAX_TEXT_BYTES: Final = 32 * 1024 * 1024
"""Longest text that is taken; compressed ones are not unpacked beyond it."""
KEYS: Final = ("prompt", "workflow")
_MAX_CHUNKS: Final = 100_000
_MAX_PACKED: Final = 8
"""Compressed texts of one file that are looked into."""
_LONGEST_KEY: Final = 80
_LONGEST_FIELD: Final = 1000
_PNG: Final = b"\x89PNG\r\n\x1a\n"


class Container(StrEnum):
    """The kinds of file that carry a workflow."""

    PNG = "png"
    WEBP = "webp"
    FLAC = "flac"
    MP4 = "mp4"
    WEBM = "webm"


@dataclass(frozen=True, slots=True)
class Embedded:
    """What a file carries: JSON texts by their name, `prompt` and `workflow` of those there are."""

    container: Container
    texts: Mapping[str, str]


def read_embedded(data: bytes) -> Embedded | None:
    """Return what ComfyUI wrote into a file, `None` for a kind of file that carries nothing.

    A damaged file gives what could be read up to the damage.
    """
    container = container_of(data)
    if container is None:
        return None
    found: dict[str, str] = {}
    for key, raw in _READERS[container](memoryview(data)):
        name = key.lower()
        if name in KEYS and name not in found and len(raw) <= MAX_TEXT_BYTES:
            found[name] = _decoded(bytes(raw))
        if len(found) == len(KEYS):
            break
    return Embedded(container, found)


def container_of(data: bytes) -> Container | None:
    """Tell the kind of file by its first bytes."""
    if data.startswith(_PNG):
        return Container.PNG
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        return Container.WEBP
    if data[:4] == b"fLaC" or data[:3] == b"ID3":
        return Container.FLAC
    if data[4:8] == b"ftyp":
        return Container.MP4
    return Container.WEBM if data[:4] == b"\x1a\x45\xdf\xa3" else None


def png_texts(data: memoryview) -> Iterator[Text]:
    """Go through the text chunks of a PNG, the `comf` chunks of animated ones among them."""
    at, packed = len(_PNG), 0
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        size, kind = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8])
        body = data[at + 8 : at + 8 + size]
        if len(body) < size or kind == b"IEND":
            return
        if kind in (b"tEXt", b"comf"):
            yield from _plain_text(body)
        elif kind in (b"zTXt", b"iTXt") and packed < _MAX_PACKED:
            packed += 1
            yield from _packed_text(kind, body)
        at += size + 12


def _plain_text(body: memoryview) -> Iterator[Text]:
    key, rest = _key(body)
    if key.lower() in KEYS:
        yield key, rest


def _packed_text(kind: bytes, body: memoryview) -> Iterator[Text]:
    key, rest = _key(body)
    if key.lower() not in KEYS:
        return
    text: memoryview | bytes | None = (
        unpacked(rest[1:]) if kind == b"zTXt" else _international(rest)
    )
    if text is not None:
        yield key, text


def _key(body: memoryview) -> tuple[str, memoryview]:
    """Return the key of a text chunk and what follows it; no key where it does not end."""
    key, end, _ = bytes(body[:_LONGEST_KEY]).partition(b"\0")
    return (key.decode("latin-1"), body[len(key) + 1 :]) if end else ("", body)


def _international(rest: memoryview) -> memoryview | bytes | None:
    """Return the text of an iTXt chunk, behind flag, method, language and translated key."""
    is_packed = bytes(rest[:1]) == b"\x01"
    tail = rest[2:]
    for _ in range(2):
        end = bytes(tail[:_LONGEST_FIELD]).find(b"\0")
        if end < 0:
            return None
        tail = tail[end + 1 :]
    return unpacked(tail) if is_packed else tail


def unpacked(data: memoryview) -> bytes | None:
    """Return zlib data unpacked, `None` where it is damaged or longer than `MAX_TEXT_BYTES`."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, MAX_TEXT_BYTES)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else text


def _decoded(raw: bytes) -> str:
    """Return a text; ComfyUI writes ASCII, others UTF-8 or what PNG asks for, Latin-1."""
    try:
        return raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1")


_Reader = Callable[[memoryview], Iterator[Text]]
_READERS: Final[Mapping[Container, _Reader]] = {
    Container.PNG: png_texts,
    Container.WEBP: webp_texts,
    Container.FLAC: flac_comments,
    Container.MP4: mp4_tags,
    Container.WEBM: webm_tags,
}
