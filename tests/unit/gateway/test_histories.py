"""Histories at hand: what was deleted is gone, and memory stays bounded."""

from collections.abc import Sequence
from uuid import uuid4

from comfyserve.domain.job import JobEventKind
from comfyserve.gateway.histories import Histories
from comfyserve.store import Store
from comfyserve.testing.store_data import a_new_job


async def ended(store: Store, entry: bytes, prompt_id: str | None = None) -> str:
    """A job that ended with this entry; its prompt id."""
    new = a_new_job(prompt_id=prompt_id or str(uuid4()))
    await store.jobs.enqueue(new, 10.0)
    job = await store.jobs.claim(
        "dp_1", revision_id="rv_dp_1_1", replica_id="rp_1", owner="rt_1", lease_until=99, now=11.0
    )
    assert job is not None
    await store.jobs.finish(
        job.id, owner="rt_1", attempt=1, event=JobEventKind.SUCCEEDED, now=12.0, history=entry
    )
    return new.prompt_id


async def read_all(histories: Histories, prompt_ids: Sequence[str]) -> list[bytes | None]:
    return [await histories.get("dp_1", prompt_id) for prompt_id in prompt_ids]


async def test_an_entry_is_read_once(store: Store) -> None:
    prompt_id = await ended(store, b'{"a":1}')
    histories = Histories(store.jobs)
    assert await histories.get("dp_1", prompt_id) == b'{"a":1}'
    await store.jobs.delete_history("dp_1", [prompt_id])
    assert await histories.get("dp_1", prompt_id) == b'{"a":1}'
    histories.forget("dp_1", prompt_id)
    assert await histories.get("dp_1", prompt_id) is None


async def test_what_is_not_there_yet_is_looked_for_again(store: Store) -> None:
    histories, prompt_id = Histories(store.jobs), str(uuid4())
    assert await histories.get("dp_1", prompt_id) is None
    await ended(store, b"{}", prompt_id)
    assert await histories.get("dp_1", prompt_id) == b"{}"


async def test_forgetting_concerns_one_entry_or_one_deployment(store: Store) -> None:
    one, two = await ended(store, b'"1"'), await ended(store, b'"2"')
    histories = Histories(store.jobs)
    await read_all(histories, [one, two])
    await store.jobs.delete_history("dp_1", None)
    histories.forget("dp_2")
    assert await read_all(histories, [one, two]) == [b'"1"', b'"2"']
    histories.forget("dp_1", one)
    assert await read_all(histories, [one, two]) == [None, b'"2"']
    histories.forget("dp_1")
    assert await read_all(histories, [one, two]) == [None, None]


async def test_memory_is_bounded_and_the_least_used_goes_first(store: Store) -> None:
    prompt_ids = [await ended(store, bytes([48 + n]) * 100) for n in range(3)]
    histories = Histories(store.jobs, limit_bytes=250)
    await read_all(histories, prompt_ids[:2])
    await histories.get("dp_1", prompt_ids[0])
    await histories.get("dp_1", prompt_ids[2])
    await store.jobs.delete_history("dp_1", None)
    kept = [entry is not None for entry in await read_all(histories, prompt_ids)]
    assert kept == [True, False, True]
    assert histories._size == 200


async def test_a_huge_entry_is_not_kept(store: Store) -> None:
    prompt_id = await ended(store, b"x" * (256 * 1024 + 1))
    histories = Histories(store.jobs)
    assert await histories.get("dp_1", prompt_id) is not None
    assert histories._size == 0


async def test_an_entry_that_is_deleted_while_it_is_read_is_not_kept(store: Store) -> None:
    prompt_id = await ended(store, b"{}")

    class Slow:
        """A store whose reader is overtaken by a deletion."""

        async def history_entry(self, deployment_id: str, sought: str) -> bytes | None:
            entry = await store.jobs.history_entry(deployment_id, sought)
            await store.jobs.delete_history(deployment_id, [sought])
            histories.forget(deployment_id, sought)
            return entry

    histories = Histories(Slow())  # type: ignore[arg-type] # all that it uses of a JobStore
    assert await histories.get("dp_1", prompt_id) == b"{}"
    assert await histories.get("dp_1", prompt_id) is None
