"""The job store: how jobs enter, who works on them, and how they end."""

import asyncio
from dataclasses import replace
from uuid import uuid4

import pytest

from comfyserve.domain.deployment import DeploymentState
from comfyserve.domain.errors import (
    ComfyserveError,
    Conflict,
    InvalidInput,
    NotFound,
    QueueFull,
)
from comfyserve.domain.job import Job, JobDocuments, JobError, JobEventKind, JobState
from comfyserve.domain.usage import Receipt, Segment, SegmentKind
from comfyserve.store import Store
from comfyserve.store.jobs import Enqueued, JobCounts
from comfyserve.store.sealing import Sealer
from comfyserve.testing.store_data import (
    PROMPT,
    a_deployment,
    a_new_asset,
    a_new_job,
    a_replica,
    a_revision,
    furnish,
)

_DAY_S = 24 * 3600.0
_RECEIPT = Receipt(1, 2, 3, 4, 10, 7, attempts=1, replica_id="rp_1", gpu="H100", cost=0.5)


async def _claim(store: Store, *, replica_id: str = "rp_1", now: float = 20.0) -> Job | None:
    return await store.jobs.claim(
        "dp_1",
        revision_id="rv_dp_1_1",
        replica_id=replica_id,
        owner="rt_1",
        lease_until=now + 30,
        now=now,
    )


async def _running(store: Store, **changes: object) -> Job:
    await store.jobs.enqueue(replace(a_new_job(), **changes), 10.0)  # type: ignore[arg-type] # the fields of a new job
    job = await _claim(store)
    assert job is not None
    return job


async def test_a_job_and_its_documents_come_back_as_they_were(store: Store) -> None:
    documents = JobDocuments(
        prompt=PROMPT,
        extra_data={"extra_pnginfo": {"workflow": {"id": "w1", "nodes": [None, 1.5, "ü"]}}},
        outputs_to_execute=("1", "7"),
        partial_execution_targets=("7",),
        secrets={"api_key_comfy_org": "sk-1"},
    )
    new = replace(
        a_new_job(), documents=documents, client_id="c", principal="p", labels={"team": "film"}
    )
    enqueued = await store.jobs.enqueue(new, 10.0)
    expected = Job(
        id=new.id,
        deployment_id="dp_1",
        revision_id="rv_dp_1_1",
        prompt_id=new.id,
        number=0,
        state=JobState.QUEUED,
        created_at=10.0,
        principal="p",
        client_id="c",
        labels={"team": "film"},
    )
    assert enqueued.job == expected
    assert not enqueued.is_replay
    assert await store.jobs.get(new.id) == expected
    assert await store.jobs.by_prompt_id("dp_1", new.id) == expected
    assert await store.jobs.documents(new.id) == documents
    assert await store.jobs.receipt(new.id) is None


async def test_unknown_jobs(store: Store) -> None:
    assert await store.jobs.get("no") is None
    assert await store.jobs.by_prompt_id("dp_1", "no") is None
    assert await store.jobs.receipt("no") is None
    assert await store.jobs.cancel("no", 1.0) is None
    with pytest.raises(NotFound):
        await store.jobs.documents("no")


async def test_the_newest_job_of_a_prompt_id(store: Store) -> None:
    first, second = a_new_job(prompt_id="mine"), a_new_job(prompt_id="mine")
    for new in (first, second):
        await store.jobs.enqueue(new, 10.0)
    found = await store.jobs.by_prompt_id("dp_1", "mine")
    assert found is not None
    assert found.id == second.id


async def test_secrets_are_sealed_and_go_when_the_job_ends(store: Store) -> None:
    secret = "sk-very-secret-value"
    documents = JobDocuments(PROMPT, {}, ("1",), secrets={"api_key_comfy_org": secret})
    job = await _running(store, documents=documents)
    assert (await store.jobs.documents(job.id)).secrets == {"api_key_comfy_org": secret}
    dump = await store.database.read(lambda c: list(c.connection.driver_connection.iterdump()))  # type: ignore[union-attr] # the driver's own connection
    assert secret not in "".join(dump)
    assert secret.encode().hex().upper() not in "".join(dump).upper()
    await store.jobs.finish(job.id, owner="rt_1", attempt=1, event=JobEventKind.SUCCEEDED, now=30.0)
    assert (await store.jobs.documents(job.id)).secrets == {}
    counted = await store.database.read(
        lambda c: c.exec_driver_sql("SELECT count(*) FROM job_secret").scalar()
    )
    assert counted == 0


