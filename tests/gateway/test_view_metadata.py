"""`/view_metadata`: a header is read within bounds, or there is nothing to show."""

import struct
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfyserve.testing.file_door import FileDoor, file_door


def safetensors(header: bytes, length: int | None = None) -> bytes:
    """A file with that header."""
    return struct.pack("<Q", len(header) if length is None else length) + header + b"\0" * 8


async def test_gives_the_metadata_of_a_model(home: Path, tmp_path: Path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    (second / "sub").mkdir(parents=True)
    first.mkdir()
    (second / "sub" / "x.safetensors").write_bytes(
        safetensors(b'{"__metadata__": {"format": "pt"}, "w": {"shape": [1]}}')
    )
    (first / "linked.safetensors").symlink_to(second / "sub" / "x.safetensors")
    (first / "plain.safetensors").write_bytes(safetensors(b'{"w": {}}'))
    (tmp_path / "secret.safetensors").write_bytes(safetensors(b'{"__metadata__": {"a": "b"}}'))
    folders = {"loras": [str(first), str(second)], "diffusion_models": [[str(second)], [".x"]]}
    async with file_door(home, answers={"/internal/folder_paths": folders}) as door:
        found = await door.get("/view_metadata/loras?filename=sub/x.safetensors")
        assert (found.status, found.json()) == (200, {"format": "pt"})
        assert found.headers["content-type"] == "application/json; charset=utf-8"
        for path in (
            "loras?filename=linked.safetensors",
            "loras?filename=/sub/x.safetensors",
            "unet?filename=sub/x.safetensors",
        ):
            assert (await door.get(f"/view_metadata/{path}")).status == 200
        for path in (
            "loras",
            "loras?filename=plain.safetensors",
            "loras?filename=nope.safetensors",
            "loras?filename=../secret.safetensors",
            "loras?filename=sub",
            "loras?filename=sub/x.safetensors.txt",
            "loras?filename=%00.safetensors",
            "nope?filename=sub/x.safetensors",
        ):
            refused = await door.get(f"/view_metadata/{path}")
            assert (refused.status, refused.body) == (404, b"")


@pytest.fixture
async def models(home: Path, tmp_path: Path) -> AsyncIterator[FileDoor]:
    """A deployment with one folder of models."""
    answers = {"/internal/folder_paths": {"loras": [str(tmp_path)]}}
    async with file_door(home, answers=answers) as door:
        yield door


headers = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"[]", b"null", b'{"__metadata__": []}', b'{"__metadata__": null}']),
    st.integers(1, 3000).map(lambda depth: b"[" * depth),
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(header=headers, length=st.one_of(st.none(), st.integers(0, 2**64 - 1)))
async def test_any_file_is_read_within_bounds(
    models: FileDoor, tmp_path: Path, header: bytes, length: int | None
) -> None:
    (tmp_path / "x.safetensors").write_bytes(safetensors(header, length)[: 8 + len(header)])
    answer = await models.get("/view_metadata/loras?filename=x.safetensors")
    assert answer.status in {200, 404}
