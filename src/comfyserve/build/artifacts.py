"""What successful builds left: found by the digest of the image."""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from comfyserve.build.files import write_document


class ImageDocument(msgspec.Struct, frozen=True, kw_only=True):
    """One built image as it is kept. Paths are relative to the tree, or absolute outside of it."""

    tree: str
    home: str
    python: str
    comfyui_dir: str | None
    env: dict[str, str]
    keys: list[str]
    models: list[str]
    lock: dict[str, str]
    size_bytes: int
    former_trees: list[str] = []


@dataclass(frozen=True, slots=True)
class Artifact:
    """A built environment.

    `python` is its interpreter; `workspace` was HOME and working directory of the build's steps and
    must not be written to; `comfyui_dir` is where ComfyUI lies, if there is one. `readable` is what a
    confined replica must see.
    """

    digest: str
    python: Path
    workspace: Path
    comfyui_dir: Path | None
    env: Mapping[str, str] = field(default_factory=dict)
    lock: Mapping[str, str] = field(default_factory=dict)
    readable: tuple[Path, ...] = ()
    size_bytes: int = 0
    is_installation: bool = False


class Artifacts:
    """The built images below `root`, the directory `builds` of a home. Blocks; for threads."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.models = root.parent / "models"
        self._images = root / "images"

    def find(self, digest: str) -> Artifact | None:
        """The environment of an image; None if it was not built, was pruned or lost a model."""
        document = self.read(digest)
        if document is None or document.home != str(self.root):
            return None
        tree = self.root / "trees" / document.tree
        models = [self.models / "contents" / name for name in document.models]
        if not tree.is_dir() or not all(path.is_file() for path in models):
            return None
        comfyui_dir = None if document.comfyui_dir is None else tree / document.comfyui_dir
        return Artifact(
            digest=digest,
            python=tree / document.python,
            workspace=tree / "workspace",
            comfyui_dir=comfyui_dir,
            env=document.env,
            lock=document.lock,
            readable=(tree, self.models / "contents"),
            size_bytes=document.size_bytes,
            is_installation=comfyui_dir is not None and not comfyui_dir.is_relative_to(tree),
        )

    def read(self, digest: str) -> ImageDocument | None:
        """What is kept of an image."""
        try:
            data = (self._images / f"{digest}.json").read_bytes()
        except FileNotFoundError:
            return None
        return msgspec.json.decode(data, type=ImageDocument)

    def write(self, digest: str, document: ImageDocument) -> None:
        """Make an image what this document says, at once."""
        write_document(self._images / f"{digest}.json", msgspec.json.encode(document))

    def used_at(self, digest: str) -> float:
        """When an image was last built, or found to be built."""
        return (self._images / f"{digest}.json").stat().st_mtime

    def touch(self, digest: str) -> None:
        """An image is used now."""
        os.utime(self._images / f"{digest}.json")

    def remove(self, digest: str) -> None:
        """Forget an image; its tree is removed by a sweep."""
        (self._images / f"{digest}.json").unlink(missing_ok=True)

    def digests(self) -> tuple[str, ...]:
        """All built images."""
        if not self._images.is_dir():
            return ()
        return tuple(sorted(path.stem for path in self._images.glob("[!.]*.json")))


def find_comfyui(workspace: Path) -> Path | None:
    """Where in a workspace ComfyUI lies, at most two directories deep."""
    for pattern in ("main.py", "*/main.py", "*/*/main.py"):
        for main in sorted(workspace.glob(pattern)):
            directory = main.parent
            if (directory / "nodes.py").is_file() and (directory / "comfy").is_dir():
                return directory
    return None