def test_a_changed_seal_is_noticed() -> None:
    sealer = Sealer(b"k" * 32)
    sealed = sealer.seal(b"hello")
    assert sealer.open(sealed) == b"hello"
    assert sealer.seal(b"hello") != sealed
    for broken in (sealed[:-1] + bytes([sealed[-1] ^ 1]), b"x" + sealed[1:], sealed[:40], b""):
        with pytest.raises(ComfyserveError, match="cannot be opened"):
            sealer.open(broken)
    with pytest.raises(ComfyserveError, match="cannot be opened"):
        Sealer(b"l" * 32).open(sealed)


async def test_numbers_follow_comfyui(store: Store) -> None:
    wished: list[dict[str, object]] = [
        {},
        {"front": True},
        {},
        {"number": -7.5},
        {"number": 3.0, "front": True},
        {},
        {"front": True},
    ]
    numbers = []
    for changes in wished:
        enqueued = await store.jobs.enqueue(replace(a_new_job(), **changes), 10.0)  # type: ignore[arg-type] # the fields of a new job
        numbers.append(enqueued.job.number)
    assert numbers == [0, -1, 2, -7.5, 3, 3, -4]
    claimed = []
    while (job := await _claim(store)) is not None:
        claimed.append(job.number)
    assert claimed == [-7.5, -4, -1, 0, 2, 3, 3]


async def test_the_first_front_job_has_an_ordinary_zero(store: Store) -> None:
    enqueued = await store.jobs.enqueue(a_new_job(front=True), 10.0)
    assert str(enqueued.job.number) == "0.0"


async def test_equal_numbers_run_in_order_of_creation(store: Store) -> None:
    ids = []
    for _ in range(20):
        new = a_new_job(number=1.0)
        ids.append(new.id)
        await store.jobs.enqueue(new, 10.0)
    claimed = [job.id for _ in ids if (job := await _claim(store)) is not None]
    assert claimed == ids


async def test_each_deployment_counts_for_itself(store: Store) -> None:
    await furnish(store, "dp_2", "rp_2")
    for deployment_id in ("dp_1", "dp_1", "dp_2"):
        await store.jobs.enqueue(a_new_job(deployment_id), 10.0)
    assert await store.jobs.all_counts() == {"dp_1": JobCounts(2, 0), "dp_2": JobCounts(1, 0)}
    assert await store.jobs.counts("dp_2") == JobCounts(1, 0)
    assert await store.jobs.counts("no") == JobCounts(0, 0)


async def test_a_full_queue(store: Store) -> None:
    for _ in range(3):
        await store.jobs.enqueue(a_new_job(max_queue=3), 10.0)
    with pytest.raises(QueueFull, match="3 jobs wait") as refused:
        await store.jobs.enqueue(a_new_job(max_queue=3), 10.0)
    assert refused.value.retry_after_s >= 1
    assert await _claim(store) is not None
    await store.jobs.enqueue(a_new_job(max_queue=3), 10.0)
    assert await store.jobs.counts("dp_1") == JobCounts(queued=3, active=1)


async def test_retry_after_is_what_a_job_takes(store: Store) -> None:
    for start in (0.0, 100.0):
        segment = Segment("rp_9", "dp_1", SegmentKind.BUSY, start, start + 20, job_id="j")
        await store.usage.open(segment)
    await store.jobs.enqueue(a_new_job(max_queue=1), 10.0)
    with pytest.raises(QueueFull) as refused:
        await store.jobs.enqueue(a_new_job(max_queue=1), 10.0)
    assert refused.value.retry_after_s == 20


