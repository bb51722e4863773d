"""Layers: what the tree of a build looks like after each step, by content.

A layer is a manifest of the whole tree; the contents of its files are kept once each, whatever the
layer or the name. Files that name the tree itself (scripts of a virtual environment, settings that
programs write) are kept with a placeholder of the same length instead, so that a layer fits every
tree: names of trees all have one length.
"""

import errno
import os
import stat
from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec
from blake3 import blake3

from comfyserve.build.files import clone, share, write_document
from comfyserve.build.tree import (
    Document,
    Entry,
    Mark,
    State,
    Tree,
    digest_of,
    mark_of,
    overlapping,
    walk,
)
from comfyserve.domain.errors import ComfyserveError

_SHARED_FROM_BYTES = 256 * 1024
_MAPPED_FROM_BYTES = 128 * 1024
_COMPILED = ".pyc"
"""Python mends the file name in these by itself when it loads them."""


class SecretFound(ComfyserveError):
    """A step wrote the value of a secret into a file that would be kept."""

    code = "secret_in_layer"


class LayerDamaged(ComfyserveError):
    """A layer is not what it was when it was kept: the machine went down before it was on disk."""

    code = "layer_damaged"


class Layers:
    """The layers and contents below one directory, which one process owns. Blocks; for threads."""

    def __init__(self, root: Path, models: Path) -> None:
        self._models = models
        self._manifests = root / "layers"
        self._contents = root / "contents"

    def has(self, key: str) -> bool:
        """Whether the layer is here."""
        return (self._manifests / key).is_file()

    def restore(self, key: str, tree: Tree) -> "State":
        """Make an empty tree what it was after the layer's step. Raises LayerDamaged."""
        document = self._read(key)
        entries = document.entries
        marks: dict[str, Mark] = {}
        for name in sorted(entries):
            entry, path = entries[name], tree.path / name
            match entry.kind:
                case "d":
                    path.mkdir()
                case "l":
                    self._restore_link(entry, path)
                case _:
                    self._restore_file(entry, path, tree)
            marks[name] = mark_of(path.lstat())
        for name, entry in entries.items():
            if entry.kind == "d":
                (tree.path / name).chmod(entry.mode)
                marks[name] = mark_of((tree.path / name).lstat())
        os.utime(self._manifests / key)
        return State(entries, marks, document.lock)

    def keep(self, key: str, tree: Tree, before: "State", secrets: Collection[bytes]) -> "State":
        """Keep what the tree is now as a layer; `before` has the lock of it.

        Raises SecretFound, with nothing kept.
        """
        entries: dict[str, Entry] = {}
        marks: dict[str, Mark] = {}
        for name, status in walk(tree.path):
            mark = mark_of(status)
            known = before.entries.get(name)
            if known is None or before.marks.get(name) != mark:
                known = self._entry(name, status, tree, secrets)
            if known is not None:
                entries[name], marks[name] = known, mark
        document = Document(entries, dict(before.lock))
        write_document(self._manifests / key, msgspec.json.encode(document))
        return State(entries, marks, before.lock)

    def share(self, tree: Tree, state: "State") -> None:
        """Let a tree that no step will write to any more have its large files in common with us.

        Sources stay copies: the time of change that their compiled form refers to is their own.
        """
        for name, entry in state.entries.items():
            path = tree.path / name
            if entry.kind == "f" and not entry.is_patched and not name.endswith(".py"):
                status = path.lstat()
                if status.st_size >= _SHARED_FROM_BYTES and status.st_nlink == 1:
                    share(self._content(entry), path)

    def drop(self, key: str) -> None:
        """Forget a layer; its contents go with the next collection."""
        (self._manifests / key).unlink(missing_ok=True)

    def keys(self) -> Mapping[str, float]:
        """All layers, each with when it was last used."""
        if not self._manifests.is_dir():
            return {}
        return {
            path.name: path.stat().st_mtime
            for path in self._manifests.iterdir()
            if not path.name.startswith(".")
        }

    def drop_except(self, kept: Collection[str]) -> int:
        """Drop all other layers, and contents that none refers to; return the bytes freed."""
        for key in self.keys():
            if key not in kept:
                self.drop(key)
        wanted = {
            self._content(entry)
            for key in self.keys()
            for entry in self._read(key).entries.values()
            if entry.kind == "f"
        }
        freed = 0
        for path in list(self._contents.glob("*/*")):
            if path not in wanted:
                status = path.lstat()
                freed += status.st_size if status.st_nlink == 1 else 0
                path.unlink()
        return freed

    def _read(self, key: str) -> Document:
        try:
            data = (self._manifests / key).read_bytes()
            return msgspec.json.decode(data, type=Document)
        except (FileNotFoundError, msgspec.MsgspecError) as error:
            raise LayerDamaged(f"layer {key} cannot be read") from error

    def _content(self, entry: Entry) -> Path:
        suffix = "x" if entry.mode & stat.S_IXUSR else ""
        return self._contents / entry.content[:2] / f"{entry.content[2:]}{suffix}"

    def _restore_link(self, entry: Entry, path: Path) -> None:
        target = Path(entry.content)
        if target.is_relative_to(self._models) and not target.exists():
            raise LayerDamaged(f"the model '{path.name}' was evicted")
        path.symlink_to(target)

    def _restore_file(self, entry: Entry, path: Path, tree: Tree) -> None:
        try:
            clone(
                self._content(entry),
                path,
                mode=entry.mode,
                mtime_ns=entry.mtime_ns,
                size=entry.size,
            )
        except OSError as error:
            if error.errno not in {errno.EIO, errno.ENOENT}:
                raise
            raise LayerDamaged(f"the contents of '{path.name}' are not whole") from error
        if entry.is_patched:
            mended = path.read_bytes().replace(tree.placeholder, tree.name)
            path.chmod(0o600)
            path.write_bytes(mended)
            path.chmod(entry.mode)
            os.utime(path, ns=(entry.mtime_ns, entry.mtime_ns))

    def _entry(
        self, name: str, status: os.stat_result, tree: Tree, secrets: Collection[bytes]
    ) -> Entry | None:
        path, mode = tree.path / name, stat.S_IMODE(status.st_mode)
        if stat.S_ISDIR(status.st_mode):
            return Entry("d", mode)
        if stat.S_ISLNK(status.st_mode):
            return Entry("l", mode, os.readlink(path))
        if not stat.S_ISREG(status.st_mode):
            return None
        data = path.read_bytes() if status.st_size < _MAPPED_FROM_BYTES else None
        if found := self._names_tree(path, data, tree, secrets, name):
            data = (data or path.read_bytes()).replace(tree.name, tree.placeholder)
        digest = blake3(data).hexdigest() if data is not None else digest_of(path)
        entry = Entry("f", mode, digest, status.st_size, status.st_mtime_ns, found)
        content = self._content(entry)
        if not content.is_file() or content.stat().st_size != entry.size:
            self._store(content, path, data if found else None)
        return entry

    def _names_tree(
        self, path: Path, data: bytes | None, tree: Tree, secrets: Collection[bytes], name: str
    ) -> bool:
        """Whether the file has the name of the tree in it. Raises SecretFound."""
        found = False
        for chunk in (data,) if data is not None else overlapping(path):
            if any(secret in chunk for secret in secrets):
                raise SecretFound(
                    f"the step left the value of a secret in '{name}'; a layer must not have one. "
                    "Let the command remove it, or not write it"
                )
            found = found or (not name.endswith(_COMPILED) and tree.name in chunk)
        return found

    def _store(self, content: Path, path: Path, data: bytes | None) -> None:
        content.parent.mkdir(parents=True, exist_ok=True)
        beside = content.with_name(f".{content.name}")
        beside.unlink(missing_ok=True)
        mode = 0o555 if content.name.endswith("x") else 0o444
        if data is None:
            status = path.stat()
            clone(path, beside, mode=mode, mtime_ns=status.st_mtime_ns, size=status.st_size)
        else:
            beside.write_bytes(data)
            beside.chmod(mode)
        beside.replace(content)
