"""What lies in the input directory now, and `/object_info` that lists it."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from comfyserve.gateway.input_files import (
    list_input_files,
    patch_object_info,
    patch_object_info_of,
)
from comfyserve.runtime.snapshot import Snapshot


def node(required: dict[str, Any], **optional: Any) -> dict[str, Any]:
    """An entry of `/object_info`."""
    return {
        "input": {"required": required, "optional": optional},
        "input_order": {"required": list(required), "optional": list(optional)},
        "output": ["IMAGE"],
        "output_is_list": [False],
        "output_name": ["IMAGE"],
        "name": "X",
        "display_name": "X",
        "description": "",
        "python_module": "nodes",
        "category": "image",
        "output_node": False,
    }


INFO = {
    "LoadImage": node({"image": [["old.png"], {"image_upload": True}]}),
    "LoadVideo": node({"file": ["COMBO", {"options": ["old.mp4"], "video_upload": True}]}),
    "LoadAudio": node({}, audio=["COMBO", {"options": [], "audio_upload": True, "tooltip": "x"}]),
    "LoadImageOutput": node(
        {"image": ["COMBO", {"image_upload": True, "image_folder": "output", "remote": {}}]}
    ),
    "KSampler": node({"steps": ["INT", {"default": 20, "max": 10000}]}),
    "Odd_upload": {"input": None},
}


@pytest.fixture
def settled(tmp_path: Path) -> Callable[[], None]:
    """Makes the directories look as if nothing had happened for long."""

    def age() -> None:
        for directory in [tmp_path, *(path for path in tmp_path.rglob("*") if path.is_dir())]:
            os.utime(directory, ns=(10**18, 10**18 + directory.stat().st_ino))

    return age


async def test_lists_files_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "clipspace").mkdir()
    (tmp_path / "clipspace" / "mask.png").touch()
    (tmp_path / "cat.png").touch()
    (tmp_path / ".hidden").touch()
    (tmp_path / "link.png").symlink_to(tmp_path / "cat.png")
    (tmp_path / "loop").symlink_to(tmp_path)
    (tmp_path / os.fsdecode(b"bad\xff.png")).touch()
    assert await list_input_files(tmp_path) == {
        "cat.png",
        ".hidden",
        "link.png",
        "clipspace/mask.png",
    }


async def test_a_directory_that_is_not_there_yet_has_no_files(tmp_path: Path) -> None:
    directory = tmp_path / "later"
    assert await list_input_files(directory) == frozenset()
    directory.mkdir()
    (directory / "cat.png").touch()
    assert await list_input_files(directory) == {"cat.png"}


async def test_sees_every_change_at_once(tmp_path: Path) -> None:
    for number in range(200):
        (tmp_path / f"{number}.png").touch()
        assert len(await list_input_files(tmp_path)) == number + 1


async def test_what_did_not_change_is_the_same_object(
    tmp_path: Path, settled: Callable[[], None]
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "cat.png").touch()
    fresh = await list_input_files(tmp_path)
    assert await list_input_files(tmp_path) is fresh
    settled()
    known = await list_input_files(tmp_path)
    assert known is fresh
    assert await list_input_files(tmp_path) is known
    (tmp_path / "sub" / "dog.png").touch()
    assert await list_input_files(tmp_path) == {"sub/cat.png", "sub/dog.png"}


def test_object_info_offers_what_is_there() -> None:
    snapshot = Snapshot(msgspec.json.encode(INFO), {})
    files = frozenset({"b.png", "a.jpg", "clip.mp4", "song.mp3", "sub/c.png", "note.txt"})
    patched = msgspec.json.decode(patch_object_info(snapshot, files))
    assert list(patched) == list(INFO)
    assert patched["LoadImage"]["input"]["required"]["image"] == [
        ["a.jpg", "b.png"],
        {"image_upload": True},
    ]
    assert patched["LoadVideo"]["input"]["required"]["file"][1]["options"] == ["clip.mp4"]
    audio = patched["LoadAudio"]["input"]["optional"]["audio"]
    assert audio == ["COMBO", {"options": ["song.mp3"], "audio_upload": True, "tooltip": "x"}]
    for name in ("LoadImageOutput", "KSampler", "Odd_upload"):
        assert patched[name] == INFO[name]
    assert patch_object_info(snapshot, files) is patch_object_info(snapshot, files)


def test_one_class() -> None:
    snapshot = Snapshot(msgspec.json.encode(INFO), {})
    files = frozenset({"a.png"})
    one = patch_object_info_of(snapshot, "LoadImage", files)
    assert one == {"LoadImage": patched_image(["a.png"])}
    plain = msgspec.json.decode(
        msgspec.json.encode(patch_object_info_of(snapshot, "KSampler", files))
    )
    assert plain == {"KSampler": INFO["KSampler"]}
    assert patch_object_info_of(snapshot, "Nope", files) == {}


def patched_image(choices: list[str]) -> dict[str, Any]:
    """`LoadImage` with other choices."""
    entry = msgspec.json.decode(msgspec.json.encode(INFO["LoadImage"]))
    entry["input"]["required"]["image"][0] = choices
    patched: dict[str, Any] = entry
    return patched


def test_the_catalog_knows_the_same_files() -> None:
    snapshot = Snapshot(msgspec.json.encode(INFO), {})
    files = frozenset({"a.png"})
    catalog = snapshot.catalog_with(files)
    loader = catalog.get("LoadImage")
    assert loader is not None
    assert loader.by_name["image"].choices == ("a.png",)
    assert snapshot.catalog_with(files) is catalog
    assert snapshot.catalog_with(frozenset({"b.png"})) is not catalog
