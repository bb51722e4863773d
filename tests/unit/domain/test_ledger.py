"""The ledger adds up: whatever it is grouped by, the groups sum to the whole."""

import math
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.domain.budget import Budget, BudgetKind, check_budget
from comfyserve.domain.errors import BudgetSpent
from comfyserve.domain.ledger import Grouping, Span, add_up, month_of
from comfyserve.domain.usage import Segment, SegmentKind, total

NOW = 1.6e9 + 1e6
MOMENTS = st.floats(1.6e9, NOW)
SEGMENTS = st.lists(
    st.builds(
        lambda start, length, **rest: Segment(
            started_at=start, ended_at=None if length is None else start + length, **rest
        ),
        start=MOMENTS,
        length=st.none() | st.floats(0, 300_000),
        replica_id=st.sampled_from(["rp_1", "rp_2"]),
        deployment_id=st.sampled_from(["dp_1", "dp_2"]),
        kind=st.sampled_from(SegmentKind),
        job_id=st.none() | st.sampled_from(["j1", "j2", "j3"]),
        gpu=st.sampled_from(["", "H100"]),
        price_per_hour=st.floats(0, 100),
    ),
    max_size=12,
)
PRINCIPALS = {"j1": "tk_1", "j2": "tk_2"}


@given(SEGMENTS, st.sampled_from(Grouping))
def test_the_groups_sum_to_the_whole(segments: list[Segment], by: Grouping) -> None:
    rows = add_up(segments, by, principal_of=PRINCIPALS, now=NOW)
    whole = total(segments, NOW)
    assert len({row.key for row in rows}) == len(rows)
    for name in ("starting_s", "busy_s", "idle_s", "draining_s", "cost", "awake_s"):
        parts = math.fsum(getattr(row.totals, name) for row in rows)
        assert parts == pytest.approx(getattr(whole, name), abs=1e-4)


@given(SEGMENTS, MOMENTS, MOMENTS)
def test_what_lies_before_and_after_a_moment_is_the_whole(
    segments: list[Segment], a: float, b: float
) -> None:
    since, until = sorted((a, b))
    spans = (Span(until=since), Span(since, until), Span(since=until))
    parts = [total([span.clip(s, NOW) for s in segments], NOW).awake_s for span in spans]
    assert math.fsum(parts) == pytest.approx(total(segments, NOW).awake_s, abs=1e-4)


def test_a_segment_over_midnight_is_of_two_days() -> None:
    midnight = datetime(2026, 11, 29, tzinfo=UTC).timestamp()
    segment = Segment("rp_1", "dp_1", SegmentKind.BUSY, midnight - 60, midnight + 30)
    rows = add_up([segment], Grouping.DAY, principal_of={}, now=NOW)
    assert [(row.key, row.totals.busy_s) for row in rows] == [
        ("2026-11-28", 60.0),
        ("2026-11-29", 30.0),
    ]


def test_seconds_without_a_job_are_no_token_s() -> None:
    busy = Segment("rp_1", "dp_1", SegmentKind.BUSY, 0.0, 5.0, job_id="j1")
    idle = Segment("rp_1", "dp_1", SegmentKind.IDLE, 5.0, 9.0)
    pruned = Segment("rp_1", "dp_1", SegmentKind.BUSY, 9.0, 10.0, job_id="gone")
    rows = add_up([busy, idle, pruned], Grouping.TOKEN, principal_of=PRINCIPALS, now=NOW)
    assert [(row.key, row.totals.awake_s) for row in rows] == [("tk_1", 5.0), ("", 5.0)]


@pytest.mark.parametrize(
    ("day", "until"), [("2026-11-29", "2026-12-01"), ("2026-12-31", "2027-01-01")]
)
def test_a_month_is_the_calendar_s(day: str, until: str) -> None:
    span = month_of(datetime.fromisoformat(f"{day}T23:59:59+00:00").timestamp())
    assert span.since == datetime.fromisoformat(f"{day[:8]}01T00:00:00+00:00").timestamp()
    assert span.until == datetime.fromisoformat(f"{until}T00:00:00+00:00").timestamp()


def test_a_budget_holds_until_it_is_spent() -> None:
    now = datetime(2026, 11, 29, tzinfo=UTC).timestamp()
    budget = Budget(BudgetKind.DEPLOYMENT, "dp_1", 5.0)
    check_budget(budget, 4.99, now, name="studio")
    with pytest.raises(BudgetSpent, match=r"'studio' has spent 5.00 of its 5.00.*2026-12-01"):
        check_budget(budget, 5.0, now, name="studio")
    with pytest.raises(BudgetSpent):
        check_budget(Budget(BudgetKind.TOKEN, "tk_1", 0.0), 0.0, now, name="tk_1")