async def test_the_limit_holds_when_many_come_at_once(store: Store) -> None:
    answers = await asyncio.gather(
        *(store.jobs.enqueue(a_new_job(max_queue=25), 10.0) for _ in range(100)),
        return_exceptions=True,
    )
    assert sum(isinstance(answer, QueueFull) for answer in answers) == 75
    assert await store.jobs.counts("dp_1") == JobCounts(queued=25)


async def test_of_many_at_once_only_those_that_cannot_be_stored_are_refused(store: Store) -> None:
    await furnish(store, "dp_2", "rp_2")
    twice = a_new_job(max_queue=50)
    news = [
        *(a_new_job(max_queue=40) for _ in range(10)),
        *(a_new_job("dp_2", front=True, client_id=f"c{n}") for n in range(10)),
        *(twice, twice, a_new_job("dp_9"), a_new_job(number=0.5), a_new_job(labels={"a": "b"})),
        *(a_new_job(max_queue=40) for _ in range(10)),
    ]
    answers = await asyncio.gather(
        *(store.jobs.enqueue(new, 10.0) for new in news), return_exceptions=True
    )
    refused = [answer for answer in answers if isinstance(answer, ComfyserveError)]
    assert [error.code for error in refused] == ["job_exists", "not_found"]
    jobs = {answer.job.id: answer.job for answer in answers if isinstance(answer, Enqueued)}
    assert len(jobs) == 33
    for new in news:
        if (job := jobs.get(new.id)) is not None:
            assert await store.jobs.get(new.id) == job
            assert (job.client_id, job.labels) == (new.client_id, new.labels)
            assert (await store.jobs.documents(new.id)) == new.documents
    numbers = {
        name: sorted(job.number for job in jobs.values() if job.deployment_id == name)
        for name in ("dp_1", "dp_2")
    }
    assert numbers == {
        "dp_1": sorted([0.5, *map(float, range(22))]), "dp_2": [-float(n) for n in range(9, -1, -1)]
    }  # fmt: skip
    assert await store.jobs.counts("dp_1") == JobCounts(queued=23)
    assert await store.jobs.counts("dp_2") == JobCounts(queued=10)


async def test_a_key_replays_the_first_answer(store: Store) -> None:
    errors = {"7": {"errors": [], "class_type": "X"}}
    first = await store.jobs.enqueue(
        a_new_job(idempotency_key="k", request_digest="d", answer_node_errors=errors), 10.0
    )
    again = a_new_job(idempotency_key="k", request_digest="d", max_queue=1)
    second = await store.jobs.enqueue(again, 11.0)
    assert second.is_replay
    assert second.job == first.job
    assert second.node_errors == errors
    assert await store.jobs.counts("dp_1") == JobCounts(queued=1)


async def test_a_key_with_another_request_is_refused(store: Store) -> None:
    await store.jobs.enqueue(a_new_job(idempotency_key="k", request_digest="d"), 10.0)
    with pytest.raises(Conflict) as refused:
        await store.jobs.enqueue(a_new_job(idempotency_key="k", request_digest="e"), 11.0)
    assert refused.value.code == "idempotency_conflict"


async def test_a_key_belongs_to_its_deployment_and_principal(store: Store) -> None:
    await furnish(store, "dp_2", "rp_2")
    for new in (a_new_job(), a_new_job(principal="other"), a_new_job("dp_2")):
        keyed = replace(new, idempotency_key="k", request_digest=new.id)
        assert not (await store.jobs.enqueue(keyed, 10.0)).is_replay


async def test_a_key_is_forgotten_after_a_day(store: Store) -> None:
    await store.jobs.enqueue(a_new_job(idempotency_key="k", request_digest="d"), 10.0)
    kept = a_new_job(idempotency_key="k", request_digest="d")
    assert (await store.jobs.enqueue(kept, 9.0 + _DAY_S)).is_replay
    other = a_new_job(idempotency_key="k", request_digest="e")
    assert not (await store.jobs.enqueue(other, 10.0 + _DAY_S)).is_replay


