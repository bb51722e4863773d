"""Time as an argument: the `Clock` protocol and the only caller of `time`."""

import time
from typing import Protocol


class Clock(Protocol):
    """What the runtime may know about time."""

    def now(self) -> float:
        """Seconds since the epoch, UTC; for records that outlive the process."""
        ...

    def monotonic(self) -> float:
        """Seconds that never run backwards; for deadlines and durations."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> float:
        """Seconds since the epoch, UTC."""
        return time.time()

    def monotonic(self) -> float:
        """Seconds since an arbitrary start; never runs backwards."""
        return time.monotonic()
