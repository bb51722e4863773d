"""When a job will probably be done, from what earlier ones took."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """What is known about the time that things take; None: nothing yet. Seconds."""

    job_s: float | None = None
    wake_s: float | None = None


def eta_of_queued(pace: Pace, *, ahead: int, lanes: int, is_awake: bool) -> float | None:
    """Seconds until a queued job is done; None while nothing was measured.

    `ahead` jobs come before it or run, on `lanes` replicas; asleep, one has to wake first.
    """
    if pace.job_s is None:
        return None
    turns = ahead // max(1, lanes) + 1
    wake_s = 0.0 if is_awake else pace.wake_s or 0.0
    return wake_s + turns * pace.job_s


def eta_of_running(pace: Pace, *, elapsed_s: float, value: float | None) -> float | None:
    """Seconds until a running job is done: by its own progress once that says something."""
    by_history = None if pace.job_s is None else max(0.0, pace.job_s - elapsed_s)
    if value is None or value < 0.1 or elapsed_s <= 0:
        return by_history
    by_progress = elapsed_s * (1.0 - value) / value
    # Loading counts little in the progress and much in the time: history tempers it early on.
    return by_progress if by_history is None else value * by_progress + (1 - value) * by_history