async def test_many_with_one_key_at_once_make_one_job(store: Store) -> None:
    answers = await asyncio.gather(
        *(
            store.jobs.enqueue(a_new_job(idempotency_key="k", request_digest="d"), 10.0)
            for _ in range(50)
        )
    )
    assert len({answer.job.id for answer in answers}) == 1
    assert sum(not answer.is_replay for answer in answers) == 1


async def test_an_id_is_used_once(store: Store) -> None:
    new = a_new_job()
    await store.jobs.enqueue(new, 10.0)
    with pytest.raises(Conflict) as refused:
        await store.jobs.enqueue(new, 10.0)
    assert refused.value.code == "job_exists"
    assert await store.jobs.counts("dp_1") == JobCounts(queued=1)


async def test_no_job_enters_an_unknown_or_deleted_deployment(store: Store) -> None:
    with pytest.raises(NotFound):
        await store.jobs.enqueue(a_new_job("dp_9"), 10.0)
    await store.deployments.set_state("dp_1", DeploymentState.DELETED, 10.0)
    with pytest.raises(NotFound):
        await store.jobs.enqueue(a_new_job(), 10.0)


async def test_text_that_is_not_unicode_is_refused(store: Store) -> None:
    documents = JobDocuments({"1": {"class_type": "X", "inputs": {"text": "\ud800"}}}, {}, ("1",))
    with pytest.raises(InvalidInput, match="Unicode"):
        await store.jobs.enqueue(a_new_job(documents=documents), 10.0)


async def test_a_claim(store: Store) -> None:
    await store.deployments.add_revision("dp_1", a_revision(id="rv_new"), 12.0)
    await store.jobs.enqueue(a_new_job(), 10.0)
    job = await store.jobs.claim(
        "dp_1",
        revision_id="rv_new",
        replica_id="rp_1",
        owner="rt_1",
        lease_until=50.0,
        now=20.0,
    )
    assert job is not None
    assert job == await store.jobs.get(job.id)
    assert (job.state, job.attempts, job.started_at) == (JobState.RUNNING, 1, 20.0)
    assert (job.replica_id, job.owner, job.lease_until) == ("rp_1", "rt_1", 50.0)
    assert job.revision_id == "rv_new"
    assert await _claim(store) is None
    assert await store.jobs.counts("dp_1") == JobCounts(queued=0, active=1)
    idle, busy = await store.usage.segments(replica_id="rp_1")
    assert (idle.kind, idle.ended_at) == (SegmentKind.IDLE, 20.0)
    assert (busy.kind, busy.job_id, busy.started_at) == (SegmentKind.BUSY, job.id, 20.0)


async def test_claims_at_once_are_unique(store: Store) -> None:
    for _ in range(30):
        await store.jobs.enqueue(a_new_job(), 10.0)
    for number in range(2, 42):
        await store.replicas.save(a_replica(f"rp_{number}"))
    claims = await asyncio.gather(
        *(_claim(store, replica_id=f"rp_{number}") for number in range(2, 42))
    )
    taken = [job.id for job in claims if job is not None]
    assert len(taken) == len(set(taken)) == 30


async def test_success(store: Store) -> None:
    job = await _running(store, prompt_id="p")
    finished = await store.jobs.finish(
        job.id,
        owner="rt_1",
        attempt=1,
        event=JobEventKind.SUCCEEDED,
        now=30.0,
        history=b'{"status":{}}',
        receipt=_RECEIPT,
    )
    assert finished is not None
    assert finished == await store.jobs.get(job.id)
    assert (finished.state, finished.finished_at) == (JobState.SUCCEEDED, 30.0)
    assert (finished.owner, finished.replica_id) == (None, "rp_1")
    assert await store.jobs.receipt(job.id) == _RECEIPT
    assert await store.jobs.history_entry("dp_1", "p") == b'{"status":{}}'
    assert await store.jobs.counts("dp_1") == JobCounts(0, 0)
    last = (await store.usage.segments(replica_id="rp_1"))[-1]
    assert (last.kind, last.started_at, last.job_id) == (SegmentKind.IDLE, 30.0, None)


