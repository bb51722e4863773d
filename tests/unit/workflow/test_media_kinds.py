"""What bytes are, by how they begin."""

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from comfyserve.workflow.media_kinds import media_of


@pytest.mark.parametrize(
    ("kind", "ending"),
    [
        ("PNG", ".png"), ("JPEG", ".jpg"), ("GIF", ".gif"), ("BMP", ".bmp"), ("TIFF", ".tiff"),
        ("WEBP", ".webp"), ("AVIF", ".avif"),
    ],
)  # fmt: skip
def test_pictures_are_pictures(kind: str, ending: str) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (2, 2)).save(buffer, kind)
    media = media_of(buffer.getvalue()[:64])
    assert media is not None
    assert "image" in media.kinds
    assert media.ending == ending


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"fLaC\0\0\0\x22", "audio"),
        (b"ID3\x04", "audio"),
        (b"RIFF\0\0\0\0WAVEfmt ", "audio"),
        (b"RIFF\0\0\0\0AVI LIST", "video"),
        (b"\0\0\0\x20ftypisom", "video"),
        (b"\0\0\0\x20ftypM4A ", "audio"),
        (b"\x1aE\xdf\xa3", "video"),
    ],
)
def test_sounds_and_videos_are_what_they_are(head: bytes, kind: str) -> None:
    media = media_of(head)
    assert media is not None
    assert kind in media.kinds
    assert "image" not in media.kinds


@given(st.binary(max_size=64))
def test_anything_else_is_unknown_and_nothing_raises(head: bytes) -> None:
    media = media_of(b"<" + head)
    assert media is None or head[3:7] == b"ftyp"
