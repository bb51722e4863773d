"""No statement on a hot path scans or sorts a table: what ten jobs need, a million need too."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, cast

import pytest
from sqlalchemy import ClauseElement, Engine, event, make_url
from sqlalchemy.dialects import sqlite
from sqlalchemy.sql.compiler import SQLCompiler

from comfyserve.domain.job import JobError, JobEventKind, JobState
from comfyserve.domain.usage import SegmentKind
from comfyserve.domain.webhook import NewWebhook, Reply, WebhookEvent, settle
from comfyserve.store import Store, job_entry
from comfyserve.store.jobs import JobFilter, JobViewQuery
from comfyserve.store.outbox import DeliveryFilter
from comfyserve.store.sqlite import Prepared
from comfyserve.store.webhooks import Owner
from comfyserve.testing.store_data import a_new_asset, a_new_job, a_replica

_Statements = dict[str, Any]


@contextmanager
def _recorded() -> Iterator[_Statements]:
    """The statements that are executed inside the block, with parameters to explain them by."""
    statements: _Statements = {}

    def record(*execution: Any) -> None:
        _, _, statement, parameters, _, is_many = execution
        statements[statement] = parameters[0] if is_many else parameters

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", record)


def _prepared() -> list[ClauseElement]:
    """The statements that go to the driver without an event."""
    return [v.statement for v in vars(job_entry).values() if isinstance(v, Prepared)]


async def _plans(store: Store, statements: _Statements) -> dict[str, list[str]]:
    return await store.database.read(
        lambda connection: {
            statement: [
                row.detail
                for row in connection.exec_driver_sql(
                    f"EXPLAIN QUERY PLAN {statement}", tuple(parameters)
                )
            ]
            for statement, parameters in statements.items()
            if statement.startswith(("SELECT", "UPDATE", "DELETE"))
        }
    )


def _slow(plans: dict[str, list[str]]) -> dict[str, list[str]]:
    words = ("SCAN ", "TEMP B-TREE", "AUTOMATIC")
    return {
        statement: steps
        for statement, steps in plans.items()
        if any(word in step.replace("SCAN CONSTANT", "") for step in steps for word in words)
    }


async def _life_of_a_job(store: Store) -> None:
    hears_all = NewWebhook("https://a.example/", frozenset(WebhookEvent))
    await store.webhooks.create(hears_all, Owner("dp_1", "dp_1"), 9.0)
    new = a_new_job(idempotency_key="k", request_digest="d", labels={"a": "b"}, webhook=hears_all)
    await store.jobs.enqueue(new, 10.0)
    await store.jobs.enqueue(new, 10.0)
    for end in (JobEventKind.LOST, JobEventKind.SUCCEEDED):
        job = await store.jobs.claim(
            "dp_1",
            revision_id="rv_dp_1_1",
            replica_id="rp_1",
            owner="rt_1",
            lease_until=99.0,
            now=20.0,
        )
        assert job is not None
        await store.assets.add(a_new_asset(job_id=job.id), 21.0)
        await store.jobs.renew("rt_1", 120.0, 25.0)
        await store.jobs.finish(
            job.id, owner="rt_1", attempt=job.attempts, event=end, now=30.0, history=b"{}"
        )
    for parcel in await store.outbox.due("https://a.example", 50.0, 1):
        await store.outbox.save(settle(parcel.delivery, Reply(410), 40.0, 0.5), is_farewell=True)
        await store.outbox.replay(parcel.delivery.id, 41.0)
    await store.outbox.prune(50.0)
    await store.jobs.enqueue(a_new_job(), 10.0)
    await store.jobs.cancel((await store.jobs.enqueue(a_new_job(), 10.0)).job.id, 31.0)
    await store.jobs.expire_queued("dp_1", 1.0, JobError("x", "y"), 32.0)
    await store.jobs.delete_queued("dp_1", ["x"], 33.0)


async def test_statements_are_sql_that_postgres_has_too(store: Store) -> None:
    statements: list[ClauseElement] = []

    def record(*execution: Any) -> None:
        if isinstance(execution[1], ClauseElement):
            statements.append(execution[1])

    event.listen(Engine, "before_execute", record)
    try:
        await _life_of_a_job(store)
        await store.assets.delete_expired(50.0)
        await store.replicas.save(a_replica())
    finally:
        event.remove(Engine, "before_execute", record)
    assert len(_prepared()) == 4
    statements += _prepared()
    dialect = make_url("postgresql://").get_dialect()()
    compiled = [str(statement.compile(dialect=dialect)) for statement in statements]
    assert len(compiled) > 50
    assert any("SKIP LOCKED" in statement for statement in compiled)


async def test_writes_use_indexes(store: Store) -> None:
    with _recorded() as statements:
        await _life_of_a_job(store)
        for name in ("a.png", "a.png", "p_00001_.png", "p_00001_.png"):
            await store.assets.add(a_new_asset(name), 10.0)
        upload = a_new_asset("a.png", type="input")
        await store.assets.add_upload(upload, 10.0)
        await store.usage.switch("rp_1", SegmentKind.DRAINING, None, 40.0)
        await store.usage.close("rp_1", 41.0)
        await store.jobs.delete_history("dp_1", ["a"])
        await store.jobs.delete_history("dp_1", None)
    for statement in _prepared():
        compiled = cast(SQLCompiler, statement.compile(dialect=sqlite.dialect()))
        statements[str(compiled)] = [0 for _ in compiled.positiontup or ()]
    plans = await _plans(store, statements)
    assert len(plans) > 20
    assert _slow(plans) == {}


@pytest.mark.parametrize("is_ascending", [True, False])
async def test_reads_use_indexes(store: Store, is_ascending: bool) -> None:
    await _life_of_a_job(store)
    ended = frozenset({JobState.SUCCEEDED, JobState.FAILED})
    with _recorded() as statements:
        page = await store.jobs.list(JobFilter("dp_1"), 1)
        await store.jobs.list(JobFilter("dp_1"), 1, page.next_cursor)
        await store.jobs.list(JobFilter(labels={"a": "b"}), 1)
        await store.jobs.view(JobViewQuery("dp_1", ended, is_ascending=is_ascending, limit=5))
        job_id = page.jobs[0].id
        await store.jobs.get(job_id)
        await store.jobs.by_prompt_id("dp_1", job_id)
        await store.jobs.documents(job_id)
        await store.jobs.receipt(job_id)
        await store.jobs.counts("dp_1")
        await store.jobs.history("dp_1", 3)
        await store.jobs.history("dp_1", 3, 1)
        await store.jobs.history_entry("dp_1", job_id)
        await store.deployments.by_name("dp_1")
        await store.assets.find("dp_1", "a", "", "output")
        await store.assets.of_job(job_id)
        await store.assets.get("x")
        await store.assets.find_digest("dp_1", "x")
        await store.jobs.position(job_id)
        await store.assets.referenced("x")
        await store.usage.by_job(job_id)
        await store.tokens.verify("x")
        await store.outbox.waiting()
        await store.outbox.due("https://a.example", 50.0, 5)
        await store.outbox.wants(page.jobs[0], WebhookEvent.PROGRESS)
        await store.outbox.list(DeliveryFilter(webhook_id="x"), 5)
        told = await store.outbox.list(DeliveryFilter(job_id=job_id), 1)
        await store.outbox.list(DeliveryFilter(job_id="x"), 5, told.deliveries[0].id)
    plans = await _plans(store, statements)
    assert len(plans) > 15
    assert _slow(plans) == {}
