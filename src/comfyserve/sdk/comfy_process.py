"""`start_comfyui`: a ComfyUI in the background of a replica, for `on_start`."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Engine = Literal["comfyui", "embedded"]


@dataclass(frozen=True, slots=True)
class BackgroundComfyUI:
    """A ComfyUI that answers at `url`; `pid` is None for one that is not ours."""

    url: str
    pid: int | None = None


def start_comfyui(
    engine: Engine = "comfyui",
    comfyui_dir: str | os.PathLike[str] | None = None,
    args: Sequence[str] = (),
    timeout: float = 300.0,
) -> BackgroundComfyUI:
    """Start ComfyUI beside this code, or find the one that runs already; return when it answers.

    Example: `@asgi(name="postcard", on_start=start_comfyui)`

    Its files lie in `comfyui/` of the working directory, its log is part of the replica's. Raises
    NotFound where there is none to start, ServerFailed, TimedOut.
    """
    from comfyserve.sdk.comfy_background import start

    return start(engine, comfyui_dir, args, timeout)


def stop_started() -> None:
    """End what this process started. Twice is fine."""
    from comfyserve.sdk.comfy_background import stop

    stop()
