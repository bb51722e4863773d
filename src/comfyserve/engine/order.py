"""In which order the nodes of a prompt run.

Any topological order would be correct. This one is ComfyUI's, so that clients see the same events: of
the nodes that are ready an output node goes first, then one that directly feeds an output, then one that
is two steps away from one, then the one that was found first, looking from the outputs backwards.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

from comfyserve.engine.cache import inputs_of, is_link


class RunOrder:
    """The nodes that are still to run, for the given outputs."""

    def __init__(
        self,
        prompt: Mapping[str, Any],
        outputs: Iterable[str],
        *,
        is_output: Callable[[str], bool],
        is_cached: Callable[[str], bool],
    ) -> None:
        self._is_output = is_output
        self._needs: dict[str, set[str]] = {}
        self._feeds: dict[str, dict[str, None]] = {}
        for output in outputs:
            self._add(prompt, output, is_cached)

    def _add(
        self, prompt: Mapping[str, Any], output: str, is_cached: Callable[[str], bool]
    ) -> None:
        """Take in an output and all that it needs; what is cached needs nothing more."""
        links: list[tuple[str, str]] = []
        found = [output]
        while found:
            node_id = found.pop()
            if node_id in self._needs:
                continue
            self._needs[node_id] = set()
            self._feeds[node_id] = {}
            inputs = inputs_of(prompt, node_id)
            sources = [value[0] for value in inputs.values() if is_link(value)]
            wanted = [source for source in sources if not is_cached(source)]
            found += wanted
            links += [(source, node_id) for source in wanted]
        for source, node_id in links:
            self._needs[node_id].add(source)
            self._feeds[source][node_id] = None

    def next(self) -> str | None:
        """Return the node to run now; `None` when all are done."""
        ready = [node_id for node_id, needs in self._needs.items() if not needs]
        if not ready:
            return None
        return next((node for node in ready if self._is_output(node)), None) or next(
            (node for node in ready if self._reaches_output(node, steps=1)),
            next((node for node in ready if self._reaches_output(node, steps=2)), ready[0]),
        )

    def _reaches_output(self, node_id: str, steps: int) -> bool:
        reached: Iterable[str] = [node_id]
        for _ in range(steps):
            reached = [fed for node in reached for fed in self._feeds[node]]
        return any(self._is_output(node) for node in reached)

    def done(self, node_id: str) -> None:
        """The node has run: what it feeds needs it no more."""
        del self._needs[node_id]
        for fed in self._feeds.pop(node_id):
            self._needs[fed].discard(node_id)