async def test_failure_keeps_the_evidence(store: Store) -> None:
    job = await _running(store)
    error = JobError("node_error", "boom", "7", "KSampler", "ValueError", ("a", "b"), -9, ("log",))
    await store.jobs.finish(
        job.id, owner="rt_1", attempt=1, event=JobEventKind.FAILED, now=30.0, error=error
    )
    failed = await store.jobs.get(job.id)
    assert failed is not None
    assert (failed.state, failed.error) == (JobState.FAILED, error)


@pytest.mark.parametrize(("owner", "attempt"), [("rt_2", 1), ("rt_1", 2), ("rt_1", 0)])
async def test_a_stale_owner_changes_nothing(store: Store, owner: str, attempt: int) -> None:
    job = await _running(store)
    stale = await store.jobs.finish(
        job.id,
        owner=owner,
        attempt=attempt,
        event=JobEventKind.SUCCEEDED,
        now=30.0,
        history=b"{}",
        receipt=_RECEIPT,
    )
    assert stale is None
    assert await store.jobs.get(job.id) == job
    assert await store.jobs.history_entry("dp_1", job.prompt_id) is None
    assert await store.jobs.receipt(job.id) is None
    assert (await store.usage.segments(replica_id="rp_1"))[-1].job_id == job.id


async def test_a_job_is_finished_once(store: Store) -> None:
    job = await _running(store)
    answers = await asyncio.gather(
        *(
            store.jobs.finish(
                job.id, owner="rt_1", attempt=1, event=event, now=30.0, history=b"%d" % number
            )
            for number, event in enumerate([JobEventKind.SUCCEEDED, JobEventKind.FAILED] * 10)
        )
    )
    assert [answer is not None for answer in answers] == [True] + [False] * 19
    assert await store.jobs.history_entry("dp_1", job.prompt_id) == b"0"


async def test_a_lost_job_waits_again_at_its_old_place(store: Store) -> None:
    job = await _running(store)
    await store.jobs.enqueue(a_new_job(), 11.0)
    mine, other = a_new_asset(job_id=job.id), a_new_asset("other.png", job_id=str(uuid4()))
    await store.assets.add_many([mine, other], 25.0)
    error = JobError("replica_lost", "gone", exit_code=-9)
    lost = await store.jobs.finish(
        job.id,
        owner="rt_1",
        attempt=1,
        event=JobEventKind.LOST,
        now=30.0,
        error=error,
        history=b"{}",
        receipt=_RECEIPT,
    )
    assert lost is not None
    assert (lost.state, lost.attempts, lost.error) == (JobState.QUEUED, 1, error)
    assert (lost.owner, lost.replica_id, lost.started_at) == (None, None, None)
    assert await store.jobs.history_entry("dp_1", job.prompt_id) is None
    assert await store.jobs.receipt(job.id) is None
    assert await store.assets.of_job(job.id) == []
    assert await store.assets.find("dp_1", "other.png", "", "output") is not None
    assert await store.jobs.counts("dp_1") == JobCounts(queued=2)
    again = await _claim(store)
    assert again is not None
    assert (again.id, again.attempts) == (job.id, 2)


async def test_a_job_lost_too_often_fails(store: Store) -> None:
    job = await _running(store, max_attempts=1)
    error = JobError("replica_lost", "gone", log_tail=("last words",))
    failed = await store.jobs.finish(
        job.id,
        owner="rt_1",
        attempt=1,
        event=JobEventKind.LOST,
        now=30.0,
        error=error,
        history=b"{}",
        receipt=_RECEIPT,
    )
    assert failed is not None
    assert (failed.state, failed.error, failed.finished_at) == (JobState.FAILED, error, 30.0)
    assert await store.jobs.history_entry("dp_1", job.prompt_id) == b"{}"
    assert await store.jobs.receipt(job.id) == _RECEIPT


async def test_the_end_of_a_lost_replica_stays_in_its_ledger(store: Store) -> None:
    job = await _running(store)
    await store.usage.close("rp_1", 28.0)
    await store.jobs.finish(
        job.id, owner="rt_1", attempt=1, event=JobEventKind.LOST, now=30.0, error=None
    )
    assert [s.ended_at for s in await store.usage.segments(replica_id="rp_1")] == [20.0, 28.0]


