"""The one thread that runs prompts, one after the other."""

import logging
import threading
import time

from comfyserve.engine.cache import ResultCache
from comfyserve.engine.executor import PromptRun, Surroundings
from comfyserve.engine.faults import FaultKind
from comfyserve.engine.state import Engine

_log = logging.getLogger(__name__)


class Worker(threading.Thread):
    """Takes prompts from the queue for as long as the process lives."""

    def __init__(self, engine: Engine) -> None:
        super().__init__(name="prompt_worker", daemon=True)
        self._engine = engine

    def run(self) -> None:
        """Import the nodes, then run prompts."""
        engine = self._engine
        cache = ResultCache(engine.options.cache, engine.options.cache_entries)
        around = Surroundings(
            classes=engine.library.classes,
            folders=engine.folders,
            hub=engine.hub,
            queue=engine.queue,
            cache=cache,
            faults=engine.faults,
            has_metadata=engine.options.has_metadata,
        )
        while True:
            self._run_next(around)
            if engine.queue.take_free():
                cache.clear()

    def _run_next(self, around: Surroundings) -> None:
        queue, hub = self._engine.queue, self._engine.hub
        item = queue.take()
        if item is None:
            return
        started = time.perf_counter()
        report = PromptRun(around, item).execute()
        queue.finish(report.status, report.outputs, report.meta)
        if self._engine.faults.find(FaultKind.FORGET_HISTORY):
            queue.history.delete(item.prompt_id)
        if item.client_id is not None:
            hub.send("executing", {"node": None, "prompt_id": item.prompt_id}, item.client_id)
        _log.info("Prompt executed in %.2f seconds", time.perf_counter() - started)
