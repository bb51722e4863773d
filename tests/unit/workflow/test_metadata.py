"""Workflows embedded in files: as Pillow and ffmpeg write them for ComfyUI, and damaged ones."""

import json
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from comfyserve.workflow.metadata import (
    MAX_TEXT_BYTES,
    Container,
    container_of,
    read_embedded,
    unpacked,
)

MEDIA = Path(__file__).parents[2] / "data" / "media"
FILES = {
    "image.png": Container.PNG,
    "packed.png": Container.PNG,
    "animated.png": Container.PNG,
    "image.webp": Container.WEBP,
    "audio.flac": Container.FLAC,
    "video.mp4": Container.MP4,
    "video.mov": Container.MP4,
    "video.webm": Container.WEBM,
}
SIGNATURE = b"\x89PNG\r\n\x1a\n"


def chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


@pytest.mark.parametrize("name", FILES)
def test_prompt_and_workflow_are_found(name: str) -> None:
    found = read_embedded((MEDIA / name).read_bytes())
    assert found is not None
    assert found.container is FILES[name]
    prompt, workflow = json.loads(found.texts["prompt"]), json.loads(found.texts["workflow"])
    assert prompt["2"]["_meta"]["title"] == "Grüße"
    assert workflow["nodes"][1]["title"] == "Grüße"


def test_text_beyond_ascii_is_read_from_international_chunks() -> None:
    found = read_embedded((MEDIA / "international.png").read_bytes())
    assert found is not None
    assert json.loads(found.texts["prompt"])["2"]["_meta"]["title"] == "Grüße"


def test_a_file_without_metadata_carries_nothing() -> None:
    found = read_embedded((MEDIA / "bare.png").read_bytes())
    assert found is not None
    assert found.texts == {}


@pytest.mark.parametrize(
    "data", [b"", b"{}", b"\x89PNG", b"RIFF0000WAVE", b"GIF89a", b"\xff\xd8\xff"]
)
def test_other_files_carry_nothing(data: bytes) -> None:
    assert container_of(data) is None
    assert read_embedded(data) is None


@pytest.mark.parametrize("name", FILES)
def test_every_truncation_is_read_up_to_the_damage(name: str) -> None:
    data = (MEDIA / name).read_bytes()
    whole = read_embedded(data)
    assert whole is not None
    for end in range(0, len(data), 7):
        found = read_embedded(data[:end])
        texts = found.texts if found is not None else {}
        assert all(whole.texts[key].startswith(texts[key][:50]) for key in texts)


@settings(max_examples=300)
@given(
    st.sampled_from(sorted(FILES)),
    st.lists(st.tuples(st.integers(0, 1500), st.integers(0, 255)), max_size=12),
)
def test_damaged_files_never_raise(name: str, changes: list[tuple[int, int]]) -> None:
    data = bytearray((MEDIA / name).read_bytes())
    for at, byte in changes:
        data[at % len(data)] = byte
    read_embedded(bytes(data))


@given(st.sampled_from(sorted(FILES)), st.binary(max_size=200))
def test_anything_behind_a_true_beginning_never_raises(name: str, rest: bytes) -> None:
    read_embedded((MEDIA / name).read_bytes()[:16] + rest)


def test_a_bomb_of_compressed_text_is_not_unpacked() -> None:
    bomb = zlib.compress(b"0" * (MAX_TEXT_BYTES + 1), 9)
    assert unpacked(memoryview(bomb)) is None
    chunks = b"".join(chunk(b"zTXt", b"prompt\0\0" + bomb) for _ in range(100))
    found = read_embedded(SIGNATURE + chunks)
    assert found is not None
    assert found.texts == {}


def test_sizes_that_lie_end_the_search() -> None:
    lying = SIGNATURE + struct.pack(">I", 2**32 - 1) + b"tEXtprompt\0{}"
    found = read_embedded(lying)
    assert found is not None
    assert found.texts == {}


def test_the_first_of_several_texts_counts() -> None:
    texts = b"".join(chunk(b"tEXt", b"prompt\0" + text) for text in (b"one", b"two"))
    found = read_embedded(SIGNATURE + texts)
    assert found is not None
    assert found.texts == {"prompt": "one"}


def test_text_of_other_programs_is_left_alone() -> None:
    texts = chunk(b"tEXt", b"parameters\0steps: 20") + chunk(b"tEXt", b"no end")
    found = read_embedded(SIGNATURE + texts)
    assert found is not None
    assert found.texts == {}


def test_many_exif_entries_on_one_place_cost_nothing() -> None:
    count = 10_000
    entries = b"".join(struct.pack("<HHII", index, 2, 1_000_000, 200_000) for index in range(count))
    tiff = b"II*\0" + struct.pack("<IH", 8, count) + entries
    tiff += b"\0" * (200_000 - len(tiff)) + b"other:" + b"x" * 1_000_000
    body = b"EXIF" + struct.pack("<I", len(tiff)) + tiff
    found = read_embedded(b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body)
    assert found is not None
    assert found.texts == {}
