"""Ranges and conditions: what each status says is true of the bytes that come with it."""

import email.utils
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.gateway.serving import Slice, Version, choose_slice
from comfyserve.testing.file_door import FileDoor, file_door

DATA = bytes(range(256)) * 3
STAMP_S = 1_700_000_000.5
PATH = "/view?filename=data.bin&type=input"


@pytest.fixture
async def door(home: Path) -> AsyncIterator[FileDoor]:
    """A deployment with one input of 768 bytes, changed at a known time."""
    async with file_door(home) as door:
        path = await door.put_input("data.bin", DATA)
        os.utime(path, (STAMP_S, STAMP_S))
        yield door


RANGES = (
    ("bytes=0-9", DATA[:10], "bytes 0-9/768"),
    ("bytes=10-", DATA[10:], "bytes 10-767/768"),
    ("bytes=-5", DATA[-5:], "bytes 763-767/768"),
    ("bytes=-5000", DATA, "bytes 0-767/768"),
    ("bytes=760-9999", DATA[760:], "bytes 760-767/768"),
    ("BYTES=0-0", DATA[:1], "bytes 0-0/768"),
    ("bytes=000-00000000000000000000000000001", DATA[:2], "bytes 0-1/768"),
    (f"bytes=0-{'9' * 5000}", DATA, "bytes 0-767/768"),
)
BAD_RANGES = (
    *("bytes=768-", "bytes=9-3", "bytes=-", "bytes=", "items=0-1", "bytes=0-1,3-4", "bytes=a-b"),
)


async def test_a_range_comes_alone(door: FileDoor, subtests: pytest.Subtests) -> None:
    for wanted, expected, content_range in RANGES:
        with subtests.test(wanted[:40]):
            answer = await door.get(PATH, Range=wanted)
            assert (answer.status, answer.body) == (206, expected)
            assert answer.headers["content-range"] == content_range
            assert answer.headers["accept-ranges"] == "bytes"
            assert answer.headers["content-length"] == str(len(expected))


async def test_a_range_that_cannot_be_given_is_416(door: FileDoor) -> None:
    for wanted in BAD_RANGES:
        answer = await door.get(PATH, Range=wanted)
        assert (answer.status, answer.body) == (416, b"")
        assert answer.headers["content-range"] == "bytes */768"


async def test_any_range_of_an_empty_file_is_416(door: FileDoor) -> None:
    await door.put_input("empty.bin", b"")
    path = "/view?filename=empty.bin&type=input"
    assert (await door.get(path)).status == 200
    assert (await door.get(path, Range="bytes=0-")).status == 416


async def test_head_tells_the_length_without_the_bytes(door: FileDoor) -> None:
    answer = await door.ask("HEAD", PATH)
    assert (answer.status, answer.body) == (200, b"")
    assert answer.headers["content-length"] == "768"
    part = await door.ask("HEAD", PATH, headers={"Range": "bytes=0-9"})
    assert (part.status, part.headers["content-length"], part.body) == (206, "10", b"")


async def test_tags_and_dates(door: FileDoor) -> None:
    first = await door.get(PATH)
    tag, date = first.headers["etag"], first.headers["last-modified"]
    assert date == email.utils.formatdate(1_700_000_001, usegmt=True)
    earlier = email.utils.formatdate(STAMP_S - 10, usegmt=True)
    known = await door.get(PATH, If_None_Match=f'"other", W/{tag}')
    assert (known.status, known.body, known.headers["etag"]) == (304, b"", tag)
    assert (await door.get(PATH, If_None_Match="*")).status == 304
    assert (await door.get(PATH, If_None_Match='"other"')).status == 200
    assert (await door.get(PATH, If_Modified_Since=date)).status == 304
    assert (await door.get(PATH, If_Modified_Since=earlier)).status == 200
    assert (await door.get(PATH, If_Modified_Since="yesterday")).status == 200
    # A tag outweighs a date.
    assert (await door.get(PATH, If_None_Match='"other"', If_Modified_Since=date)).status == 200
    assert (await door.get(PATH, If_Match=tag)).status == 200
    assert (await door.get(PATH, If_Match=f"W/{tag}")).status == 412
    assert (await door.get(PATH, If_Unmodified_Since=earlier)).status == 412
    assert (await door.get(PATH, If_Unmodified_Since=date)).status == 200


async def test_if_range_gives_the_whole_file_once_it_changed(door: FileDoor) -> None:
    first = await door.get(PATH)
    tag, date = first.headers["etag"], first.headers["last-modified"]
    earlier = email.utils.formatdate(STAMP_S - 10, usegmt=True)
    assert (await door.get(PATH, Range="bytes=0-1", If_Range=tag)).status == 206
    assert (await door.get(PATH, Range="bytes=0-1", If_Range=date)).status == 206
    whole = await door.get(PATH, Range="bytes=0-1", If_Range='"other"')
    assert (whole.status, whole.body) == (200, DATA)
    assert (await door.get(PATH, Range="bytes=0-1", If_Range=earlier)).status == 200


async def test_the_tag_of_an_output_is_that_of_its_bytes(door: FileDoor) -> None:
    asset = await door.put_asset("made.bin", DATA)
    answer = await door.get("/view?filename=made.bin", Range="bytes=1-2")
    assert (answer.status, answer.body) == (206, DATA[1:3])
    assert answer.headers["etag"] == f'"{asset.digest}"'


async def test_a_part_of_a_large_file_streams(door: FileDoor) -> None:
    data = os.urandom(2_000_000)
    await door.put_asset("big.bin", data)
    answer = await door.get("/view?filename=big.bin", Range="bytes=500000-1900000")
    assert (answer.status, answer.body) == (206, data[500_000:1_900_001])


numbers = st.one_of(st.just(""), st.integers(0, 40).map(str), st.integers(0, 10**30).map(str))
versions = st.builds(
    Version, tag=st.just("t"), modified=st.just(STAMP_S), size_bytes=st.integers(0, 30)
)


@given(first=numbers, last=numbers, version=versions)
def test_a_slice_is_what_the_range_means(first: str, last: str, version: Version) -> None:
    chosen = choose_slice({"range": f"bytes={first}-{last}"}, version)
    size = version.size_bytes
    if first:
        meant = range(size)[int(first) : int(last) + 1 if last else None]
    elif last and int(last):
        meant = range(size)[-int(last) :]
    else:
        meant = range(size if last else 0)
    is_backwards = first and last and int(last) < int(first)
    if meant and not is_backwards:
        assert chosen == Slice(206, meant.start, len(meant))
    else:
        assert chosen.status == 416


@given(
    headers=st.dictionaries(
        st.sampled_from(
            ["range", "if-range", "if-match", "if-none-match", "if-modified-since",
             "if-unmodified-since"]
        ),
        st.text(max_size=40),
    ),
    version=versions,
)  # fmt: skip
def test_no_header_is_too_odd(headers: dict[str, str], version: Version) -> None:
    chosen = choose_slice(headers, version)
    assert chosen.status in {200, 206, 304, 412, 416}
    assert 0 <= chosen.start <= chosen.start + chosen.count <= version.size_bytes
