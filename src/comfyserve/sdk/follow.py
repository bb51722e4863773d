"""What ComfyUI says about one run, as progress and as its end. PURE."""

from collections.abc import Iterator, Mapping
from typing import Any

from comfyserve.sdk.comfy import Kind, Progress, RunFailed

_ENDS = frozenset({"execution_success", "execution_error", "execution_interrupted"})


class Follower:
    """Reads messages, and picks out those of one prompt id."""

    def __init__(self, prompt_id: str, titles: Mapping[str, str]) -> None:
        self.prompt_id = prompt_id
        self.has_ended = False
        self._titles = titles
        self._node = ""
        self._done: set[str] = set()

    def heard(self, message: Mapping[str, Any]) -> Iterator[Progress]:
        """Yield what a message says about this run; others' messages say nothing."""
        kind, data = message.get("type"), message.get("data")
        if not isinstance(data, Mapping) or data.get("prompt_id") != self.prompt_id:
            return
        if kind in _ENDS:
            self.has_ended = True
            return
        match kind:
            case "execution_cached":
                for node_id in data.get("nodes") or ():
                    self._done.add(str(node_id))
                    yield self._progress("cached", str(node_id))
            case "executing":
                yield from self._moved(data.get("node"))
            case "progress":
                value, maximum = float(data.get("value", 0)), float(data.get("max", 0))
                node_id = str(data.get("node") or self._node)
                yield self._progress("step", node_id, value, maximum)
            case "executed":
                node_id = str(data.get("display_node") or data.get("node") or "")
                self._done.add(str(data.get("node")))
                yield self._progress("finished", node_id)
            case _:
                return

    def raise_failure(self, entry: Mapping[str, Any]) -> None:
        """Raise RunFailed if the history says that the run did not succeed."""
        status = entry.get("status")
        if not isinstance(status, Mapping) or status.get("status_str") != "error":
            return
        for kind, data in status.get("messages") or ():
            if kind == "execution_error":
                raise self._error(data)
            if kind == "execution_interrupted":
                raise RunFailed(
                    f"the run was interrupted at {self._name(str(data.get('node_id')))}",
                    node_id=str(data.get("node_id") or ""),
                )
        raise RunFailed("the run failed, and ComfyUI does not say why")

    def _error(self, data: Mapping[str, Any]) -> RunFailed:
        node_id = str(data.get("node_id") or "")
        said = str(data.get("exception_message") or data.get("exception_type") or "it failed")
        trace = data.get("traceback") or ()
        lines = "".join(map(str, trace)).splitlines()
        return RunFailed(f"{self._name(node_id)}: {said.strip()}", node_id=node_id, evidence=lines)

    def _moved(self, node: object) -> Iterator[Progress]:
        if self._node and self._node not in self._done:
            self._done.add(self._node)
            yield self._progress("finished", self._node)
        self._node = "" if node is None else str(node)
        if self._node:
            yield self._progress("started", self._node)

    def _progress(
        self,
        kind: Kind,
        node_id: str,
        value: float = 0.0,
        maximum: float = 0.0,
    ) -> Progress:
        return Progress(
            kind,
            node_id,
            self._titles.get(node_id, node_id),
            value,
            maximum,
            len(self._done),
            len(self._titles),
        )

    def _name(self, node_id: str) -> str:
        title = self._titles.get(node_id, "")
        return f'node {node_id} "{title}"' if title else f"node {node_id}"
