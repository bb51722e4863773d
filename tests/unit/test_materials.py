"""Stored files as inputs: named by content, whole or not there, swept when nobody asks for them."""

import os
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.runtime.materials import Materials, material_name
from comfyserve.store.assets import Asset

MATERIALS = Materials()
DIGEST = "0123456789abcdef" * 4
ASSET = Asset("a", "dp", None, "", "cat.png", "a", "upload", DIGEST, 5, "image/png", 1.0, None)


def test_the_name_tells_content_and_kind() -> None:
    assert material_name(ASSET) == "cat.v2-0123456789abcdef.png"
    assert material_name(replace(ASSET, name=".png")) == "png.v2-0123456789abcdef"
    assert material_name(replace(ASSET, name="a b[output]")) == "a_b_output.v2-0123456789abcdef"


@given(st.text())
def test_any_name_makes_a_plain_one(name: str) -> None:
    made = material_name(replace(ASSET, name=name))
    assert made.isascii()
    assert "/" not in made
    assert not made.startswith(".")
    assert not made.endswith("]")
    assert len(made) < 120


def test_a_copy_is_made_once_and_repaired(tmp_path: Path) -> None:
    blob, inputs = tmp_path / "blob", tmp_path / "in" / "put"
    blob.write_bytes(b"bytes")
    place = inputs / MATERIALS.lay_down(ASSET, blob, inputs)
    assert place.read_bytes() == b"bytes"
    assert place.stat().st_nlink == 1
    os.utime(place, (1, 1))
    MATERIALS.lay_down(ASSET, blob, inputs)
    assert place.stat().st_mtime > 1
    place.write_bytes(b"cut")
    MATERIALS.lay_down(ASSET, blob, inputs)
    assert place.read_bytes() == b"bytes"
    place.unlink()
    place.symlink_to(blob)
    MATERIALS.lay_down(ASSET, blob, inputs)
    assert not place.is_symlink()
    assert os.listdir(inputs) == [place.name]


def test_missing_bytes_leave_nothing(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        MATERIALS.lay_down(ASSET, tmp_path / "none", tmp_path / "input")
    assert os.listdir(tmp_path / "input") == []


def test_the_sweep_takes_old_copies_alone(tmp_path: Path) -> None:
    blob, inputs = tmp_path / "blob", tmp_path / "input"
    assert MATERIALS.sweep(inputs, 100.0) == 0
    blob.write_bytes(b"bytes")
    old = inputs / MATERIALS.lay_down(ASSET, blob, inputs)
    new = inputs / MATERIALS.lay_down(replace(ASSET, name="dog.png"), blob, inputs)
    mine = inputs / "mine.png"
    mine.write_bytes(b"mine")
    for path in (old, mine):
        os.utime(path, (50, 50))
    assert MATERIALS.sweep(inputs, 100.0) == 1
    assert sorted(os.listdir(inputs)) == sorted([new.name, mine.name])
