"""Names of files: where they lead, how they are counted."""

import time
from pathlib import Path

import pytest
from tests.unit.engine.running import folders_in

from comfyserve.engine.folders import FileType, Folders, OutsideDirectory

NOW = time.struct_time((2026, 3, 7, 5, 4, 9, 5, 66, 0))


@pytest.fixture
def folders(tmp_path: Path) -> Folders:
    return folders_in(tmp_path)


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("x.png", ("x.png", None)),
        ("x.png [output]", ("x.png", FileType.OUTPUT)),
        ("sub/x.png [temp]", ("sub/x.png", FileType.TEMP)),
        ("x.png[input]", ("x.pn", FileType.INPUT)),
        ("x.png [outer]", ("x.png [outer]", None)),
    ],
)
def test_annotations(folders: Folders, name: str, parts: tuple[str, FileType | None]) -> None:
    assert folders.annotated(name) == parts


@pytest.mark.parametrize("name", ["../x.png", "/etc/passwd", "a/../../x", "../input2/x"])
def test_names_stay_inside(folders: Folders, name: str) -> None:
    with pytest.raises(OutsideDirectory):
        folders.input_path(name)


def test_numbers_go_on_where_they_ended(folders: Folders) -> None:
    for name in (
        "cat_00003_.png",
        "cat_00012_.webp",
        "cat_x_.png",
        "category_00099_.png",
        "cat.png",
    ):
        (folders.of_type(FileType.OUTPUT) / name).touch()
    place = folders.save_place("cat", FileType.OUTPUT, 0, 0, NOW)
    assert [place.name(index, ".png") for index in range(2)] == ["cat_00013_.png", "cat_00014_.png"]


def test_prefixes_are_filled_in(folders: Folders) -> None:
    prefix = "%year%/%month%-%day%/%width%x%height%_%hour%%minute%%second%_%batch_num%_%other%"
    place = folders.save_place(prefix, FileType.OUTPUT, 640, 480, NOW)
    assert place.subfolder == "2026/03-07"
    assert place.name(2, ".png") == "640x480_050409_2_%other%_00003_.png"
    assert place.directory.is_dir()


def test_only_images_directly_inside_are_offered(folders: Folders) -> None:
    root = folders.of_type(FileType.INPUT)
    (root / "sub").mkdir()
    for name in ("b.png", "a.JPG", "notes.txt", "film.mp4", "sub/c.png", "noending"):
        (root / name).touch()
    assert folders.input_images() == ("a.JPG", "b.png")


def test_models_are_found_below_their_folder(folders: Folders) -> None:
    (root,) = folders.model_directories("loras")
    (root / "style").mkdir(parents=True)
    for name in ("b.safetensors", "style/a.pt", "readme.md"):
        (root / name).touch()
    assert folders.models("loras") == ["b.safetensors", "style/a.pt"]
    assert folders.models("vae") == []
