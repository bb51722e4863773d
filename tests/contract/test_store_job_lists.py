"""Pages, ComfyUI's history and ComfyUI's job list."""

from collections.abc import Sequence
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.job import Job, JobDocuments, JobEventKind, JobState
from comfyserve.store import Store
from comfyserve.store.jobs import JobFilter, JobSort, JobViewQuery
from comfyserve.testing.store_data import PROMPT, a_new_job, furnish

_ALL = JobFilter(deployment_id="dp_1")


async def _enqueue(store: Store, count: int, **changes: object) -> list[Job]:
    jobs = []
    for _ in range(count):
        new = replace(a_new_job(), **changes)  # type: ignore[arg-type] # the fields of a new job
        jobs.append((await store.jobs.enqueue(new, 10.0)).job)
    return jobs


async def _finish(
    store: Store,
    prompt_id: str,
    *,
    event: JobEventKind = JobEventKind.SUCCEEDED,
    started: float = 20.0,
    ended: float = 30.0,
    entry: bytes = b"{}",
    workflow_id: str | None = None,
) -> Job:
    extra = {"extra_pnginfo": {"workflow": {"id": workflow_id}}}
    documents = JobDocuments(PROMPT, extra, ("1",))
    await store.jobs.enqueue(a_new_job(prompt_id=prompt_id, documents=documents, number=-1.0), 10.0)
    job = await store.jobs.claim(
        "dp_1",
        revision_id="rv_dp_1_1",
        replica_id="rp_1",
        owner="rt_1",
        lease_until=99.0,
        now=started,
    )
    assert job is not None
    finished = await store.jobs.finish(
        job.id,
        owner="rt_1",
        attempt=1,
        event=event,
        now=ended,
        history=entry,
        summary=b"summary of " + prompt_id.encode(),
    )
    assert finished is not None
    return finished


async def _pages(store: Store, chosen: JobFilter, limit: int) -> list[list[str]]:
    pages, cursor = [], None
    while True:
        page = await store.jobs.list(chosen, limit, cursor)
        pages.append([job.id for job in page.jobs])
        if (cursor := page.next_cursor) is None:
            return pages


async def test_pages_newest_first(store: Store) -> None:
    ids = [job.id for job in reversed(await _enqueue(store, 7))]
    assert await _pages(store, _ALL, 3) == [ids[:3], ids[3:6], ids[6:]]
    assert await _pages(store, _ALL, 7) == [ids]
    assert await _pages(store, JobFilter(), 100) == [ids]
    assert await _pages(store, JobFilter(deployment_id="dp_9"), 3) == [[]]


async def test_a_cursor_stays_good_while_jobs_come(store: Store) -> None:
    ids = [job.id for job in reversed(await _enqueue(store, 4))]
    first = await store.jobs.list(_ALL, 2)
    await _enqueue(store, 3)
    second = await store.jobs.list(_ALL, 2, first.next_cursor)
    assert [job.id for job in second.jobs] == ids[2:]
    assert second.next_cursor is None


