"""The pool: one job on each replica at a time, whoever comes and goes."""

import asyncio
from dataclasses import dataclass, field

import pytest

from comfyserve.runtime.pool import Pool, Slot


@dataclass(eq=False)
class Replica:
    id: str
    pool: "Pool[Replica]"
    is_ready: bool = True
    releases: list[str] = field(default_factory=list)

    def slot_released(self) -> None:
        self.releases.append(self.id)
        if self.is_ready:
            self.pool.offer(self)


@pytest.fixture
def pool() -> Pool[Replica]:
    return Pool()


async def test_a_slot_is_held_by_one(pool: Pool[Replica]) -> None:
    one = Replica("rp_1", pool)
    pool.offer(one)
    slot = await pool.slot()
    assert slot.replica is one
    assert (pool.free, pool.held) == ((), (one,))
    slot.release()
    slot.release()
    assert (pool.free, pool.held, one.releases) == ((one,), (), ["rp_1"])


async def test_who_waits_longest_is_first(pool: Pool[Replica]) -> None:
    order: list[int] = []

    async def work(number: int) -> None:
        slot = await pool.slot()
        order.append(number)
        await asyncio.sleep(0)
        slot.release()

    async with asyncio.TaskGroup() as group:
        for number in range(4):
            group.create_task(work(number))
            await asyncio.sleep(0)
        pool.offer(Replica("rp_1", pool))
    assert order == [0, 1, 2, 3]
    assert len(pool.free) == 1


async def test_the_replica_that_worked_last_goes_first(pool: Pool[Replica]) -> None:
    one, two = Replica("rp_1", pool), Replica("rp_2", pool)
    pool.offer(one)
    pool.offer(two)
    first, second = await pool.slot(), await pool.slot()
    assert {first.replica, second.replica} == {one, two}
    second.release()
    first.release()
    assert (await pool.slot()).replica is first.replica


async def test_an_offer_counts_once(pool: Pool[Replica]) -> None:
    one = Replica("rp_1", pool)
    pool.offer(one)
    pool.offer(one)
    assert list(pool.free) == [one]
    slot = await pool.slot()
    pool.offer(one)
    assert not pool.free
    slot.release()
    assert list(pool.free) == [one]


async def test_what_was_withdrawn_is_given_to_nobody(pool: Pool[Replica]) -> None:
    one = Replica("rp_1", pool)
    pool.offer(one)
    pool.withdraw(one)
    pool.withdraw(one)
    async with asyncio.TaskGroup() as group:
        waiting = group.create_task(pool.slot())
        await asyncio.sleep(0)
        assert not waiting.done()
        waiting.cancel()
    assert pool.held == ()


async def test_a_slot_outlives_the_withdrawal_of_its_replica(pool: Pool[Replica]) -> None:
    one = Replica("rp_1", pool)
    pool.offer(one)
    slot = await pool.slot()
    one.is_ready = False
    pool.withdraw(one)
    assert list(pool.held) == [one]
    slot.release()
    assert not pool.free
    assert not pool.held


async def test_a_replica_that_is_at_work_already_can_be_held(pool: Pool[Replica]) -> None:
    one = Replica("rp_1", pool)
    slot: Slot[Replica] = pool.hold(one)
    assert (pool.free, pool.held) == ((), (one,))
    slot.release()
    assert pool.free == (one,)


async def test_a_waiter_that_gives_up_loses_no_slot(pool: Pool[Replica]) -> None:
    """Also one that is given the slot and cancelled in the same breath."""
    one = Replica("rp_1", pool)
    for is_given_first in (False, True):
        waiter = asyncio.get_running_loop().create_task(pool.slot())
        await asyncio.sleep(0)
        if is_given_first:
            pool.offer(one)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        if not is_given_first:
            pool.offer(one)
        assert (pool.free, pool.held) == ((one,), ())
        pool.withdraw(one)
