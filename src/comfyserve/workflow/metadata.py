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
    flac_comments,
    mp4_tags,
    webm_tags,
    webp_texts,
)

MAX_TEXT_BYTES: Final = 64 * 1024 * 1024
"""Longest text that is taken; compressed ones are not unpacked beyond it."""
KEYS: Final = ("prompt", "workflow")
_MAX_CHUNKS: Final = 100_000
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
            found[name] = raw.decode("utf-8", "replace")
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


def png_texts(data: memoryview) -> Iterator[tuple[str, bytes]]:
    """Go through the text chunks of a PNG, the `comf` chunks of animated ones among them."""
    at = len(_PNG)
    for _ in range(_MAX_CHUNKS):
        if at + 8 > len(data):
            return
        size, kind = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8])
        body = data[at + 8 : at + 8 + size]
        if len(body) < size or kind == b"IEND":
            return
        if kind in (b"tEXt", b"zTXt", b"iTXt", b"comf"):
            yield from _text_chunk(kind, body)
        at += size + 12


def _text_chunk(kind: bytes, body: memoryview) -> Iterator[tuple[str, bytes]]:
    head = bytes(body[:80]).partition(b"\0")
    key = head[0].decode("latin-1")
    if not head[1] or key.lower() not in KEYS:
        return
    rest = body[len(head[0]) + 1 :]
    if kind in (b"tEXt", b"comf"):
        # ComfyUI writes ASCII; others write UTF-8 against the rules.
        yield key, _as_utf8(bytes(rest[: MAX_TEXT_BYTES + 1]))
    elif kind == b"zTXt":
        text = unpacked(rest[1:])
        if text is not None:
            yield key, _as_utf8(text)
    else:
        yield from _international(key, rest)


def _international(key: str, rest: memoryview) -> Iterator[tuple[str, bytes]]:
    """Read what follows the key of an iTXt chunk: flag, method, language, translated key, text."""
    is_packed = bytes(rest[:1]) == b"\x01"
    tail = rest[2:]
    for _ in range(2):
        end = bytes(tail[:1000]).find(b"\0")
        if end < 0:
            return
        tail = tail[end + 1 :]
    text = unpacked(tail) if is_packed else bytes(tail[: MAX_TEXT_BYTES + 1])
    if text is not None:
        yield key, text


def unpacked(data: memoryview) -> bytes | None:
    """Return zlib data unpacked, `None` where it is damaged or longer than `MAX_TEXT_BYTES`."""
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(data, MAX_TEXT_BYTES)
    except zlib.error:
        return None
    return None if unpacker.unconsumed_tail else text


def _as_utf8(raw: bytes) -> bytes:
    try:
        raw.decode("utf-8")
    except UnicodeDecodeError:
        return raw.decode("latin-1").encode("utf-8")
    return raw


_Reader = Callable[[memoryview], Iterator[tuple[str, bytes]]]
_READERS: Final[Mapping[Container, _Reader]] = {
    Container.PNG: png_texts,
    Container.WEBP: webp_texts,
    Container.FLAC: flac_comments,
    Container.MP4: mp4_tags,
    Container.WEBM: webm_tags,
}
