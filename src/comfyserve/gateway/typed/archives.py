"""A zip of what jobs made, sent while it is written: nothing of it is kept."""

import asyncio
import io
import json
import zipfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any

from comfyserve.domain.job import Job
from comfyserve.gateway.door import Call
from comfyserve.gateway.typed.shapes import assets_of

_CHUNK_BYTES = 256 * 1024
_EPOCH = (1980, 1, 1, 0, 0, 0)
_INDEX = "jobs.json"


async def zip_of_outputs(call: Call, jobs: Sequence[Job]) -> AsyncIterator[bytes]:
    """Each output under the number of its call, and a list of the jobs at the end."""
    sink = _Sink()
    listed: list[dict[str, Any]] = []
    # Pictures and videos are compressed already.
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for index, job in enumerate(jobs):
            files = []
            for asset in await assets_of(call, job):
                if asset.type == "temp":
                    continue
                name = f"{index:04d}_{asset.name}"
                path = call.gateway.store.blobs.path_of(asset.digest)
                source = await asyncio.to_thread(_open, path)
                if source is None:
                    continue
                files.append(name)
                with source, archive.open(_entry(name), "w", force_zip64=True) as member:
                    while chunk := await asyncio.to_thread(source.read, _CHUNK_BYTES):
                        await asyncio.to_thread(member.write, chunk)
                        yield sink.take()
            error = None if job.error is None else job.error.message
            listed.append(
                {"index": index, "job": job.id, "state": job.state, "files": files, "error": error}
            )
        archive.writestr(_entry(_INDEX), json.dumps(listed, indent=2))
    yield sink.take()


def _entry(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name, _EPOCH)


def _open(path: Path) -> io.BufferedReader | None:
    try:
        return path.open("rb")
    except FileNotFoundError:
        return None


class _Sink(io.RawIOBase):
    """Takes what the zip writes, until it is taken away."""

    def __init__(self) -> None:
        super().__init__()
        self._written = bytearray()

    def writable(self) -> bool:
        """It can be written to, and not be moved in."""
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 - any buffer
        """Append."""
        self._written += data
        return len(data)

    def take(self) -> bytes:
        """What was written since the last time."""
        taken = bytes(self._written)
        self._written.clear()
        return taken
