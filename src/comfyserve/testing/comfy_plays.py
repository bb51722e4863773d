"""What a fake engine does with a prompt: a play tells it, message by message."""

import struct
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import msgspec

from comfyserve.testing.comfy_classes import OUTPUT_CLASSES

_JPEG_PREVIEW = 4

FileKey = tuple[str, str, str]
"""Name, subfolder and type (output, temp)."""


class Engine(Protocol):
    """What a play needs of the engine around it. `cache` maps an encoded prompt to its outputs."""

    files: dict[FileKey, bytes]
    cache: dict[bytes, Mapping[str, Any]]

    async def send(self, client_id: str | None, kind: str, data: Mapping[str, Any]) -> None:
        """Send a message to one client."""
        ...

    async def send_frame(self, client_id: str | None, payload: bytes) -> None:
        """Send a binary message to one client."""
        ...

    def cut_sockets(self) -> None:
        """Cut every WebSocket without goodbye."""
        ...


class NodeFailed(Exception):
    """Raised by a play: the node failed, and the prompt with it."""

    def __init__(self, node_id: str, message: str, *, kind: str = "ValueError") -> None:
        super().__init__(message)
        self.node_id = node_id
        self.kind = kind


@dataclass(slots=True)
class Stage:
    """One prompt on a fake engine, and what its play can do there."""

    engine: Engine
    prompt_id: str
    client_id: str | None
    prompt: Mapping[str, Any]
    item: list[Any]
    outputs: dict[str, Any] = field(default_factory=dict)
    messages: list[list[Any]] = field(default_factory=list)

    async def say(self, kind: str, **data: object) -> None:
        """Send a message about this prompt to its client."""
        await self.engine.send(self.client_id, kind, {**data, "prompt_id": self.prompt_id})

    async def note(self, kind: str, **data: object) -> None:
        """Send a message that the history keeps, too."""
        self.messages.append([kind, {**data, "prompt_id": self.prompt_id, "timestamp": 1}])
        await self.say(kind, **data, timestamp=1)

    async def begin(self, node_id: str) -> None:
        """Say that a node runs from now on."""
        await self.say("executing", node=node_id, display_node=node_id)

    async def report(self, node_id: str, output: object, *, aloud: bool = True) -> None:
        """Take what a node gives; with `aloud` also send it."""
        self.outputs[node_id] = output
        if aloud:
            await self.say("executed", node=node_id, display_node=node_id, output=output)

    async def show(self, node_id: str, image: bytes) -> None:
        """Send a preview picture."""
        about = {"node_id": node_id, "prompt_id": self.prompt_id, "image_type": "image/jpeg"}
        metadata = msgspec.json.encode(about)
        head = struct.pack(">II", _JPEG_PREVIEW, len(metadata))
        await self.send_frame(head + metadata + image)

    async def send_frame(self, payload: bytes) -> None:
        """Send a binary message."""
        await self.engine.send_frame(self.client_id, payload)

    def write(self, data: bytes, *, subfolder: str = "", kind: str = "output") -> dict[str, str]:
        """Write a file under the next name of the engine's own counter; return its reference."""
        name = f"ComfyUI_{len(self.engine.files) + 1:05}_.png"
        self.engine.files[name, subfolder, kind] = data
        return {"filename": name, "subfolder": subfolder, "type": kind}


Play = Callable[[Stage], Awaitable[None]]


async def perform(stage: Stage) -> None:
    """Run each node in the order of the prompt; a prompt that ran before comes out of the cache."""
    cached = stage.engine.cache.get(msgspec.json.encode(stage.prompt))
    await stage.note("execution_start")
    await stage.note("execution_cached", nodes=list(stage.prompt) if cached else [])
    if cached is not None:
        for node_id, output in cached.items():
            await stage.report(node_id, output)
        return
    for node_id, node in stage.prompt.items():
        await stage.begin(node_id)
        await stage.say("progress", value=1, max=1, node=node_id)
        if node["class_type"] in OUTPUT_CLASSES:
            data = f"picture of {stage.prompt_id}".encode()
            await stage.report(node_id, {"images": [stage.write(data)]})
    stage.engine.cache[msgspec.json.encode(stage.prompt)] = stage.outputs
