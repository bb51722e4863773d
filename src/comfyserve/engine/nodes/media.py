"""Sound and video files made of nothing: what a test needs to see that such outputs arrive."""

import io
import math
import struct
import wave
from array import array
from collections.abc import Iterable, Sequence

from PIL import Image

_SAMPLE_RATE = 22_050


def tone_wav(frequency_hz: float, seconds: float) -> bytes:
    """Return a WAV file with a plain tone, mono, 16 bits."""
    step = 2 * math.pi * frequency_hz / _SAMPLE_RATE
    count = int(seconds * _SAMPLE_RATE)
    samples = array("h", (int(12_000 * math.sin(step * index)) for index in range(count)))
    buffer = io.BytesIO()
    with wave.open(buffer, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(_SAMPLE_RATE)
        file.writeframes(samples.tobytes())
    return buffer.getvalue()


def moving_bar(width: int, height: int, frames: int) -> list[Image.Image]:
    """Return pictures of a bar that goes from left to right, each one different."""
    pictures = []
    for index in range(frames):
        picture = Image.new("RGB", (width, height), (24, 32, 48))
        left = index * width // frames
        bar = (left, 0, left + max(1, width // frames), height)
        picture.paste((240, 160, 40), bar)
        pictures.append(picture)
    return pictures


def animated_gif(pictures: Sequence[Image.Image], fps: float) -> bytes:
    """Return an animated GIF that repeats."""
    buffer = io.BytesIO()
    pictures[0].save(
        buffer,
        format="GIF",
        save_all=True,
        append_images=pictures[1:],
        duration=int(1000 / fps),
        loop=0,
    )
    return buffer.getvalue()


def motion_jpeg_avi(pictures: Sequence[Image.Image], fps: float) -> bytes:
    """Return an AVI video whose frames are JPEGs: the simplest video that players show."""
    width, height = pictures[0].size
    frames = [_jpeg(picture) for picture in pictures]
    micros = round(1_000_000 / fps)
    largest = max(map(len, frames))
    main = struct.pack(
        "<14I", micros, 0, 0, 0x10, len(frames), 0, 1, largest, width, height, 0, 0, 0, 0
    )
    stream = b"vidsMJPG" + struct.pack(
        "<10I", 0, 0, 0, micros, 1_000_000, 0, len(frames), largest, 0, 0
    )
    stream += struct.pack("<4H", 0, 0, width, height)
    picture_format = struct.pack("<IiiHH4sIiiII", 40, width, height, 1, 24, b"MJPG", 0, 0, 0, 0, 0)
    streams = _list(b"strl", [_chunk(b"strh", stream), _chunk(b"strf", picture_format)])
    header = _list(b"hdrl", [_chunk(b"avih", main), streams])
    movie = _list(b"movi", [_chunk(b"00dc", frame) for frame in frames])
    return _chunk(b"RIFF", b"AVI " + header + movie + _chunk(b"idx1", _index(frames)))


def _jpeg(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, format="JPEG", quality=85)
    return buffer.getvalue()


def _chunk(name: bytes, data: bytes) -> bytes:
    return name + struct.pack("<I", len(data)) + data + b"\0" * (len(data) % 2)


def _list(name: bytes, chunks: Iterable[bytes]) -> bytes:
    return _chunk(b"LIST", name + b"".join(chunks))


def _index(frames: Sequence[bytes]) -> bytes:
    entries = []
    offset = 4
    for frame in frames:
        entries.append(b"00dc" + struct.pack("<3I", 0x10, offset, len(frame)))
        offset += len(frame) + len(frame) % 2 + 8
    return b"".join(entries)
