"""What bytes are, by how they begin: a name promises anything, a picture begins like one."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Media:
    """What a file can be taken for, and the ending that its name should have."""

    kinds: frozenset[str]
    ending: str


_IMAGE, _AUDIO, _VIDEO = frozenset({"image"}), frozenset({"audio"}), frozenset({"video"})
_BEGINNINGS: tuple[tuple[bytes, Media], ...] = (
    (b"\x89PNG\r\n\x1a\n", Media(_IMAGE, ".png")),
    (b"\xff\xd8\xff", Media(_IMAGE, ".jpg")),
    (b"GIF8", Media(_IMAGE | _VIDEO, ".gif")),
    (b"BM", Media(_IMAGE, ".bmp")),
    (b"II*\0", Media(_IMAGE, ".tiff")),
    (b"MM\0*", Media(_IMAGE, ".tiff")),
    (b"fLaC", Media(_AUDIO, ".flac")),
    (b"OggS", Media(_AUDIO | _VIDEO, ".ogg")),
    (b"ID3", Media(_AUDIO, ".mp3")),
    (b"\xff\xfb", Media(_AUDIO, ".mp3")),
    (b"\xff\xf3", Media(_AUDIO, ".mp3")),
    (b"\xff\xf2", Media(_AUDIO, ".mp3")),
    (b"\xff\xf1", Media(_AUDIO, ".aac")),
    (b"\x1aE\xdf\xa3", Media(_AUDIO | _VIDEO, ".webm")),
    (b"\0\0\1\xba", Media(_VIDEO, ".mpg")),
)
_RIFF = {
    b"WEBP": Media(_IMAGE, ".webp"),
    b"WAVE": Media(_AUDIO, ".wav"),
    b"AVI ": Media(_VIDEO, ".avi"),
}
_BRANDS = {
    b"avif": Media(_IMAGE, ".avif"),
    b"avis": Media(_IMAGE, ".avif"),
    b"heic": Media(_IMAGE, ".heic"),
    b"mif1": Media(_IMAGE, ".heic"),
    b"M4A ": Media(_AUDIO, ".m4a"),
    b"qt  ": Media(_AUDIO | _VIDEO, ".mov"),
}
_MP4 = Media(_AUDIO | _VIDEO, ".mp4")


def media_of(head: bytes) -> Media | None:
    """What the first bytes of a file (12 are enough) say that it is; None where they say nothing."""
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:12])
    if head[4:8] == b"ftyp":
        return _BRANDS.get(head[8:12], _MP4)
    return next((media for start, media in _BEGINNINGS if head.startswith(start)), None)
