"""What one run made: its files and other values, read from its own entry in the history."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfyserve.domain.errors import NotFound
from comfyserve.sdk.output import Output


@dataclass(frozen=True, slots=True)
class ComfyFile:
    """A file that a node of the run reported. `kind` is output or temp (previews)."""

    node_id: str
    name: str
    subfolder: str
    kind: str

    @property
    def query(self) -> Mapping[str, str]:
        """How ComfyUI's `/view` calls it."""
        return {"filename": self.name, "subfolder": self.subfolder, "type": self.kind}


@dataclass(frozen=True, slots=True)
class RunResult:
    """The outputs of one run, and of no other. `values` is what nodes reported besides files."""

    prompt_id: str
    files: tuple[ComfyFile, ...]
    values: Mapping[str, Mapping[str, Any]]
    _fetch: Callable[[ComfyFile], Awaitable[bytes]] = field(repr=False)

    @property
    def file(self) -> ComfyFile:
        """The first saved file, or preview where nothing was saved. Raises NotFound."""
        found = min(self.files, key=lambda each: each.kind != "output", default=None)
        if found is None:
            raise NotFound("the run made no file; its workflow needs a node that saves one")
        return found

    async def read(self, file: ComfyFile | None = None) -> bytes:
        """The bytes of a file, by default of `file`."""
        return await self._fetch(file or self.file)

    async def output(self, file: ComfyFile | None = None) -> Output:
        """A file as an Output, to be given to a caller."""
        chosen = file or self.file
        data = await self._fetch(chosen)
        return await asyncio.to_thread(Output.from_bytes, data, chosen.name)

    async def url(self, file: ComfyFile | None = None, expires: float = 3600) -> str:
        """A link to a file for whoever called: signed, and good for `expires` seconds."""
        return await asyncio.to_thread((await self.output(file)).public_url, expires)


def read_outputs(
    entry: Mapping[str, Any],
) -> tuple[list[ComfyFile], dict[str, dict[str, Any]]]:
    """Files and other values in a history entry, whatever the keys are called. PURE."""
    files: list[ComfyFile] = []
    values: dict[str, dict[str, Any]] = {}
    for node_id, reported in (entry.get("outputs") or {}).items():
        for key, items in reported.items():
            found = [_file(str(node_id), item) for item in items] if isinstance(items, list) else []
            files += [file for file in found if file is not None]
            if not found or None in found:
                values.setdefault(str(node_id), {})[str(key)] = items
    return files, values


def _file(node_id: str, item: object) -> ComfyFile | None:
    if not isinstance(item, Mapping) or not isinstance(item.get("filename"), str):
        return None
    kind = str(item.get("type") or "output")
    return ComfyFile(node_id, item["filename"], str(item.get("subfolder") or ""), kind)
