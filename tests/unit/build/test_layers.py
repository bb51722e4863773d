"""Layers: a tree comes back as it was, in any place, and nothing that runs later changes it."""

import os
import subprocess
from pathlib import Path

import pytest

from comfyserve.build.files import remove_tree
from comfyserve.build.layers import LayerDamaged, Layers, SecretFound
from comfyserve.build.tree import EMPTY, State, Tree


@pytest.fixture
def layers(tmp_path: Path) -> Layers:
    return Layers(tmp_path, tmp_path / "models")


def _tree(tmp_path: Path, letter: str) -> Tree:
    tree = Tree(tmp_path / "trees" / f"bd_{letter * 20}")
    tree.path.mkdir(parents=True)
    return tree


def _fill(tree: Tree) -> None:
    (tree.path / "bin").mkdir()
    (tree.path / "bin" / "tool").write_text(f"#!{tree.path}/bin/python\nprint('hi')\n")
    (tree.path / "bin" / "tool").chmod(0o755)
    (tree.path / "bin" / "python").symlink_to("/usr/bin/python3")
    (tree.path / "large.bin").write_bytes(bytes(range(256)) * 2048)
    (tree.path / "empty").mkdir(mode=0o700)
    (tree.path / "notes.txt").write_text("one\n")
    os.utime(tree.path / "notes.txt", ns=(1_000, 1_234_567_890_000_000_000))


def _seen(tree: Tree) -> dict[str, object]:
    """The tree as somebody sees who does not know where it is."""
    found: dict[str, object] = {}
    for path in sorted(tree.path.rglob("*")):
        status = path.lstat()
        what: object = None
        if path.is_symlink():
            what = os.readlink(path)
        elif path.is_file():
            what = (path.read_bytes().replace(tree.name, b"HERE"), status.st_mtime_ns)
        found[str(path.relative_to(tree.path))] = (status.st_mode, what)
    return found


def test_a_tree_comes_back_in_another_place_as_if_made_there(
    tmp_path: Path, layers: Layers
) -> None:
    one, two = _tree(tmp_path, "a"), _tree(tmp_path, "b")
    _fill(one)
    layers.keep("key", one, EMPTY, ())
    layers.restore("key", two)
    assert _seen(two) == _seen(one)
    assert (two.path / "bin" / "tool").read_text().startswith(f"#!{two.path}/bin/python")


def test_only_what_a_step_changed_is_kept_anew(tmp_path: Path, layers: Layers) -> None:
    tree = _tree(tmp_path, "a")
    _fill(tree)
    state = layers.keep("one", tree, EMPTY, ())
    (tree.path / "notes.txt").write_text("two\n")
    (tree.path / "large.bin").unlink()
    later = layers.keep("two", tree, state, ())
    again = _tree(tmp_path, "b")
    layers.restore("two", again)
    assert (again.path / "notes.txt").read_text() == "two\n"
    assert not (again.path / "large.bin").exists()
    assert later.entries["bin/tool"] is state.entries["bin/tool"]


@pytest.mark.parametrize(
    "command", ["echo more >> notes.txt", "printf x | dd of=large.bin conv=notrunc status=none"]
)
def test_a_write_in_place_never_reaches_an_earlier_layer(
    tmp_path: Path, layers: Layers, command: str
) -> None:
    tree = _tree(tmp_path, "a")
    _fill(tree)
    layers.keep("one", tree, EMPTY, ())
    before = _seen(tree)
    again = _tree(tmp_path, "b")
    state = layers.restore("one", again)
    for place, known in ((again, state), (tree, None)):
        subprocess.run(["/bin/sh", "-c", command], cwd=place.path, check=True)
        if known is not None:
            layers.keep("two", place, known, ())
    fresh = _tree(tmp_path, "c")
    layers.restore("one", fresh)
    assert _seen(fresh) == before


def test_large_files_are_stored_once_when_a_tree_is_sealed(tmp_path: Path, layers: Layers) -> None:
    tree = _tree(tmp_path, "a")
    _fill(tree)
    (tree.path / "twin.bin").write_bytes((tree.path / "large.bin").read_bytes())
    before = _seen(tree)
    state = layers.keep("one", tree, EMPTY, ())
    layers.share(tree, state)
    large, twin = (tree.path / name for name in ("large.bin", "twin.bin"))
    assert large.stat().st_ino == twin.stat().st_ino
    assert large.stat().st_mode & 0o222 == 0
    assert large.read_bytes() == before["large.bin"][1][0]  # type: ignore[index]  # as above


def test_the_value_of_a_secret_is_kept_in_no_layer(tmp_path: Path, layers: Layers) -> None:
    tree = _tree(tmp_path, "a")
    (tree.path / "config").write_text("token = s3cr3t\n")
    with pytest.raises(SecretFound, match="value of a secret in 'config'"):
        layers.keep("one", tree, EMPTY, (b"s3cr3t",))
    assert not layers.has("one")
    assert not any(b"s3cr3t" in p.read_bytes() for p in tmp_path.glob("contents/*/*"))


def test_a_layer_that_is_not_whole_is_not_used(tmp_path: Path, layers: Layers) -> None:
    tree = _tree(tmp_path, "a")
    _fill(tree)
    layers.keep("one", tree, EMPTY, ())
    victim = max(tmp_path.glob("contents/*/*"), key=lambda path: path.stat().st_size)
    victim.chmod(0o644)
    victim.write_bytes(b"")
    with pytest.raises(LayerDamaged):
        layers.restore("one", _tree(tmp_path, "b"))


def test_what_no_kept_layer_refers_to_goes(tmp_path: Path, layers: Layers) -> None:
    tree = _tree(tmp_path, "a")
    _fill(tree)
    state = layers.keep("one", tree, EMPTY, ())
    (tree.path / "more.bin").write_bytes(b"m" * 5000)
    layers.keep("two", tree, state, ())
    assert layers.drop_except({"one"}) == 5000
    assert set(layers.keys()) == {"one"}
    layers.restore("one", _tree(tmp_path, "b"))


def test_a_link_to_a_model_that_was_evicted_makes_the_layer_unusable(
    tmp_path: Path, layers: Layers
) -> None:
    model = tmp_path / "models" / "contents" / "abc"
    model.parent.mkdir(parents=True)
    model.write_bytes(b"weights")
    tree = _tree(tmp_path, "a")
    (tree.path / "a.safetensors").symlink_to(model)
    state = layers.keep("one", tree, EMPTY, ())
    assert state.links_below(tmp_path / "models") == (model,)
    model.unlink()
    with pytest.raises(LayerDamaged, match="was evicted"):
        layers.restore("one", _tree(tmp_path, "b"))


def test_a_tree_without_permissions_can_be_removed(tmp_path: Path) -> None:
    (tmp_path / "tree" / "locked").mkdir(parents=True)
    (tmp_path / "tree" / "locked" / "file").write_text("x")
    (tmp_path / "tree" / "locked").chmod(0o500)
    remove_tree(tmp_path / "tree")
    assert not (tmp_path / "tree").exists()


def test_a_state_remembers_what_steps_resolved() -> None:
    assert State({}, {}, {"a": "1"}).resolved({"b": "2"}).lock == {"a": "1", "b": "2"}
