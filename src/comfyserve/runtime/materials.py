"""Stored files as inputs: a copy in the input directory, under a name that its content decides.

The copy is a file of its own, not a link: what an engine does to it never reaches the blob.
Copies that nothing has asked for in a long time are removed.
"""

import os
import re
import secrets
import shutil
import threading
from pathlib import Path

from comfyserve.store.assets import Asset

_STEM_CHARACTERS = 60
_DIGEST_CHARACTERS = 16
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")
_ENDING = re.compile(r"\.[A-Za-z0-9]{1,12}")
_MATERIAL = re.compile(r".+\.v2-[0-9a-f]{16}(\.[A-Za-z0-9]{1,12})?")


def material_name(asset: Asset) -> str:
    """The name of an asset's copy: the same for the same bytes and name, else another one."""
    stem, dot, ending = asset.name.rpartition(".")
    if not stem or _ENDING.fullmatch(dot + ending) is None:
        stem, dot, ending = asset.name, "", ""
    safe = _UNSAFE.sub("_", stem).strip("._-")[:_STEM_CHARACTERS] or "file"
    return f"{safe}.v2-{asset.digest[:_DIGEST_CHARACTERS]}{dot}{ending}"


class Materials:
    """The copies of a home. Its methods block; for threads."""

    def __init__(self) -> None:
        # Finding a copy to be used again, and finding it too old, must not overlap.
        self._lock = threading.Lock()

    def lay_down(self, asset: Asset, blob: Path, input_dir: Path) -> str:
        """Have an asset's copy in the directory; return its name.

        It appears whole or not at all, and counts as used from now on. Raises FileNotFoundError
        if the blob is gone, and other OSErrors.
        """
        name = material_name(asset)
        place = input_dir / name
        with self._lock:
            if _is_there(place, asset.size_bytes):
                os.utime(place)
                return name
        input_dir.mkdir(parents=True, exist_ok=True)
        hidden = input_dir / f".comfyserve-{secrets.token_hex(8)}"
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        try:
            with blob.open("rb") as source, os.fdopen(os.open(hidden, flags, 0o644), "wb") as copy:
                shutil.copyfileobj(source, copy)
                copy.flush()
                os.fsync(copy.fileno())
            with self._lock:
                hidden.replace(place)
        finally:
            hidden.unlink(missing_ok=True)
        return name

    def sweep(self, input_dir: Path, used_before: float) -> int:
        """Remove copies last asked for by then; return how many. Other files stay."""
        removed = 0
        for path in _copies(input_dir):
            with self._lock:
                try:
                    is_old = path.lstat().st_mtime <= used_before
                except FileNotFoundError:
                    continue
                if is_old:
                    path.unlink(missing_ok=True)
                    removed += 1
        return removed


def _is_there(place: Path, size_bytes: int) -> bool:
    # Something else may lie under that name: a link is never followed, whatever it points at.
    try:
        return not place.is_symlink() and place.is_file() and place.stat().st_size == size_bytes
    except OSError:
        return False


def _copies(directory: Path) -> list[Path]:
    try:
        with os.scandir(directory) as entries:
            return [
                Path(entry.path)
                for entry in entries
                if _MATERIAL.fullmatch(entry.name) and entry.is_file(follow_symlinks=False)
            ]
    except FileNotFoundError:
        return []
