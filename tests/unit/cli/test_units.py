"""Sizes, durations and moments as people read them."""

from datetime import UTC, datetime, timedelta

import pytest

from comfyserve.cli.units import ago_text, duration_text, ms_text, size_text

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.0, "0.00 s"),
        (0.417, "0.42 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 0 s"),
        (250, "4 min 10 s"),
        (3599.6, "1 h 0 min"),
        (11_100, "3 h 5 min"),
    ],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration_text(seconds) == text


@pytest.mark.parametrize(
    ("size", "text"),
    [(0, "0 B"), (1023, "1023 B"), (1536, "1.5 KiB"), (5 * 1024**3, "5.0 GiB"), (2**41, "2.0 TiB")],
)
def test_sizes(size: int, text: str) -> None:
    assert size_text(size) == text


@pytest.mark.parametrize(
    ("ago", "text"),
    [
        (timedelta(seconds=3.2), "3 s ago"),
        (timedelta(seconds=-5), "0 s ago"),
        (timedelta(minutes=5), "5 min 0 s ago"),
        (timedelta(hours=30), "30 h 0 min ago"),
        (timedelta(days=3), "2025-12-30"),
    ],
)
def test_moments(ago: timedelta, text: str) -> None:
    assert ago_text(NOW - ago, NOW) == text
    assert ago_text(None, NOW) == ""


def test_milliseconds_stay_so_while_they_are_few() -> None:
    assert ms_text(9_999) == "9999 ms"
    assert ms_text(12_300) == "12.3 s"