@pytest.mark.parametrize("cursor", ["", "x", "-1", "0x1", " 1", "1_0", "F", "01", "9" * 40, "é"])
async def test_a_bad_cursor(store: Store, cursor: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        await store.jobs.list(_ALL, 2, cursor)
    assert refused.value.code == "invalid_cursor"


async def test_filters(store: Store) -> None:
    await furnish(store, "dp_2", "rp_2")
    done = await _finish(store, "done")
    (red,) = await _enqueue(store, 1, labels={"color": "red", "team": "film"}, principal="anna")
    (blue,) = await _enqueue(store, 1, labels={"color": "blue", "team": "film"}, principal="ben")
    late = (await store.jobs.enqueue(a_new_job("dp_2"), 50.0)).job
    cases: list[tuple[JobFilter, list[Job]]] = [
        (JobFilter(), [late, blue, red, done]),
        (JobFilter(deployment_id="dp_1"), [blue, red, done]),
        (JobFilter(states=frozenset({JobState.SUCCEEDED})), [done]),
        (
            JobFilter(states=frozenset({JobState.SUCCEEDED, JobState.QUEUED})),
            [late, blue, red, done],
        ),
        (JobFilter(labels={"color": "red"}), [red]),
        (JobFilter(labels={"team": "film"}), [blue, red]),
        (JobFilter(labels={"team": "film", "color": "blue"}), [blue]),
        (JobFilter(labels={"team": "film", "size": "4"}), []),
        (JobFilter(principal="anna"), [red]),
        (JobFilter(replica_id="rp_1"), [done]),
        (JobFilter(created_after=10.0), [late]),
        (JobFilter(created_before=50.0), [blue, red, done]),
        (JobFilter(created_after=9.0, created_before=11.0, principal="ben"), [blue]),
    ]
    for chosen, expected in cases:
        page = await store.jobs.list(chosen, 10)
        assert [job.id for job in page.jobs] == [job.id for job in expected], chosen


def _as_comfyui(known: Sequence[str], max_items: int | None, offset: int | None) -> list[str]:
    """ComfyUI's rule, said as a loop over its dictionary."""
    first = -1 if offset is None else offset
    if first < 0 and max_items is not None:
        first = len(known) - max_items
    shown: list[str] = []
    for place, prompt_id in enumerate(known):
        if place >= first:
            shown.append(prompt_id)
            if max_items is not None and len(shown) >= max_items:
                break
    return shown


@settings(
    max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    max_items=st.none() | st.integers(-3, 9),
    offset=st.none() | st.integers(-3, 9),
)
async def test_history_is_cut_as_comfyui_cuts_it(
    store: Store, max_items: int | None, offset: int | None
) -> None:
    known = [f"p{number}" for number in range(6)]
    if await store.jobs.history_entry("dp_1", "p0") is None:
        for prompt_id in known:
            await _finish(store, prompt_id, entry=prompt_id.encode())
    shown = await store.jobs.history("dp_1", max_items, offset)
    expected = _as_comfyui(known, max_items, offset)
    assert shown == [(prompt_id, prompt_id.encode()) for prompt_id in expected]


async def test_a_prompt_id_that_runs_again_keeps_its_place(store: Store) -> None:
    for prompt_id, entry in (("a", b"1"), ("b", b"2"), ("a", b"3")):
        await _finish(store, prompt_id, entry=entry)
    assert await store.jobs.history("dp_1") == [("a", b"3"), ("b", b"2")]
    assert await store.jobs.history_entry("dp_1", "a") == b"3"


async def test_deleting_history(store: Store) -> None:
    await furnish(store, "dp_2", "rp_2")
    jobs = [await _finish(store, prompt_id) for prompt_id in "abcd"]
    await store.jobs.delete_history("dp_2", None)
    await store.jobs.delete_history("dp_1", ["a", "c", "unknown"])
    assert [prompt_id for prompt_id, _ in await store.jobs.history("dp_1")] == ["b", "d"]
    await store.jobs.delete_history("dp_1", None)
    assert await store.jobs.history("dp_1") == []
    assert [await store.jobs.get(job.id) for job in jobs] == jobs


async def test_the_view_shows_open_jobs_and_history(store: Store) -> None:
    done = await _finish(store, "done", workflow_id="w1")
    failed = await _finish(store, "failed", event=JobEventKind.FAILED)
    cleared = await _finish(store, "cleared")
    (waiting,) = await _enqueue(store, 1)
    (gone,) = await _enqueue(store, 1)
    await store.jobs.delete_queued("dp_1", [gone.prompt_id], 40.0)
    await store.jobs.delete_history("dp_1", [cleared.prompt_id])
    page = await store.jobs.view(JobViewQuery("dp_1"))
    assert page.total == 3
    assert [view.job for view in page.views] == [waiting, failed, done]
    assert [view.summary for view in page.views] == [
        None,
        b"summary of failed",
        b"summary of done",
    ]
    assert [view.workflow_id for view in page.views] == [None, None, "w1"]


async def test_the_view_filters_sorts_and_cuts(store: Store) -> None:
    slow = await _finish(store, "slow", started=20.0, ended=90.0, workflow_id="w1")
    quick = await _finish(store, "quick", started=20.0, ended=21.0)
    middle = await _finish(
        store, "middle", event=JobEventKind.INTERRUPTED, ended=40.0, workflow_id="w1"
    )
    (waiting,) = await _enqueue(store, 1)
    everything = JobViewQuery("dp_1")
    by_duration = replace(everything, sort_by=JobSort.EXECUTION_DURATION)
    cases: list[tuple[JobViewQuery, list[Job], int]] = [
        (everything, [waiting, middle, quick, slow], 4),
        (replace(everything, is_ascending=True), [slow, quick, middle, waiting], 4),
        (replace(everything, limit=2), [waiting, middle], 4),
        (replace(everything, limit=2, offset=1), [middle, quick], 4),
        (replace(everything, offset=3), [slow], 4),
        (replace(everything, offset=9), [], 4),
        (replace(everything, limit=0), [], 4),
        (by_duration, [slow, middle, quick, waiting], 4),
        (replace(by_duration, is_ascending=True, limit=2), [waiting, quick], 4),
        (replace(everything, states=frozenset({JobState.QUEUED})), [waiting], 1),
        (replace(everything, states=frozenset({JobState.CANCELED})), [middle], 1),
        (
            replace(everything, states=frozenset({JobState.CANCELED, JobState.QUEUED})),
            [waiting, middle],
            2,
        ),
        (replace(everything, workflow_id="w1"), [middle, slow], 2),
        (replace(everything, workflow_id="no"), [], 0),
    ]
    for query, expected, total in cases:
        page = await store.jobs.view(query)
        assert ([view.job for view in page.views], page.total) == (expected, total), query


@pytest.mark.parametrize(
    "extra_data",
    [{"extra_pnginfo": None}, {"extra_pnginfo": {"workflow": [1]}}, {"extra_pnginfo": [1]}],
)
async def test_extra_data_of_any_shape(store: Store, extra_data: dict[str, object]) -> None:
    documents = JobDocuments(PROMPT, extra_data, ("1",))
    (job,) = await _enqueue(store, 1, documents=documents)
    assert await store.jobs.documents(job.id) == documents
