"""Texts in WEBP, FLAC, MP4 and WebM files, as ComfyUI and ffmpeg write them.

All readers go through a view of the bytes and yield `(key, text)`; a size that does not fit ends them.
"""

from collections.abc import Iterator
from typing import Final, Literal, TypeAlias

_MAX_ENTRIES: Final = 10_000
_MAX_DEPTH: Final = 8

Text: TypeAlias = tuple[str, memoryview | bytes]
"""A key and the bytes of its text: a view where they stand in the file as they are."""
_ByteOrder: TypeAlias = Literal["little", "big"]


def webp_texts(data: memoryview) -> Iterator[Text]:
    """Go through the EXIF texts of a WEBP: ComfyUI writes `prompt:{...}` and `workflow:{...}`."""
    at = 12
    for _ in range(_MAX_ENTRIES):
        if at + 8 > len(data):
            return
        kind, size = bytes(data[at : at + 4]), int.from_bytes(data[at + 4 : at + 8], "little")
        if kind == b"EXIF":
            body = data[at + 8 : at + 8 + size]
            yield from exif_texts(body[6:] if bytes(body[:6]) == b"Exif\0\0" else body)
        at += 8 + size + size % 2


def exif_texts(tiff: memoryview) -> Iterator[Text]:
    """Go through the texts of the first directory of a TIFF structure that look like `key:value`."""
    order: _ByteOrder = "little" if bytes(tiff[:2]) == b"II" else "big"
    if bytes(tiff[:2]) not in (b"II", b"MM"):
        return
    first = int.from_bytes(tiff[4:8], order)
    count = int.from_bytes(tiff[first : first + 2], order)
    for index in range(min(count, _MAX_ENTRIES)):
        entry = tiff[first + 2 + 12 * index : first + 14 + 12 * index]
        if len(entry) < 12:
            return
        kind, size = int.from_bytes(entry[2:4], order), int.from_bytes(entry[4:8], order)
        if kind not in (1, 2, 7) or size <= 4:  # bytes, text, undefined
            continue
        offset = int.from_bytes(entry[8:12], order)
        value = tiff[offset : offset + size]
        key, colon, _ = bytes(value[:40]).partition(b":")
        if colon and len(value) == size:
            yield key.decode("latin-1"), value[len(key) + 1 : -1 if value[-1] == 0 else None]


def flac_comments(data: memoryview) -> Iterator[Text]:
    """Go through the Vorbis comments of a FLAC file, behind an ID3 tag if there is one."""
    at = 0
    if bytes(data[:3]) == b"ID3":
        at = 10 + _syncsafe(data[6:10])
    if bytes(data[at : at + 4]) != b"fLaC":
        return
    at += 4
    for _ in range(_MAX_ENTRIES):
        if at + 4 > len(data):
            return
        kind, size = data[at] & 0x7F, int.from_bytes(data[at + 1 : at + 4], "big")
        if kind == 4:
            yield from _vorbis_comments(data[at + 4 : at + 4 + size])
        if data[at] & 0x80:
            return
        at += 4 + size


def _syncsafe(raw: memoryview) -> int:
    size = 0
    for byte in raw:
        size = size << 7 | byte & 0x7F
    return size


def _vorbis_comments(block: memoryview) -> Iterator[Text]:
    vendor = int.from_bytes(block[:4], "little")
    at = 4 + vendor
    count = int.from_bytes(block[at : at + 4], "little")
    at += 4
    for _ in range(min(count, _MAX_ENTRIES)):
        size = int.from_bytes(block[at : at + 4], "little")
        comment = block[at + 4 : at + 4 + size]
        if len(comment) < size or not size:
            return
        key, equals, _ = bytes(comment[:40]).partition(b"=")
        if equals:
            yield key.decode("latin-1"), comment[len(key) + 1 :]
        at += 4 + size


def mp4_tags(data: memoryview) -> Iterator[Text]:
    """Go through the tags of an MP4: names in `keys`, values in `ilst`, both inside `moov`."""
    for kind, body in _boxes(data):
        if kind == b"moov":
            yield from _movie_tags(body, 0)


