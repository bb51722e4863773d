"""An output outside of a replica: a local value that behaves."""

import gc
import io
import threading
import zipfile
from pathlib import Path
from typing import Any
from urllib.request import url2pathname

import pytest
from PIL import Image as Pillow

from comfyserve import Output
from comfyserve.domain.errors import InvalidInput, NotFound


def file_of(url: str) -> Path:
    assert url.startswith("file:///")
    return Path(url2pathname(url.removeprefix("file://")))


def test_a_path_is_an_output(tmp_path: Path) -> None:
    path = tmp_path / "a picture.png"
    output = Output(path=path)
    assert not output.exists()
    with pytest.raises(NotFound, match="there is no file"):
        output.save()
    path.write_bytes(b"abc")
    assert output.exists()
    stat = output.save().stat()
    assert (stat.name, stat.size_bytes, stat.content_type) == ("a picture.png", 3, "image/png")
    assert file_of(output.public_url()) == path


def test_what_is_in_memory_is_an_output_too() -> None:
    assert file_of(Output.from_bytes(b"abc", "x.bin").public_url()).read_bytes() == b"abc"
    file = io.BytesIO(b"abc")
    file.read(1)
    assert file_of(Output.from_file(file).public_url()).read_bytes() == b"bc"
    picture = Pillow.new("RGB", (2, 2), "red")
    shown = Output.from_pil_image(picture, format="jpeg")
    assert shown.stat().content_type == "image/jpeg"
    with Pillow.open(file_of(shown.public_url())) as seen:
        assert (seen.format, seen.size) == ("JPEG", (2, 2))


def test_what_nobody_linked_to_leaves_nothing_behind() -> None:
    output = Output.from_bytes(b"abc", "x.bin")
    directory = output.path.parent
    assert directory.is_dir()
    del output
    gc.collect()
    _cleaned()
    assert not directory.exists()


def test_a_directory_is_a_zip(tmp_path: Path) -> None:
    (tmp_path / "set" / "inner").mkdir(parents=True)
    (tmp_path / "set" / "a.txt").write_text("a")
    (tmp_path / "set" / "inner" / "big.bin").write_bytes(bytes(3_000_000))
    output = Output(path=tmp_path / "set")
    assert output.stat().content_type == "application/zip"
    with zipfile.ZipFile(file_of(output.public_url())) as archive:
        assert archive.testzip() is None
        assert archive.namelist() == ["a.txt", "inner/", "inner/big.bin"]
        assert archive.read("a.txt") == b"a"


@pytest.mark.parametrize("expires", [-1, 0, float("nan"), float("inf"), "soon", None, True, 1e9])
def test_a_link_that_never_expires_cannot_be_made(tmp_path: Path, expires: Any) -> None:
    with pytest.raises(InvalidInput, match="never expires cannot be made"):
        Output.from_bytes(b"x", "x").public_url(expires)


def _cleaned() -> None:
    for thread in threading.enumerate():
        if thread.name == "comfyserve-output":
            thread.join(20)
