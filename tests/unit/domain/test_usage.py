"""Receipts and ledgers: parts that sum up, whatever the clocks said."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.domain.usage import (
    BILLED,
    JobTimes,
    Receipt,
    Segment,
    SegmentKind,
    Totals,
    make_receipt,
    price_of,
    total,
)

MOMENTS = st.floats(1.6e9, 1.6e9 + 1e6)
TIMES = st.builds(
    JobTimes,
    created_at=MOMENTS,
    finished_at=MOMENTS,
    started_at=st.none() | MOMENTS,
    wake_began_at=st.none() | MOMENTS,
    wake_ended_at=st.none() | MOMENTS,
    load_s=st.floats(-10, 1e6),
    earlier_attempts_s=st.floats(-10, 1e6),
)
SEGMENTS = st.lists(
    st.builds(
        Segment,
        replica_id=st.just("rp_1"),
        deployment_id=st.just("dp_1"),
        kind=st.sampled_from(SegmentKind),
        started_at=MOMENTS,
        ended_at=st.none() | MOMENTS,
        price_per_hour=st.floats(0, 100),
    ),
    max_size=20,
)


def receipt_of(times: JobTimes, price_per_hour: float = 3.6) -> Receipt:
    return make_receipt(
        times, attempts=1, replica_id="rp_1", gpu="H100", price_per_hour=price_per_hour
    )


@given(TIMES)
def test_the_parts_of_a_receipt_sum_to_its_total(times: JobTimes) -> None:
    receipt = receipt_of(times)
    parts = (receipt.queued_ms, receipt.wake_ms, receipt.load_ms, receipt.execute_ms)
    assert min(parts) >= 0
    assert sum(parts) == receipt.total_ms


@given(TIMES)
def test_a_slot_is_billed_as_long_as_it_was_held(times: JobTimes) -> None:
    receipt = receipt_of(times)
    held_ms = receipt.load_ms + receipt.execute_ms
    earlier_ms = max(0.0, times.earlier_attempts_s) * 1000
    assert abs(receipt.billed_ms - held_ms - earlier_ms) <= 1.5
    assert receipt.cost == pytest.approx(receipt.billed_ms / 3.6e6 * 3.6, abs=1e-6)


def test_a_job_that_woke_its_replica() -> None:
    times = JobTimes(
        created_at=100.0,
        finished_at=112.0,
        started_at=109.0,
        wake_began_at=101.0,
        wake_ended_at=108.5,
        load_s=2.0,
        earlier_attempts_s=3.0,
    )
    assert receipt_of(times, 7.2) == Receipt(
        queued_ms=1500,
        wake_ms=7500,
        load_ms=2000,
        execute_ms=1000,
        total_ms=12000,
        billed_ms=6000,
        attempts=1,
        replica_id="rp_1",
        gpu="H100",
        price_per_hour=7.2,
        cost=0.012,
    )


def test_a_job_that_no_replica_took_only_waited() -> None:
    receipt = receipt_of(JobTimes(created_at=10.0, finished_at=14.0))
    assert (receipt.queued_ms, receipt.total_ms, receipt.billed_ms) == (4000, 4000, 0)


def test_a_wake_that_goes_on_counts_up_to_the_start() -> None:
    times = JobTimes(created_at=10.0, finished_at=20.0, started_at=15.0, wake_began_at=12.0)
    assert receipt_of(times).wake_ms == 3000


@given(SEGMENTS, MOMENTS)
def test_totals_are_the_sums_of_their_segments(segments: list[Segment], now: float) -> None:
    totals = total(segments, now)
    assert totals.awake_s == pytest.approx(sum(each.seconds(now) for each in segments))
    assert totals.billed_s == pytest.approx(totals.awake_s - totals.starting_s)
    assert totals.cost == pytest.approx(sum(each.cost(now) for each in segments))
    assert min(totals.starting_s, totals.busy_s, totals.idle_s, totals.draining_s) >= 0


def test_an_open_segment_lasts_until_now_and_a_clock_set_back_gives_nothing() -> None:
    segment = Segment("rp_1", "dp_1", SegmentKind.BUSY, started_at=10.0, price_per_hour=360.0)
    assert segment.seconds(25.0) == 15.0
    assert segment.cost(25.0) == pytest.approx(1.5)
    assert segment.seconds(5.0) == 0.0


@pytest.mark.parametrize("kind", SegmentKind)
def test_only_spin_up_is_free(kind: SegmentKind) -> None:
    segment = Segment("rp_1", "dp_1", kind, started_at=0.0, ended_at=3600.0, price_per_hour=2.0)
    assert segment.cost(0.0) == (2.0 if kind in BILLED else 0.0)
    assert (kind in BILLED) == (kind is not SegmentKind.STARTING)


def test_nothing_totals_to_nothing() -> None:
    assert total([], 1.0) == Totals()


@pytest.mark.parametrize(
    ("gpu", "price"), [("H100", 2.5), ("", 0.05), ("cpu", 0.05), ("L4", 0.7), ("A100-80", 0.7)]
)
def test_a_price_is_found_by_type_else_the_default(gpu: str, price: float) -> None:
    assert price_of(gpu, {"H100": 2.5, "cpu": 0.05, "default": 0.7}) == price


def test_without_prices_everything_is_free() -> None:
    assert price_of("H100", {}) == 0.0
