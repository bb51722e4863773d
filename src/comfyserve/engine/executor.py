"""Runs one prompt: every node in its order, what is cached taken from there, each step told to the hub."""

import logging
import random
import secrets
import string
import time
import traceback
from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from comfyserve.engine.cache import (
    Result,
    ResultCache,
    Unrepeatable,
    inputs_of,
    is_link,
    signatures,
)
from comfyserve.engine.calls import call_node, gather
from comfyserve.engine.faults import Faults
from comfyserve.engine.folders import Folders
from comfyserve.engine.history import Status
from comfyserve.engine.hub import Hub, Preview
from comfyserve.engine.nodes.spec import Hidden, NodeClass
from comfyserve.engine.order import RunOrder
from comfyserve.engine.progress import Progress, describe_node
from comfyserve.engine.queue import PromptQueue, QueueItem

_log = logging.getLogger(__name__)
_PROCESS_SEED = secrets.token_hex(8)


class Interrupted(Exception):
    """The prompt is to stop."""


@dataclass(frozen=True, slots=True)
class Report:
    """How a prompt went."""

    status: Status
    outputs: dict[str, Any]
    meta: dict[str, Any]


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What running a prompt needs besides the prompt."""

    classes: Mapping[str, NodeClass]
    folders: Folders
    hub: Hub
    queue: PromptQueue
    cache: ResultCache
    faults: Faults
    has_metadata: bool = True


@dataclass(slots=True)
class PromptRun:
    """One prompt while it runs. Used once, by the worker thread."""

    around: Surroundings
    item: QueueItem
    _progress: Progress = field(init=False)
    _signatures: dict[str, Hashable] = field(default_factory=dict)
    _results: dict[str, Result] = field(default_factory=dict)
    _executed: list[str] = field(default_factory=list)
    _reported: dict[str, Any] = field(default_factory=dict)
    _messages: list[tuple[str, dict[str, Any]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._progress = Progress(self.item.prompt_id)

    @property
    def client(self) -> str | None:
        """Who is told."""
        return self.item.client_id

    def execute(self) -> Report:
        """Run the prompt to its end; never raises for what a node does."""
        self.around.hub.running_client = self.client
        self._announce("execution_start", {})
        self.around.faults.at_prompt()
        self._signatures = signatures(self.item.prompt, self._change_of)
        self.around.cache.trim(self._signatures.values())
        cached = [node_id for node_id in self.item.prompt if self._is_cached(node_id)]
        self._announce("execution_cached", {"nodes": cached})
        is_completed = self._run_all()
        self.around.hub.running_node = None
        meta = {node_id: _meta(node_id) for node_id in self._reported}
        return Report(Status(is_completed, self._messages), self._reported, meta)

    def _run_all(self) -> bool:
        order = RunOrder(
            self.item.prompt,
            self.item.outputs,
            is_output=lambda node_id: self._class_of(node_id).is_output,
            is_cached=self._is_cached,
        )
        while (node_id := order.next()) is not None:
            inputs: dict[str, list[Any]] = {}
            try:
                self._run_node(node_id, inputs)
            except Interrupted:
                _log.info("Processing interrupted")
                self._announce("execution_interrupted", self._where(node_id), to_all=True)
                return False
            except Exception as error:  # noqa: BLE001 - a node may raise anything; the client is told
                self._fail(node_id, inputs, error)
                return False
            order.done(node_id)
        self._announce("execution_success", {})
        return True

    def _run_node(self, node_id: str, inputs: dict[str, list[Any]]) -> None:
        """Run one node, or take its result from the cache; fills `inputs` as soon as they are known."""
        kept = self.around.cache.get(self._signatures[node_id])
        if kept is not None:
            self._results[node_id] = kept
            self._report(node_id, kept.ui)
            self._finish(node_id)
            return
        node_class = self._class_of(node_id)
        self._progress.start(node_id)
        self._send_progress()
        inputs.update(gather(node_class, inputs_of(self.item.prompt, node_id), self._linked))
        if self.client is not None:
            self.around.hub.running_node = node_id
            data = {"node": node_id, "display_node": node_id, "prompt_id": self.item.prompt_id}
            self.around.hub.send("executing", data, self.client)
        self.around.faults.at_node(node_class.name)
        context = NodeContext(self, node_id)
        result = call_node(node_class, inputs, self._hidden(node_class, context), context.check)
        if result.ui:
            self._report(node_id, result.ui)
        self._results[node_id] = result
        self.around.cache.put(self._signatures[node_id], result)
        self._finish(node_id)
        self._executed.append(node_id)

    def _class_of(self, node_id: str) -> NodeClass:
        return self.around.classes[self.item.prompt[node_id]["class_type"]]

    def _is_cached(self, node_id: str) -> bool:
        return self.around.cache.get(self._signatures[node_id]) is not None

    def _linked(self, link: list[Any]) -> list[Any] | None:
        """Return the values that a link carries; `None` where there are none."""
        source, index = link
        result = self._results.get(source) or self.around.cache.get(self._signatures[source])
        return result.outputs[index] if result and index < len(result.outputs) else None

    def _hidden(self, node_class: NodeClass, context: "NodeContext") -> dict[str, Any]:
        values = {
            Hidden.PROMPT: self.item.prompt,
            Hidden.EXTRA_PNGINFO: self.item.extra_data.get("extra_pnginfo"),
            Hidden.UNIQUE_ID: context.node_id,
            Hidden.CONTEXT: context,
        }
        return {hidden.value: values[hidden] for hidden in node_class.hidden}

    def _change_of(self, node_id: str) -> Hashable:
        """Return what the change check of a node says, with the node's id where the class sees it."""
        node_class = self._class_of(node_id)
        own_id = node_id if Hidden.UNIQUE_ID in node_class.hidden else None
        if node_class.changed is None:
            return own_id
        constants = {
            name: None if is_link(value) else value
            for name, value in inputs_of(self.item.prompt, node_id).items()
        }
        try:
            answer = node_class.changed(self.around.folders, **constants)
        except Exception as error:  # noqa: BLE001 - as in ComfyUI: then it counts as changed
            _log.warning("WARNING: %s", error)
            return Unrepeatable()
        # What is not equal to itself (NaN) means: run me every time.
        return (own_id, answer) if answer == answer else Unrepeatable()

    def _report(self, node_id: str, ui: Mapping[str, Any] | None) -> None:
        """Tell what an output node made; a cached one tells it again, with the old file names."""
        if ui is not None:
            self._reported[node_id] = ui
        data = {
            "node": node_id,
            "display_node": node_id,
            "output": ui,
            "prompt_id": self.item.prompt_id,
        }
        if self.client is not None:
            self.around.hub.send("executed", data, self.client)

    def _finish(self, node_id: str) -> None:
        self._progress.finish(node_id)
        self._send_progress()

    def _send_progress(self) -> None:
        # To everybody where the prompt names no client: a quirk that clients may count on.
        self.around.hub.send("progress_state", self._progress.to_wire(), self.client)

    def _announce(self, event: str, data: dict[str, Any], *, to_all: bool = False) -> None:
        """Note a stage of the prompt for its history, and tell the client."""
        data = {"prompt_id": self.item.prompt_id, **data, "timestamp": int(time.time() * 1000)}
        self._messages.append((event, data))
        if self.client is not None or to_all:
            self.around.hub.send(event, data, self.client)

    def _where(self, node_id: str) -> dict[str, Any]:
        return {
            "node_id": node_id,
            "node_type": self._class_of(node_id).name,
            "executed": list(self._executed),
        }

    def _fail(self, node_id: str, inputs: Mapping[str, list[Any]], error: Exception) -> None:
        _log.error("!!! Exception during processing !!! %s", error, exc_info=error)
        details = {
            "exception_message": f"{error}\n",
            "exception_type": _type_name(error),
            "traceback": traceback.format_tb(error.__traceback__),
            "current_inputs": {
                name: [_shown(value) for value in values] for name, values in inputs.items()
            },
            "current_outputs": list(self.item.prompt),
        }
        self._announce("execution_error", self._where(node_id) | details)

    def step(self, node_id: str, value: float, maximum: float, preview: Preview | None) -> None:
        """A node says how far it is."""
        hub, prompt_id = self.around.hub, self.item.prompt_id
        self._progress.update(node_id, value, maximum)
        self._send_progress()
        has_metadata = hub.supports(self.client, "supports_preview_metadata")
        if preview is not None and has_metadata:
            about = describe_node(node_id, prompt_id)
            hub.send_preview_with_metadata(preview, about, self.client)
        data = {"value": value, "max": maximum, "prompt_id": prompt_id, "node": node_id}
        hub.send("progress", data, self.client)
        if preview is not None and not has_metadata:
            hub.send_preview(preview, self.client)


