"""The parts of a running engine, as the request handlers find them."""

import itertools
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Self

from aiohttp import web

from comfyserve.engine.faults import Faults
from comfyserve.engine.folders import Folders
from comfyserve.engine.history import History
from comfyserve.engine.hub import Hub
from comfyserve.engine.library import Library
from comfyserve.engine.logs import LogBook
from comfyserve.engine.options import Options
from comfyserve.engine.queue import PromptQueue


@dataclass(frozen=True, slots=True)
class Engine:
    """One engine."""

    options: Options
    faults: Faults
    folders: Folders
    hub: Hub
    queue: PromptQueue
    library: Library
    logs: LogBook
    numbers: Iterator[int] = field(default_factory=itertools.count)
    """The queue numbers of prompts that bring none."""

    @classmethod
    def create(cls, options: Options, logs: LogBook) -> Self:
        """Put the parts together; nothing is opened or started."""
        faults = Faults(options.faults)
        folders = Folders(options.directories)
        hub = Hub(faults)

        def tell_status() -> None:
            hub.send("status", {"status": {"exec_info": {"queue_remaining": queue.remaining}}})

        queue = PromptQueue(History(), tell_status)
        return cls(options, faults, folders, hub, queue, Library(folders), logs)

    def queue_info(self) -> dict[str, Any]:
        """Return what `GET /prompt` and `status` messages say."""
        return {"exec_info": {"queue_remaining": self.queue.remaining}}

    def features(self) -> dict[str, Any]:
        """Return the features of this server, for `/features` and the handshake on `/ws`."""
        return {
            "supports_preview_metadata": True,
            "supports_model_type_tags": False,
            "max_upload_size": self.options.max_upload_bytes,
            "extension": {},
            "node_replacements": True,
            "assets": False,
        }


ENGINE = web.AppKey("engine", Engine)


def engine_of(request: web.Request) -> Engine:
    """Return the engine that serves this request."""
    return request.app[ENGINE]
