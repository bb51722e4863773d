"""Custom node packs: resolved, put in place, their requirements installed, what was resolved kept."""

import asyncio
import zipfile
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import quote

import msgspec

from comfyserve.build.artifacts import find_comfyui
from comfyserve.build.bench import Bench
from comfyserve.build.comfyui import compile_sources, install_requirements
from comfyserve.build.executor import BuildFailed
from comfyserve.build.git import check_out
from comfyserve.domain.image_sources import CustomNode, parse_custom_node

_LARGEST_ANSWER = 1024 * 1024
_LARGEST_ARCHIVE = 1024 * 1024 * 1024


class _Release(msgspec.Struct):
    """What the registry says about one version of a pack."""

    version: str
    download_url: str = msgspec.field(name="downloadUrl")


async def install_custom_nodes(nodes: tuple[str, ...], bench: Bench) -> Mapping[str, str]:
    """Install packs one after the other; return what each resolved to. Raises BuildFailed."""
    comfyui = await asyncio.to_thread(find_comfyui, bench.workshop.workspace)
    if comfyui is None:
        raise BuildFailed(
            "there is no ComfyUI in the image to add custom nodes to; begin with Image.comfyui(...), "
            "or install it by a command before",
            code="no_comfyui",
        )
    lock = {}
    for text in nodes:
        node = parse_custom_node(text)
        target = comfyui / "custom_nodes" / node.directory
        if await asyncio.to_thread(target.exists):
            raise BuildFailed(f"there is a custom node pack '{node.directory}' already")
        found = await _obtain(node, target, bench)
        lock[f"custom_node {node.directory}"] = found
        await bench.say(f"custom nodes {node.directory}: {found}")
        await _prepare(target, bench)
    return lock


async def _obtain(node: CustomNode, target: Path, bench: Bench) -> str:
    if node.is_git:
        commit = await check_out(bench, node.source, node.ref, target)
        return f"{node.source}@{commit}"
    release = await _release(node, bench)
    archive = bench.workshop.tree / "tmp" / f"{node.source}.zip"
    await _save(release.download_url, archive, bench)
    try:
        await asyncio.to_thread(_unpack, archive, target)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise BuildFailed(
            f"the archive of custom node pack '{node.source}' is broken: {error}"
        ) from error
    return f"{node.source}@{release.version}"


async def _release(node: CustomNode, bench: Bench) -> _Release:
    address = f"{bench.supplies.registry_url.rstrip('/')}/nodes/{quote(node.source)}/install"
    if node.ref is not None:
        address += f"?version={quote(node.ref)}"
    data = bytearray()
    async with bench.supplies.fetcher.open(address) as remote:
        async for chunk in remote.chunks:
            data += chunk
            if len(data) > _LARGEST_ANSWER:
                break
    try:
        return msgspec.json.decode(bytes(data), type=_Release)
    except msgspec.MsgspecError as error:
        raise BuildFailed(
            f"the registry of custom nodes does not say where '{node.source}' is: {error}",
            code="registry_failed",
        ) from error


async def _save(url: str, path: Path, bench: Bench) -> None:
    size = 0
    async with bench.supplies.fetcher.open(url) as remote:
        async for chunk in remote.chunks:
            size += len(chunk)
            if size > _LARGEST_ARCHIVE:
                raise BuildFailed(f"'{url}' is larger than a custom node pack can be")
            await asyncio.to_thread(_append, path, chunk)


async def _prepare(target: Path, bench: Bench) -> None:
    """Do what a pack asks for: its requirements, then its own script."""
    await install_requirements(bench, target)
    if await asyncio.to_thread((target / "install.py").is_file):
        await bench.run([str(bench.workshop.python), "install.py"], target)
    await compile_sources(bench, target)


def _unpack(archive: Path, target: Path) -> None:
    with zipfile.ZipFile(archive) as packed:
        packed.extractall(target)
    archive.unlink()


def _append(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)
