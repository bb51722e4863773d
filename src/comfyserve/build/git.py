"""Repositories at a ref: only that commit is fetched."""

import asyncio
from pathlib import Path

from comfyserve.build.bench import Bench
from comfyserve.build.executor import BuildFailed


async def check_out(bench: Bench, source: str, ref: str | None, target: Path) -> str:
    """Put the commit of `ref` (a tag, branch or commit; None: the default branch) into `target`.

    A version without its `v` is found too. Returns the commit. Raises BuildFailed.
    """
    address = f"file://{source}" if source.startswith("/") else source
    await asyncio.to_thread(target.mkdir, parents=True, exist_ok=True)
    await _git(bench, target, "init", "--quiet")
    wanted = [ref or "HEAD"]
    if ref is not None and ref[0].isdigit():
        wanted.insert(0, f"v{ref}")
    for number, name in enumerate(wanted, 1):
        try:
            await _git(bench, target, "fetch", "--quiet", "--depth", "1", address, name)
            break
        except BuildFailed as error:
            if number == len(wanted):
                raise BuildFailed(
                    f"git has no '{ref or 'HEAD'}' at {source}, or cannot reach it",
                    code="git_failed",
                    log_tail=error.log_tail,
                ) from error
    await _git(bench, target, "checkout", "--quiet", "FETCH_HEAD")
    if await asyncio.to_thread((target / ".gitmodules").is_file):
        modules = ("submodule", "update", "--init", "--recursive", "--depth", "1", "--quiet")
        await _git(bench, target, *modules)
    return (await _git(bench, target, "rev-parse", "HEAD"))[-1]


async def _git(bench: Bench, directory: Path, *arguments: str) -> list[str]:
    trusted = ("-c", "safe.directory=*", "-c", "advice.detachedHead=false")
    return await bench.run(
        ["git", *trusted, *arguments], directory, shown=f"git {' '.join(arguments)}"
    )
