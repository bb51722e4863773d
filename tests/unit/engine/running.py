"""Runs prompts on the executor itself, without server and process."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from comfyserve.engine.cache import ResultCache
from comfyserve.engine.executor import PromptRun, Report, Surroundings
from comfyserve.engine.faults import Faults
from comfyserve.engine.folders import Folders
from comfyserve.engine.history import History
from comfyserve.engine.hub import Hub
from comfyserve.engine.nodes.registry import NODE_CLASSES
from comfyserve.engine.options import CacheMode, Directories
from comfyserve.engine.queue import PromptQueue, QueueItem


def folders_in(root: Path) -> Folders:
    """Return the folders of an engine below `root`; they exist."""
    folders = Folders(
        Directories(
            base=root,
            input=root / "input",
            output=root / "output",
            temp=root / "temp",
            user=root / "user",
        )
    )
    folders.create()
    return folders


class Listener(Hub):
    """A hub that keeps what is sent."""

    def __init__(self) -> None:
        super().__init__(Faults())
        self.events: list[tuple[str, dict[str, Any], str | None]] = []

    def send(self, event: str, data: Mapping[str, Any], sid: str | None = None) -> None:
        """Keep an event."""
        self.events.append((event, dict(data), sid))

    @property
    def names(self) -> list[str]:
        """The names of the events, in order."""
        return [event for event, _, _ in self.events]


@dataclass
class Bench:
    """An executor with its surroundings in a directory."""

    root: Path
    mode: CacheMode = CacheMode.MEMORY
    entries: int = 0
    hub: Listener = field(default_factory=Listener)
    queue: PromptQueue = field(init=False)
    around: Surroundings = field(init=False)
    runs: int = 0

    def __post_init__(self) -> None:
        self.queue = PromptQueue(History(), lambda: None)
        self.around = Surroundings(
            classes=NODE_CLASSES,
            folders=folders_in(self.root),
            hub=self.hub,
            queue=self.queue,
            cache=ResultCache(self.mode, self.entries),
            faults=Faults(),
        )

    def run(self, prompt: dict[str, Any], *outputs: str, client: str | None = "me") -> Report:
        """Run a prompt; without names all its output nodes."""
        wanted = outputs or tuple(
            node_id
            for node_id, node in prompt.items()
            if NODE_CLASSES[node["class_type"]].is_output
        )
        self.runs += 1
        self.hub.events.clear()
        extra = {} if client is None else {"client_id": client}
        return PromptRun(
            self.around, QueueItem(self.runs, f"prompt-{self.runs}", prompt, extra, wanted)
        ).execute()
