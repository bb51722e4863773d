"""comfyui-utils: submit with callbacks (position, progress, end), fetch the picture."""

import asyncio
import json
import sys
from pathlib import Path
from typing import Any

from comfyui_utils import comfy


class Told(comfy.Callbacks):
    def __init__(self) -> None:
        self.positions: list[int] = []
        self.progress: list[tuple[int, int, int]] = []
        self.outputs: dict[str, Any] = {}

    async def queue_position(self, position: int) -> None:
        self.positions.append(position)

    async def in_progress(self, node_id: int, progress: int, total: int) -> None:
        self.progress.append((node_id, progress, total))

    async def completed(self, outputs: dict[str, Any], cached: bool) -> None:
        self.outputs = outputs


async def main() -> None:
    api, told = comfy.ComfyAPI(sys.argv[1].removeprefix("http://")), Told()
    await api.submit(json.loads(Path(sys.argv[3]).read_text()), told)
    image = told.outputs["images"][0]

    async def save(file: Any) -> None:
        Path(image["filename"]).write_bytes(file.read())

    await api.fetch(image, save)
    try:
        await api.submit({"1": {"class_type": "Nope", "inputs": {}}}, Told())
        refused = ""
    except ValueError as error:
        refused = str(error)
    found = {"images": [image["filename"]], "positions": told.positions, "refused": refused}
    print(json.dumps({**found, "nodes": sorted({node for node, _, _ in told.progress})}))


asyncio.run(main())
