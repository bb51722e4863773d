"""References over blobs, single-use keys, and old jobs that go as a whole."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from comfyserve.domain.errors import Conflict, NotFound
from comfyserve.domain.job import JobEventKind
from comfyserve.store import Store, open_store
from comfyserve.store.keys import UsedKey
from comfyserve.store.references import NewReference
from comfyserve.testing.store_data import (
    a_deployment,
    a_new_asset,
    a_new_job,
    a_revision,
    furnish,
)

KEY = UsedKey("dp_1", "someone", "k")
NEW = NewReference("dp_1", "d" * 64, "cat.png", 100.0, size_bytes=3, content_type="image/png")


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    async with open_store(tmp_path) as store:
        await furnish(store)
        yield store


async def test_the_same_bytes_and_path_are_one_reference(store: Store) -> None:
    first = await store.references.refer(NEW, 1.0)
    again = await store.references.refer(NEW, 2.0)
    other = await store.references.refer(replace(NEW, file_path="dog.png"), 3.0)
    bare = await store.references.refer(replace(NEW, file_path=None, size_bytes=None), 4.0)
    bare_again = await store.references.refer(replace(NEW, file_path=None), 5.0)
    assert (first.is_new, first.is_new_blob) == (True, True)
    assert (again.is_new, again.is_new_blob, again.asset) == (False, False, first.asset)
    assert (other.is_new, other.is_new_blob) == (True, False)
    assert (bare.asset.size_bytes, bare.asset.content_type) == (3, "image/png")
    assert bare_again.asset == bare.asset


async def test_a_life_is_only_ever_extended(store: Store) -> None:
    for expires_at, kept in (
        (100.0, 100.0),
        (50.0, 100.0),
        (200.0, 200.0),
        (None, None),
        (9e9, None),
    ):
        made = await store.references.refer(replace(NEW, expires_at=expires_at), 1.0)
        assert made.asset.expires_at == kept
        read = await store.assets.get(made.asset.id)
        assert read is not None
        assert read.expires_at == kept


async def test_what_has_expired_is_not_there(store: Store) -> None:
    first = await store.references.refer(NEW, 1.0)
    assert await store.references.has_bytes("dp_1", NEW.digest, 99.0)
    assert not await store.references.has_bytes("dp_1", NEW.digest, 100.0)
    assert not await store.references.has_bytes("dp_2", NEW.digest, 1.0)
    assert await store.references.by_file_paths("dp_1", ["cat.png"], 100.0) == {}
    with pytest.raises(NotFound) as refused:
        await store.references.refer(replace(NEW, size_bytes=None), 100.0)
    assert refused.value.code == "blob_not_found"
    again = await store.references.refer(NEW, 100.0)
    assert again.is_new
    assert again.asset.id != first.asset.id


async def test_the_newest_reference_under_a_path_counts(store: Store) -> None:
    await store.references.refer(NEW, 1.0)
    newest = await store.references.refer(replace(NEW, digest="e" * 64), 2.0)
    found = await store.references.by_file_paths("dp_1", ["cat.png", "none.png"], 3.0)
    assert found == {"cat.png": newest.asset}


async def test_bytes_stay_while_anything_refers_to_them(store: Store) -> None:
    first = await store.references.refer(replace(NEW, expires_at=None), 1.0)
    second = await store.references.refer(replace(NEW, file_path="b"), 1.0)
    assert await store.assets.delete(first.asset.id)
    assert not await store.assets.delete(first.asset.id)
    assert await store.assets.delete_expired(50.0) == []
    assert await store.assets.referenced(NEW.digest)
    assert await store.assets.delete_expired(100.0) == [NEW.digest]
    assert await store.assets.get(second.asset.id) is None


async def test_a_single_use_key_is_used_once_by_jobs_and_references_alike(store: Store) -> None:
    assert not await store.jobs.is_key_used(KEY, 1.0)
    new = a_new_job(principal="someone", idempotency_key="k", is_key_single_use=True)
    await store.jobs.enqueue(new, 1.0)
    assert await store.jobs.is_key_used(KEY, 2.0)
    assert not await store.jobs.is_key_used(replace(KEY, principal="other"), 2.0)
    with pytest.raises(Conflict) as refused:
        await store.jobs.enqueue(replace(new, id=a_new_job().id), 2.0)
    assert refused.value.code == "idempotency_key_reuse"
    with pytest.raises(Conflict):
        await store.references.refer(replace(NEW, key=KEY), 2.0)
    assert not await store.references.has_bytes("dp_1", NEW.digest, 2.0)
    day = 24 * 3600.0
    assert not await store.jobs.is_key_used(KEY, day + 1.0)
    await store.references.refer(replace(NEW, key=KEY, expires_at=None), day + 1.0)
    assert (await store.jobs.counts("dp_1")).queued == 1


async def test_old_jobs_go_with_all_that_is_theirs(store: Store) -> None:
    await store.deployments.create(a_deployment("dp_2", revision=a_revision("dp_2")))
    old = a_new_job(labels={"a": "b"}, idempotency_key="k", principal="p")
    young, waiting = a_new_job(), a_new_job()
    for new in (old, young, waiting):
        await store.jobs.enqueue(new, 1.0)
    for now in (10.0, 20.0):
        job = await store.jobs.claim(
            "dp_1",
            revision_id="rv_dp_1_1",
            replica_id="rp_1",
            owner="rt",
            lease_until=99.0,
            now=now,
        )
        assert job is not None
        await store.assets.add(
            a_new_asset(f"{now}.png", job_id=job.id, digest=f"{now:064.0f}"), now
        )
        await store.jobs.finish(
            job.id, owner="rt", attempt=1, event=JobEventKind.SUCCEEDED, now=now, history=b"{}"
        )
    assert await store.jobs.prune(9.0) == 0
    assert await store.jobs.prune(10.0) == 1
    assert await store.jobs.get(old.id) is None
    assert await store.assets.of_job(old.id) == []
    assert await store.jobs.history_entry("dp_1", old.prompt_id) is None
    assert not await store.jobs.is_key_used(replace(KEY, principal="p"), 11.0)
    assert await store.jobs.get(young.id) is not None
    assert len(await store.assets.of_job(young.id)) == 1
    assert await store.jobs.get(waiting.id) is not None
    assert len(await store.usage.segments(deployment_id="dp_1")) >= 3
    await store.collect(30.0, jobs_ended_before=20.0)
    assert await store.jobs.get(young.id) is None
    assert (await store.jobs.counts("dp_1")).queued == 1
