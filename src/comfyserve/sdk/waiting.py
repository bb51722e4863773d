"""Wake a deployment and wait until it is ready."""

import threading

from comfyserve.clock import SystemClock
from comfyserve.sdk.client import Client
from comfyserve.sdk.errors import ServerFailed, TimedOut

_LOOK_EACH_S = 0.1
_AWAKE = frozenset({"ready", "busy"})


def await_ready(client: Client, name: str, timeout_s: float) -> None:
    """Raises TimedOut, and ServerFailed with the end of its log if it cannot start."""
    clock = SystemClock()
    deadline = clock.monotonic() + timeout_s
    known = client.deployment(name)
    while known.status not in _AWAKE:
        if known.status == "failing":
            raise ServerFailed(f"{name} does not start: {known.message}", evidence=known.log_tail)
        if known.status == "stopped":
            raise ServerFailed(f"{name} is stopped; `comfyserve start {name}` lets it work again")
        if known.status == "asleep":
            client.change(name, "warm")
        if clock.monotonic() > deadline:
            raise TimedOut(f"{name} was not ready within {timeout_s:g} s; it is {known.status}")
        threading.Event().wait(_LOOK_EACH_S)
        known = client.deployment(name)
