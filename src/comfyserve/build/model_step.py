"""The step that brings models: looked up or fetched, in parallel, then linked into place."""

import asyncio
import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from comfyserve.build.artifacts import find_comfyui
from comfyserve.build.bench import Bench, Progress
from comfyserve.build.executor import BuildFailed
from comfyserve.build.hub import PREFIX
from comfyserve.build.models import Model, download, link_into, sha256_of
from comfyserve.domain.image_sources import ModelFile
from comfyserve.domain.image_steps import Models


class _Tally:
    """Bytes of all downloads of a step, for one line of progress."""

    def __init__(self, bench: Bench, progress: Progress) -> None:
        self._bench = bench
        self._progress = progress
        self._done: dict[str, int] = {}
        self._sizes: dict[str, int | None] = {}

    def report(self, source: str, done: int, size: int | None) -> None:
        """One download is so far."""
        self._done[source], self._sizes[source] = done, size
        known = [size for size in self._sizes.values() if size is not None]
        total = sum(known) if len(known) == len(self._sizes) else None
        self._bench.report(
            Progress(
                self._progress.number,
                self._progress.total,
                self._progress.title,
                done_bytes=sum(self._done.values()),
                total_bytes=total,
            )
        )


async def bring_models(step: Models, bench: Bench, progress: Progress) -> Mapping[str, str]:
    """Fetch what is not here yet and link all into place; return their hashes. Raises BuildFailed."""
    tally, limit = _Tally(bench, progress), asyncio.Semaphore(bench.supplies.downloads_at_once)
    found: dict[ModelFile, Model] = {}

    async def bring(file: ModelFile) -> None:
        async with limit:
            found[file] = await _bring(file, bench, tally)

    try:
        async with asyncio.TaskGroup() as group:
            # Two names of one source are one download.
            for file in {file.source: file for file in step.files}.values():
                group.create_task(bring(file), name=f"model {file.file_name}")
    except ExceptionGroup as errors:
        raise errors.exceptions[0] from errors
    by_source = {file.source: model for file, model in found.items()}
    place = await asyncio.to_thread(find_comfyui, bench.workshop.workspace)
    models = (place or bench.workshop.workspace) / "models"
    for file in step.files:
        model = by_source[file.source]
        await asyncio.to_thread(link_into, models / file.folder, {file.file_name: model})
    return {
        f"model {file.folder}/{file.file_name}": f"{file.source}@sha256:{by_source[file.source].sha256}"
        for file in step.files
    }


async def _bring(file: ModelFile, bench: Bench, tally: _Tally) -> Model:
    store = bench.supplies.models
    if bench.is_fresh:
        await asyncio.to_thread(store.forget_source, file)
    if (model := await asyncio.to_thread(store.find, file)) is not None:
        await bench.say(f"{file.file_name}: {model.size_bytes} bytes, here already")
        return model
    if file.is_hub:
        path, directory = await _fetch_from_hub(file, bench, tally)
    else:
        bearer = None if file.secret is None else bench.secret(file.secret)
        directory = None
        path = await download(
            file,
            store,
            bench.supplies.fetcher,
            bearer,
            lambda done, size: tally.report(file.source, done, size),
        )
    model = await asyncio.to_thread(store.adopt, path, file)
    if directory is not None:
        await asyncio.to_thread(shutil.rmtree, directory, ignore_errors=True)
    await bench.say(f"{file.file_name}: {model.size_bytes} bytes, sha256 {model.sha256}")
    return model


async def _fetch_from_hub(file: ModelFile, bench: Bench, tally: _Tally) -> tuple[Path, Path]:
    """Let huggingface_hub fetch it, in a process of its own; it goes on where it left off."""
    repo, revision, name = file.hub_parts()
    store = bench.supplies.models
    directory = store.partial / f"{repo}@{revision or ''}".replace("/", "--")
    told: dict[str, object] = {}

    def takes(line: str) -> bool:
        if not line.startswith(PREFIX):
            return False
        told.update(json.loads(line.removeprefix(PREFIX)))
        size = told.get("size")
        done = told.get("bytes", 0)
        tally.report(
            file.source,
            done if isinstance(done, int) else 0,
            size if isinstance(size, int) else None,
        )
        return True

    credential = {} if file.secret is None else {"HF_TOKEN": bench.secret(file.secret)}
    try:
        await bench.run(
            [
                sys.executable,
                "-m",
                "comfyserve.build.hub",
                repo,
                name,
                revision or "",
                str(directory),
            ],
            directory.parent,
            shown=f"fetch {file.source}",
            takes=takes,
            more_env={
                **credential,
                "HF_HOME": str(store.partial / "hub"),
                "HF_HUB_DISABLE_TELEMETRY": "1",
            },
        )
    except BuildFailed as error:
        why = error.log_tail[-1] if error.log_tail else error.message
        raise BuildFailed(
            f"'{file.source}' cannot be fetched: {why}", log_tail=error.log_tail
        ) from error
    expected = str(told.get("etag") or "")
    if file.sha256 is None and len(expected) == 64:
        # Of large files the hub says the hash; what came is checked against it.
        await asyncio.to_thread(_check, Path(str(told["path"])), file, expected)
    return Path(str(told["path"])), directory


def _check(path: Path, file: ModelFile, expected: str) -> None:
    if (found := sha256_of(path)) != expected:
        path.unlink()
        raise BuildFailed(
            f"'{file.source}' arrived damaged (SHA-256 {found}, the hub says {expected}); build again",
            code="model_hash_mismatch",
        )
