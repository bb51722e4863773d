"""`ComfyUI`: run workflows from code, on a ComfyUI beside it; gives the outputs of that run only."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, Unpack

from comfyserve.sdk.comfy_process import BackgroundComfyUI, Engine, start_comfyui
from comfyserve.sdk.errors import JobFailed

if TYPE_CHECKING:
    from comfyserve.sdk.comfy_result import RunResult
    from comfyserve.sdk.comfy_session import ComfySession, RunOptions

__all__ = ["BackgroundComfyUI", "ComfyUI", "Progress", "RunFailed", "start_comfyui"]


Kind = Literal["started", "step", "finished", "cached"]


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a run is. `kind`: a node began, made a step, or ended, or was not run at all."""

    kind: Kind
    node_id: str
    node_title: str
    value: float = 0.0
    maximum: float = 0.0
    finished_nodes: int = 0
    total_nodes: int = 0


class RunFailed(JobFailed):
    """A run ended without success; the message names the node, the evidence is its traceback."""

    code = "run_failed"

    def __init__(self, message: str, *, node_id: str = "", evidence: Sequence[str] = ()) -> None:
        super().__init__(message, evidence=evidence)
        self.node_id = node_id


@dataclass(slots=True)
class ComfyUI:
    """A ComfyUI to run workflows on.

    Example:
        async with ComfyUI() as comfy:
            result = await comfy.run("workflow.json", inputs={"prompt": "a postcard"})
            return {"image": await result.url()}

    Without `url`, the one that `start_comfyui` started in this replica is found, else it is started
    here: from `comfyui_dir`, or wherever the image put it; `engine="embedded"` is for tests, and
    needs no ComfyUI at all. Several may be entered, and several runs awaited, at once.
    """

    url: str | None = None
    engine: Engine = "comfyui"
    comfyui_dir: str | Path | None = None
    args: Sequence[str] = ()
    start_timeout: float = 300.0
    _session: "ComfySession | None" = field(default=None, init=False, repr=False)

    async def __aenter__(self) -> "ComfySession":
        """Raises NotFound where there is no ComfyUI, ServerFailed if it does not start."""
        from comfyserve.sdk.comfy_session import open_session

        self._session = await open_session(self)
        return self._session

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.aclose()

    def run(
        self,
        workflow: str | Path | bytes | Mapping[str, Any],
        inputs: Mapping[str, Any] | None = None,
        on_progress: Callable[[Progress], object] | None = None,
        **options: "Unpack[RunOptions]",
    ) -> "RunResult":
        """Run one workflow from code without a loop of its own, such as a script."""
        import asyncio

        async def once() -> "RunResult":
            async with self as comfy:
                return await comfy.run(workflow, inputs, on_progress, **options)

        return asyncio.run(once())