async def test_cancel_in_every_state(store: Store) -> None:
    waiting = a_new_job()
    await store.jobs.enqueue(waiting, 10.0)
    canceled = await store.jobs.cancel(waiting.id, 15.0)
    assert canceled is not None
    assert (canceled.state, canceled.finished_at) == (JobState.CANCELED, 15.0)
    assert await store.jobs.cancel(waiting.id, 16.0) == canceled

    running = await _running(store)
    canceling = await store.jobs.cancel(running.id, 22.0)
    assert canceling is not None
    assert canceling.state is JobState.CANCELING
    assert canceling.owner == "rt_1"
    assert await store.jobs.cancel(running.id, 23.0) == canceling
    assert await store.jobs.counts("dp_1") == JobCounts(queued=0, active=1)
    ended = await store.jobs.finish(
        running.id, owner="rt_1", attempt=1, event=JobEventKind.SUCCEEDED, now=30.0
    )
    assert ended is not None
    assert ended.state is JobState.CANCELED
    assert await store.jobs.cancel(running.id, 31.0) == ended
    assert await store.jobs.counts("dp_1") == JobCounts(0, 0)


async def test_leases(store: Store) -> None:
    first, second = await _running(store), await _running(store)
    await store.jobs.renew("rt_other", 999.0, 40.0)
    await store.jobs.renew("rt_1", 90.0, 40.0)
    await store.jobs.cancel(second.id, 41.0)
    await store.jobs.renew("rt_1", 95.0, 41.0)
    for job in (first, second):
        renewed = await store.jobs.get(job.id)
        assert renewed is not None
        assert renewed.lease_until == 95.0
    with pytest.raises(ValueError, match="future"):
        await store.jobs.renew("rt_1", 40.0, 41.0)


async def test_recovery_adopts_what_a_dead_owner_held(store: Store) -> None:
    first, second = await _running(store), await _running(store)
    await store.jobs.enqueue(a_new_job(), 10.0)
    await store.jobs.cancel(second.id, 22.0)
    assert await store.jobs.abandoned("rt_1") == []
    abandoned = await store.jobs.abandoned("rt_2")
    assert [job.id for job in abandoned] == [first.id, second.id]
    adopted = await store.jobs.adopt(first.id, owner="rt_2", lease_until=99.0, now=50.0)
    assert adopted == replace(first, owner="rt_2", lease_until=99.0)
    assert [job.id for job in await store.jobs.abandoned("rt_2")] == [second.id]
    late = await store.jobs.finish(
        first.id, owner="rt_1", attempt=1, event=JobEventKind.SUCCEEDED, now=51.0
    )
    assert late is None
    done = await store.jobs.finish(
        first.id, owner="rt_2", attempt=1, event=JobEventKind.SUCCEEDED, now=52.0
    )
    assert done is not None
    assert await store.jobs.adopt(first.id, owner="rt_3", lease_until=99.0, now=60.0) is None
    assert await store.jobs.adopt("no", owner="rt_3", lease_until=99.0, now=60.0) is None


async def test_failing_all_that_wait(store: Store) -> None:
    await furnish(store, "dp_2", "rp_2")
    running = await _running(store)
    waiting = [a_new_job(prompt_id=f"p{number}") for number in range(3)]
    for new in [*waiting, a_new_job("dp_2")]:
        await store.jobs.enqueue(new, 10.0)
    error = JobError("start_failed", "no replica became ready")

    def entry(job: Job, documents: JobDocuments) -> bytes:
        assert documents.prompt == PROMPT
        return f"{job.prompt_id} {job.state}".encode()

    failed = await store.jobs.fail_queued("dp_1", error, 30.0, entry)
    assert [job.id for job in failed] == [new.id for new in waiting]
    assert {(job.state, job.error, job.finished_at) for job in failed} == {
        (JobState.FAILED, error, 30.0)
    }
    assert [await store.jobs.get(job.id) for job in failed] == failed
    assert await store.jobs.history("dp_1") == [
        (f"p{number}", f"p{number} failed".encode()) for number in range(3)
    ]
    assert await store.jobs.get(running.id) == running
    assert await store.jobs.all_counts() == {"dp_1": JobCounts(0, 1), "dp_2": JobCounts(1, 0)}
    assert await store.jobs.fail_queued("dp_1", error, 31.0) == []


