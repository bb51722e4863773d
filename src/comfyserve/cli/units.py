"""Sizes, durations and moments, for people."""

from datetime import UTC, datetime

from comfyserve.clock import SystemClock


def utc_now() -> datetime:
    """This moment."""
    return datetime.fromtimestamp(SystemClock().now(), UTC)


def size_text(size_bytes: int) -> str:
    """A size with a unit of 1024: 640 B, 1.5 MiB."""
    size = float(size_bytes)
    for unit in ("B", "KiB", "MiB", "GiB"):
        if size < 1024:
            return f"{size:.0f} B" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} TiB"


def duration_text(seconds: float) -> str:
    """A duration: 0.42 s, 12.3 s, 4 min 10 s, 3 h 5 min."""
    if seconds < 9.995:
        return f"{seconds:.2f} s"
    if seconds < 59.95:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes_left = divmod(minutes, 60)
    return f"{hours} h {minutes_left} min" if hours else f"{minutes} min {rest} s"


def ago_text(moment: datetime | None, now: datetime) -> str:
    """How long before `now` a moment was; the day where that is long ago."""
    if moment is None:
        return ""
    seconds = max(0.0, (now - moment).total_seconds())
    if seconds < 59.5:
        return f"{seconds:.0f} s ago"
    if seconds < 172_800:
        return f"{duration_text(seconds)} ago"
    return f"{moment.astimezone(UTC):%Y-%m-%d}"


def count_text(count: int, noun: str) -> str:
    """A number and its noun: 1 replica, 2 replicas."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def ms_text(milliseconds: int) -> str:
    """Milliseconds while they are few, then as a duration."""
    return f"{milliseconds} ms" if milliseconds < 10_000 else duration_text(milliseconds / 1000)
