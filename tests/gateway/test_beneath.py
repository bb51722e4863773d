"""Names and links never lead out of a directory, whatever they are made of."""

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.gateway.beneath import (
    make_directory,
    move_file,
    open_file,
    relative_parts,
    remove_file,
    replace_file,
)

pieces = st.lists(
    st.one_of(
        st.sampled_from(["..", ".", "", "/", "//", "a", "b", "\\", "..\\", "%2e%2e", "\0", "~"]),
        st.text(max_size=5),
    ),
    max_size=8,
)
paths = pieces.map("/".join)


@given(first=paths, second=paths)
def test_what_is_let_through_stays_inside(first: str, second: str) -> None:
    parts = relative_parts(first, second)
    if parts is None:
        return
    root = "/some/where"
    joined = os.path.join(root, *parts)
    assert os.path.normpath(joined) == joined
    assert joined == root or joined.startswith(f"{root}/")
    assert not {"", ".", ".."} & set(parts)


@given(first=paths, second=paths)
def test_nothing_inside_is_refused(first: str, second: str) -> None:
    root = "/some/where"
    real = os.path.normpath(os.path.join(root, first, second))
    is_inside = real == root or real.startswith(f"{root}/")
    is_name = "\0" not in first + second and not any(
        "\ud800" <= c <= "\udfff" for c in first + second
    )
    # A way out and back in by the root's own name is refused as well: nobody sends that.
    comes_back = "where" in first + second or "some" in first + second
    if is_inside and is_name and not comes_back:
        assert relative_parts(first, second) is not None


@given(path=paths, body=st.binary(max_size=20))
def test_writing_and_reading_touch_nothing_outside(path: str, body: bytes) -> None:
    parts = relative_parts(path)
    if parts is None:
        return
    with tempfile.TemporaryDirectory() as outer:
        root = Path(outer, "root")
        try:
            replace_file(root, parts, body)
        except OSError:
            assert parts == () or any(len(part.encode()) > 255 for part in parts)
        else:
            handle = open_file(root, parts)
            assert handle is not None
            with os.fdopen(handle, "rb") as file:
                assert file.read() == body
        assert os.listdir(outer) in ([], ["root"])


@pytest.fixture
def root(tmp_path: Path) -> Iterator[Path]:
    """A directory with a link out of it, to a file and to a directory."""
    (tmp_path / "secret.txt").write_bytes(b"secret")
    root = tmp_path / "root"
    (root / "sub").mkdir(parents=True)
    (root / "sub" / "real.txt").write_bytes(b"real")
    (root / "link").symlink_to(tmp_path)
    (root / "link.txt").symlink_to(tmp_path / "secret.txt")
    yield root
    assert (tmp_path / "secret.txt").read_bytes() == b"secret"
    assert sorted(os.listdir(tmp_path)) == ["root", "secret.txt"]


def test_links_are_not_followed(root: Path) -> None:
    assert open_file(root, ("link.txt",)) is None
    assert open_file(root, ("link", "secret.txt")) is None
    assert open_file(root, ()) is None
    assert open_file(root, ("sub",)) is None
    with pytest.raises(OSError, match=r"."):
        replace_file(root, ("link", "new.txt"), b"x")
    with pytest.raises(OSError, match=r"."):
        make_directory(root, ("link", "new"))
    assert remove_file(root, ("link", "secret.txt")) is False
    assert move_file(root, ("link", "secret.txt"), ("mine.txt",)) is False
    with pytest.raises(OSError, match=r"."):
        move_file(root, ("sub", "real.txt"), ("link", "real.txt"))


def test_a_link_is_replaced_not_written_through(root: Path) -> None:
    replace_file(root, ("link.txt",), b"mine")
    assert (root / "link.txt").read_bytes() == b"mine"
    assert not (root / "link.txt").is_symlink()


def test_a_failed_write_leaves_what_was_there(root: Path) -> None:
    with pytest.raises(IsADirectoryError):
        replace_file(root, ("sub",), b"x")
    with pytest.raises(IsADirectoryError):
        replace_file(root, (), b"x")
    assert sorted(os.listdir(root)) == ["link", "link.txt", "sub"]


def test_moving_and_removing(root: Path) -> None:
    assert move_file(root, ("sub", "real.txt"), ("deep", "er", "moved.txt")) is True
    assert (root / "deep/er/moved.txt").read_bytes() == b"real"
    assert move_file(root, ("sub", "real.txt"), ("x.txt",)) is False
    assert move_file(root, ("nowhere", "real.txt"), ("x.txt",)) is False
    assert remove_file(root, ("deep", "er", "moved.txt")) is True
    assert remove_file(root, ("deep", "er", "moved.txt")) is False
    with pytest.raises(IsADirectoryError):
        remove_file(root, ())


def test_a_root_that_is_a_link_is_the_operators(root: Path, tmp_path: Path) -> None:
    (root / "away").symlink_to(root / "sub")
    handle = open_file(root / "away", ("real.txt",))
    assert handle is not None
    os.close(handle)
