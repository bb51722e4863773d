"""Do one step of a build."""

import asyncio
import tarfile
from collections.abc import Mapping
from pathlib import Path

from comfyserve.build.bench import Bench, Progress
from comfyserve.build.comfyui import install_comfyui
from comfyserve.build.custom_nodes import install_custom_nodes
from comfyserve.build.executor import BuildFailed
from comfyserve.build.model_step import bring_models
from comfyserve.build.plan import PlannedStep
from comfyserve.domain.image_steps import (
    BuildSecrets,
    ComfyUIDir,
    ComfyUISource,
    Command,
    CustomNodes,
    Env,
    LocalFiles,
    Models,
    Packages,
)

SINGLE_FILE = "\N{BULLET}file"
"""The only entry of an archive of one file, as the SDK writes it."""


async def perform(planned: PlannedStep, bench: Bench, progress: Progress) -> Mapping[str, str]:
    """Change the tree as the step says; return what it resolved. Raises BuildFailed."""
    match planned.step:
        case Packages(packages=packages):
            await _install_packages(packages, bench)
        case Command(command=command):
            secrets = {name: bench.secret(name) for name in planned.secrets}
            await bench.run(["/bin/sh", "-e", "-c", command], shown=command, more_env=secrets)
        case LocalFiles(source=source, target=target):
            await _unpack(source, target, bench)
        case ComfyUISource() as step:
            return await install_comfyui(step, bench)
        case CustomNodes(nodes=nodes):
            return await install_custom_nodes(nodes, bench)
        case Models() as step:
            return await bring_models(step, bench, progress)
        case Env() | BuildSecrets() | ComfyUIDir():
            raise AssertionError(f"{planned.step.kind} changes no tree")
    return {}


async def _install_packages(packages: tuple[str, ...], bench: Bench) -> None:
    """By a file, because a line may be an option (`--extra-index-url ...`)."""
    listed = bench.workshop.tree / "tmp" / "requirements.txt"
    await asyncio.to_thread(listed.write_text, "\n".join(packages) + "\n", "utf-8")
    await bench.install(["--requirement", str(listed)])


async def _unpack(source: str, target: str, bench: Bench) -> None:
    archive = await bench.supplies.archive(source)
    try:
        await asyncio.to_thread(_unpack_into, archive, bench.workshop.workspace / target)
    except (tarfile.TarError, OSError) as error:
        raise BuildFailed(f"the local files for '{target}' cannot be unpacked: {error}") from error


def _unpack_into(archive: Path, target: Path) -> None:
    with tarfile.open(archive) as packed:
        members = packed.getmembers()
        if len(members) == 1 and members[0].name == SINGLE_FILE:
            target.parent.mkdir(parents=True, exist_ok=True)
            members[0].name = target.name
            packed.extract(members[0], target.parent, filter="data")
            return
        target.mkdir(parents=True, exist_ok=True)
        packed.extractall(target, filter="data")
