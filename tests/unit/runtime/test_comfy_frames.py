"""What comes from an engine: binary frames, JSON that is almost JSON, and no answer at all."""

import json
import math
import struct
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.domain.errors import EngineError
from comfyserve.runtime.comfy import (
    ComfyClient,
    Framed,
    Hushed,
    Rejected,
    Said,
    Shown,
    _decode,
    read_frame,
)
from comfyserve.testing.comfy import Conduct, FakeComfy
from comfyserve.testing.comfy_classes import OBJECT_INFO, a_prompt


def frame(kind: int, metadata: bytes, picture: bytes, length: int | None = None) -> bytes:
    return (
        struct.pack(">II", kind, len(metadata) if length is None else length) + metadata + picture
    )


@given(
    st.dictionaries(st.text(max_size=9), st.integers(-(2**53), 2**53) | st.text(max_size=9)),
    st.binary(max_size=200),
)
def test_a_preview_is_its_metadata_and_its_picture(about: dict[str, Any], picture: bytes) -> None:
    payload = frame(4, json.dumps(about).encode(), picture)
    assert read_frame(payload) == Shown(about, picture)


@given(st.binary(max_size=64))
def test_any_bytes_are_passed_on_whole(payload: bytes) -> None:
    read = read_frame(payload)
    if isinstance(read, Framed):
        assert read.payload == payload
    else:
        assert payload.startswith(b"\0\0\0\4")


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\0\0\0\4\0\0\0",
        frame(1, b"{}", b"picture"),
        frame(3, b"7", b"text"),
        frame(4, b"{}", b"", length=100),
        frame(4, b"not json", b"picture"),
        frame(4, b"[]", b"picture"),
    ],
)
def test_what_is_no_preview_with_metadata_is_not_touched(payload: bytes) -> None:
    assert read_frame(payload) == Framed(payload)


def test_json_as_pythons_json_writes_it() -> None:
    decoded = _decode(b'{"a": NaN, "b": [Infinity, -Infinity], "c": 1}', "/x")
    assert math.isnan(decoded["a"])
    assert decoded["b"] == [float("inf"), float("-inf")]
    assert _decode(rb'{"name": "caf\udce9.png"}', "/x") == {"name": "caf?.png"}
    with pytest.raises(EngineError, match="answer to /x is not JSON"):
        _decode(b"<html>", "/x")


@pytest.fixture
async def engine() -> AsyncIterator[FakeComfy]:
    async with FakeComfy() as engine:
        yield engine


@pytest.fixture
async def client(engine: FakeComfy) -> AsyncIterator[ComfyClient]:
    async with aiohttp.ClientSession(auto_decompress=False) as session:
        yield ComfyClient(session, f"http://{engine.endpoint.host}:{engine.endpoint.port}")


async def test_an_engine_that_lives_and_one_that_does_not(
    engine: FakeComfy, client: ComfyClient
) -> None:
    assert await client.is_alive(1.0)
    engine.behave(Conduct(broken=frozenset({"GET /prompt"})))
    assert not await client.is_alive(1.0)
    engine.behave(Conduct(hung=frozenset({"GET /prompt"})))
    assert not await client.is_alive(0.05)
    await engine.die()
    assert not await client.is_alive(1.0)
    with pytest.raises(EngineError, match="cannot be reached: GET /object_info"):
        await client.get("/object_info")
    with pytest.raises(EngineError, match="GET /ws"):
        async with client.listen("x"):
            pass


async def test_answers_are_read_or_refused(engine: FakeComfy, client: ComfyClient) -> None:
    assert await client.get_json("/object_info") == OBJECT_INFO
    engine.behave(Conduct(broken=frozenset({"GET /object_info"})))
    with pytest.raises(EngineError, match="answered 500 to GET /object_info"):
        await client.get_json("/object_info")
    engine.behave(Conduct(hung=frozenset({"GET /object_info"})))
    with pytest.raises(EngineError, match="did not answer in time: GET /object_info"):
        await client.get("/object_info", timeout_s=0.05)


@pytest.mark.parametrize(
    ("conduct", "status", "message"),
    [
        (Conduct(refusal={"error": {"message": "no"}}), 400, "no"),
        (Conduct(broken=frozenset({"POST /prompt"})), 500, "500 Internal Server Error"),
    ],
)
async def test_a_refusal_is_an_answer(
    engine: FakeComfy, client: ComfyClient, conduct: Conduct, status: int, message: str
) -> None:
    engine.behave(conduct)
    rejected = await client.submit({"prompt": a_prompt(), "prompt_id": "p"})
    assert isinstance(rejected, Rejected)
    assert rejected.status == status
    assert rejected.body["error"]["message"] == message


async def test_a_prompt_from_its_submission_to_its_file(client: ComfyClient) -> None:
    async with client.listen("me") as news:
        body = {"prompt": a_prompt(), "prompt_id": "p", "client_id": "me"}
        assert await client.submit(body) is None
        heard = []
        async for item in news:
            heard.append(item)
            if isinstance(item, Said) and item.data.get("node", "") is None:
                break
    assert {item.kind for item in heard if isinstance(item, Said)} >= {"executed", "feature_flags"}
    entry = await client.history("p")
    assert entry is not None
    picture = entry["outputs"]["9"]["images"][0]["filename"]
    assert not await client.knows("p")
    assert await client.history("unknown") is None
    async with client.fetch(picture, "", "output") as chunks:
        assert chunks is not None
        assert b"".join([chunk async for chunk in chunks]) == b"picture of p"
    async with client.fetch("other.png", "", "output") as chunks:
        assert chunks is None


async def test_the_last_news_is_that_there_are_no_more(
    engine: FakeComfy, client: ComfyClient
) -> None:
    async with client.listen("me") as news:
        first = await anext(news)
        assert isinstance(first, Said)
        await engine.die()
        rest = [item async for item in news]
    assert rest[-1] == Hushed()


async def test_a_request_is_passed_on_as_it_is(client: ComfyClient) -> None:
    answer = await client.forward("GET", "/history/x", query="a=1", headers={}, body=b"")
    assert answer.status == 200
    assert b"".join([chunk async for chunk in answer.chunks]) == b"{}"