def _movie_tags(body: memoryview, depth: int) -> Iterator[Text]:
    for kind, inner in _boxes(body):
        if kind == b"meta":
            yield from _meta_tags(inner)
        elif kind == b"udta" and depth < _MAX_DEPTH:
            yield from _movie_tags(inner, depth + 1)


def _meta_tags(body: memoryview) -> Iterator[Text]:
    # QuickTime has no version before the boxes, MP4 has.
    boxes = dict(_boxes(body if bytes(body[4:8]) == b"hdlr" else body[4:]))
    names = _key_names(boxes.get(b"keys", memoryview(b"")))
    for kind, item in _boxes(boxes.get(b"ilst", memoryview(b""))):
        index = int.from_bytes(kind, "big") - 1
        for inner_kind, value in _boxes(item):
            if inner_kind == b"data" and 0 <= index < len(names) and len(value) >= 8:
                yield names[index], value[8:]


def _key_names(body: memoryview) -> list[str]:
    names: list[str] = []
    count, at = int.from_bytes(body[4:8], "big"), 8
    for _ in range(min(count, _MAX_ENTRIES)):
        size = int.from_bytes(body[at : at + 4], "big")
        if size < 8 or at + size > len(body):
            break
        names.append(bytes(body[at + 8 : at + size][:100]).decode("latin-1"))
        at += size
    return names


def _boxes(data: memoryview) -> Iterator[tuple[bytes, memoryview]]:
    """Go through the boxes that follow each other in MP4 data."""
    at = 0
    for _ in range(_MAX_ENTRIES):
        if at + 8 > len(data):
            return
        size, kind, head = int.from_bytes(data[at : at + 4], "big"), bytes(data[at + 4 : at + 8]), 8
        if size == 1:
            size, head = int.from_bytes(data[at + 8 : at + 16], "big"), 16
        elif size == 0:
            size = len(data) - at
        if size < head:
            return
        yield kind, data[at + head : at + size]
        at += size


_SEGMENT, _TAGS, _TAG, _SIMPLE = 0x18538067, 0x1254C367, 0x7373, 0x67C8
_NAME, _STRING = 0x45A3, 0x4487


def webm_tags(data: memoryview) -> Iterator[Text]:
    """Go through the tags of a WebM or Matroska file."""
    for kind, segment in _elements(data):
        if kind != _SEGMENT:
            continue
        for inner, tags in _elements(segment):
            if inner != _TAGS:
                continue
            for tag_kind, tag in _elements(tags):
                if tag_kind == _TAG:
                    yield from _simple_tags(tag)


def _simple_tags(tag: memoryview) -> Iterator[Text]:
    for kind, body in _elements(tag):
        if kind == _SIMPLE:
            parts = dict(_elements(body))
            if _NAME in parts and _STRING in parts:
                name = bytes(parts[_NAME][:100]).decode("latin-1")
                yield name, parts[_STRING]


def _elements(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Go through the EBML elements that follow each other; an unknown size means up to the end."""
    at = 0
    for _ in range(_MAX_ENTRIES):
        kind, id_length = _number(data, at, keep_marker=True)
        size, size_length = _number(data, at + id_length, keep_marker=False)
        if not id_length or not size_length:
            return
        start = at + id_length + size_length
        if size == (1 << 7 * size_length) - 1:
            size = len(data) - start
        yield kind, data[start : start + size]
        at = start + size


def _number(data: memoryview, at: int, *, keep_marker: bool) -> tuple[int, int]:
    """Read a variable-length number: value and how many bytes it took, 0 where there is none."""
    if at >= len(data) or not data[at]:
        return 0, 0
    length = 9 - data[at].bit_length()
    raw = data[at : at + length]
    if len(raw) < length:
        return 0, 0
    value = int.from_bytes(raw, "big")
    return value if keep_marker else value & ((1 << 7 * length) - 1), length
