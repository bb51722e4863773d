"""Every kind of output that a node can write is a file that others can read."""

import wave
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.unit.engine.running import Bench


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def write(bench: Bench, class_type: str, **inputs: object) -> tuple[str, dict[str, Any], Path]:
    """Run a node; return the key that it reports, the entry, and the file."""
    given = {"filename_prefix": "made/here", **inputs}
    report = bench.run({"1": {"class_type": class_type, "inputs": given}})
    assert report.status.is_completed, report.status.messages[-1]
    ((key, (entry,)),) = report.outputs["1"].items()
    return key, entry, bench.root / "output" / entry["subfolder"] / entry["filename"]


def test_audio(bench: Bench) -> None:
    key, entry, path = write(bench, "TestingAudio", seconds=0.5)
    assert (key, entry["filename"]) == ("audio", "here_00001_.wav")
    with wave.open(str(path)) as file:
        assert file.getnframes() / file.getframerate() == 0.5


def test_animation(bench: Bench) -> None:
    key, entry, path = write(bench, "TestingAnimation", frames=5)
    assert (key, entry["format"]) == ("gifs", "image/gif")
    with Image.open(path) as image:
        assert (getattr(image, "n_frames", 0), image.size) == (5, (96, 64))


def test_video(bench: Bench) -> None:
    key, entry, path = write(bench, "TestingVideo", frames=4)
    assert (key, entry["format"]) == ("video", "video/x-msvideo")
    data = path.read_bytes()
    assert (data[:4], data[8:12]) == (b"RIFF", b"AVI ")
    assert int.from_bytes(data[4:8], "little") == len(data) - 8
    assert data.count(b"\xff\xd8\xff\xe0") == 4


def test_a_key_that_nobody_knows(bench: Bench) -> None:
    key, _, path = write(bench, "TestingUnknownOutput", kilobytes=3)
    assert key == "parchments"
    assert path.stat().st_size == 3 * 1024


def test_text(bench: Bench) -> None:
    report = bench.run({"1": {"class_type": "TestingText", "inputs": {"text": "hej"}}})
    assert report.outputs == {"1": {"text": ["hej"]}}


@pytest.mark.parametrize(("count", "animated"), [(1, False), (3, True)])
def test_animated_webp(bench: Bench, count: int, animated: bool) -> None:
    sizes = {"width": 8, "height": 6, "batch_size": count, "color": 255}
    options = {"fps": 5.0, "lossless": True, "quality": 80, "method": "default"}
    prompt = {
        "1": {"class_type": "EmptyImage", "inputs": sizes},
        "2": {
            "class_type": "SaveAnimatedWEBP",
            "inputs": {"images": ["1", 0], "filename_prefix": "w", **options},
        },
    }
    report = bench.run(prompt)
    assert report.outputs["2"]["animated"] == [animated]
    with Image.open(bench.root / "output" / "w_00001_.webp") as image:
        assert image.size == (8, 6)
        assert image.getexif()[0x0110].startswith('prompt:{"1"')


def test_previews_keep_their_name_through_all_runs(bench: Bench) -> None:
    def prompt(color: int) -> dict[str, Any]:
        sizes = {"width": 4, "height": 4, "batch_size": 1, "color": color}
        return {
            "1": {"class_type": "EmptyImage", "inputs": sizes},
            "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
            "3": {"class_type": "PreviewImage", "inputs": {"images": ["4", 0]}},
            "4": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        }

    first, second = bench.run(prompt(1)), bench.run(prompt(2))
    names = [
        report.outputs[node]["images"][0]["filename"] for report in (first, second) for node in "23"
    ]
    stems = [name.rpartition("_0")[0] for name in names]
    assert stems[0] == stems[2] != stems[1] == stems[3]
    assert names[2].endswith("_00002_.png")