@dataclass(frozen=True, slots=True)
class NodeContext:
    """What a node sees of its run: `nodes.spec.Context`."""

    run: PromptRun
    node_id: str

    @property
    def folders(self) -> Folders:
        """Where files are."""
        return self.run.around.folders

    @property
    def has_metadata(self) -> bool:
        """Whether saved files carry the prompt."""
        return self.run.around.has_metadata

    @property
    def temp_tag(self) -> str:
        """Five letters, the same for this node as long as the process lives."""
        letters = random.Random(f"{_PROCESS_SEED} {self.node_id}")  # noqa: S311 - only a name
        return "".join(letters.choices(string.ascii_lowercase, k=5))

    def check(self) -> None:
        """Raises `Interrupted` when the prompt is to stop."""
        if self.run.around.queue.is_interrupted:
            raise Interrupted

    def progress(self, value: float, maximum: float, preview: Preview | None = None) -> None:
        """Report progress. Raises `Interrupted` when the prompt is to stop."""
        self.check()
        self.run.step(self.node_id, value, maximum, preview)

    def say(self, text: str) -> None:
        """Show a line of text at the node."""
        self.run.around.hub.send_text(self.node_id, text, self.run.client)


def _meta(node_id: str) -> dict[str, Any]:
    return {
        "node_id": node_id,
        "display_node": node_id,
        "parent_node": None,
        "real_node_id": node_id,
    }


def _type_name(error: Exception) -> str:
    """Return the name of the class as ComfyUI gives it: with its module, unless it is built in."""
    kind = type(error)
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _shown(value: object) -> object:
    return value if value is None or isinstance(value, int | float | str) else str(value)
