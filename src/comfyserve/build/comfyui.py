"""ComfyUI in the workspace: from a repository at a tag, or copied from a directory."""

import asyncio
import hashlib
import os
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path

from comfyserve.build.artifacts import find_comfyui
from comfyserve.build.bench import Bench
from comfyserve.build.executor import BuildFailed
from comfyserve.build.git import check_out
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.image_steps import ComfyUISource

REPOSITORY = "https://github.com/comfyanonymous/ComfyUI"
_NOT_COPIED = frozenset({".git", ".venv", "venv", "__pycache__", "output", "temp", "user", "input"})
_LARGEST_OF_MODELS = 1024 * 1024
"""Weights are not copied: they are mounted, or added by `add_models`."""


async def install_comfyui(step: ComfyUISource, bench: Bench) -> Mapping[str, str]:
    """Put ComfyUI and its requirements into the image; return what was resolved."""
    target = bench.workshop.workspace / "ComfyUI"
    if await asyncio.to_thread(find_comfyui, bench.workshop.workspace) is not None:
        raise BuildFailed("the workspace has a ComfyUI already", code="comfyui_exists")
    source = step.source or REPOSITORY
    if source.startswith("/") and step.version is None:
        copied = await asyncio.to_thread(_copy, Path(source), target)
        found = f"{source} ({copied} files copied)"
    else:
        found = f"{source}@{await check_out(bench, source, step.version, target)}"
    await asyncio.to_thread(_complete, source, target)
    await bench.say(f"ComfyUI {found}")
    await install_requirements(bench, target)
    await compile_sources(bench, target)
    return {"comfyui": found}


def _complete(source: str, target: Path) -> None:
    if not (target / "main.py").is_file() or not (target / "nodes.py").is_file():
        raise BuildFailed(
            f"'{source}' is not ComfyUI: it has no main.py and nodes.py", code="not_comfyui"
        )
    for name in ("models", "custom_nodes", "input", "output", "temp", "user"):
        (target / name).mkdir(exist_ok=True)


async def install_requirements(bench: Bench, directory: Path) -> None:
    """Install what a directory's requirements.txt asks for, with torch chosen for this host."""
    listed = directory / "requirements.txt"
    if await asyncio.to_thread(listed.is_file):
        await bench.install(["--requirement", str(listed)], with_torch=True)


async def compile_sources(bench: Bench, directory: Path) -> None:
    """Compile what is imported at each start; sources that do not compile are not an error."""
    command = [str(bench.workshop.python), "-m", "compileall", "-q", str(directory)]
    try:
        await bench.run(command, shown="compile the sources", takes=lambda _: True)
    except BuildFailed:
        await bench.say("some sources could not be compiled")


def fingerprint(directory: Path) -> str:
    """What tells one state of a directory from another. Raises InvalidInput."""
    if not directory.is_dir():
        raise InvalidInput(
            f"Image.comfyui: the server has no directory '{directory}'", code="path_not_found"
        )
    hasher = hashlib.sha256()
    for path in _copied(directory):
        status = path.lstat()
        name = path.relative_to(directory)
        hasher.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode())
    return hasher.hexdigest()


def _copy(source: Path, target: Path) -> int:
    count = 0
    for path in _copied(source):
        there = target / path.relative_to(source)
        there.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(path, there, follow_symlinks=False)
        count += 1
    return count


def _copied(directory: Path) -> Iterator[Path]:
    """The files that are taken along, in a fixed order."""
    for here, folders, files in os.walk(directory):
        is_top = here == str(directory)
        folders[:] = sorted(f for f in folders if f not in _NOT_COPIED or not is_top)
        folders[:] = [name for name in folders if name not in {"__pycache__", ".git"}]
        in_models = Path(here).relative_to(directory).parts[:1] == ("models",)
        for name in sorted(files):
            path = Path(here, name)
            if not in_models or path.lstat().st_size <= _LARGEST_OF_MODELS:
                yield path