async def test_a_long_queue_ends_in_parts(store: Store) -> None:
    await asyncio.gather(
        *(store.jobs.enqueue(a_new_job(max_queue=2000), 10.0) for _ in range(1100))
    )
    failed = await store.jobs.fail_queued("dp_1", JobError("start_failed", "no"), 30.0)
    assert [job.number for job in failed] == list(range(1100))
    assert await store.jobs.counts("dp_1") == JobCounts(0, 0)


async def test_expiring_what_waits_too_long(store: Store) -> None:
    old, young = a_new_job(), a_new_job()
    await store.jobs.enqueue(old, 10.0)
    await store.jobs.enqueue(young, 20.0)
    error = JobError("queue_timeout", "waited too long")
    expired = await store.jobs.expire_queued("dp_1", 20.0, error, 30.0)
    assert [(job.id, job.state, job.error) for job in expired] == [
        (old.id, JobState.EXPIRED, error)
    ]
    assert await store.jobs.counts("dp_1") == JobCounts(queued=1)


async def test_deleting_from_the_queue(store: Store) -> None:
    running = await _running(store, prompt_id="p0")
    for number in range(1, 5):
        await store.jobs.enqueue(a_new_job(prompt_id=f"p{number}"), 10.0)
    gone = await store.jobs.delete_queued("dp_1", ["p0", "p2", "p3", "unknown"], 30.0)
    assert [(job.prompt_id, job.state) for job in gone] == [
        ("p2", JobState.CANCELED),
        ("p3", JobState.CANCELED),
    ]
    assert len(await store.jobs.delete_queued("dp_1", None, 31.0)) == 2
    assert await store.jobs.get(running.id) == running
    assert await store.jobs.delete_queued("dp_1", [f"x{n}" for n in range(40_000)], 32.0) == []


async def test_open_jobs_run_first_then_wait_in_order(store: Store) -> None:
    first = await _running(store, prompt_id="first")
    await store.replicas.save(a_replica("rp_2"))
    await store.jobs.enqueue(a_new_job(prompt_id="second"), 10.0)
    await _claim(store, replica_id="rp_2", now=21.0)
    await store.jobs.cancel(first.id, 22.0)
    await store.jobs.enqueue(a_new_job(prompt_id="last"), 10.0)
    await store.jobs.enqueue(a_new_job(prompt_id="next", front=True), 10.0)
    done = a_new_job(prompt_id="done")
    await store.jobs.enqueue(done, 10.0)
    await store.jobs.cancel(done.id, 23.0)
    opened = await store.jobs.open_jobs("dp_1")
    assert [job.prompt_id for job, _ in opened] == ["first", "second", "next", "last"]
    assert all(documents.prompt == PROMPT for _, documents in opened)


async def test_the_position_in_the_queue(store: Store) -> None:
    await furnish(store, "dp_2", "rp_2")
    await store.jobs.enqueue(a_new_job("dp_2", number=-9.0), 10.0)
    await _running(store)
    ids = []
    for number in (5.0, 1.0, 5.0, -1.0):
        ids.append((await store.jobs.enqueue(a_new_job(number=number), 10.0)).job.id)  # noqa: PERF401 - one after the other
    assert [await store.jobs.position(job_id) for job_id in ids] == [2, 1, 3, 0]
    assert await store.jobs.position("no") == 0


async def test_deployments_in_one_home_do_not_mix(store: Store) -> None:
    await store.deployments.create(a_deployment("dp_2"))
    await store.jobs.enqueue(a_new_job("dp_2"), 10.0)
    assert await _claim(store) is None
    assert await store.jobs.open_jobs("dp_1") == []
    assert len(await store.jobs.open_jobs("dp_2")) == 1
