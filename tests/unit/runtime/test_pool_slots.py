"""Several requests at once on one replica: the least loaded first, in the order of asking."""

import asyncio
from dataclasses import dataclass, field

import pytest

from comfyserve.domain.errors import NotReady
from comfyserve.runtime.pool import Pool


@dataclass(eq=False)
class Replica:
    id: str
    released: list[str] = field(default_factory=list)

    def slot_released(self) -> None:
        self.released.append(self.id)


async def test_a_replica_takes_as_many_as_it_has_slots() -> None:
    pool: Pool[Replica] = Pool(2)
    one, two = Replica("rp_1"), Replica("rp_2")
    pool.offer(one)
    pool.offer(two)
    slots = [await pool.slot() for _ in range(4)]
    assert [pool.count(one), pool.count(two), pool.in_use] == [2, 2, 4]
    assert {slots[0].replica, slots[1].replica} == {one, two}
    assert pool.try_slot() is None
    waiting = asyncio.get_running_loop().create_task(pool.slot())
    await asyncio.sleep(0)
    slots[0].release()
    slots[0].release()
    assert (await waiting).replica is slots[0].replica
    assert not one.released
    assert not two.released
    assert pool.free == ()


async def test_only_the_last_slot_frees_a_replica() -> None:
    pool: Pool[Replica] = Pool(3)
    one = Replica("rp_1")
    pool.offer(one)
    slots = [await pool.slot() for _ in range(3)]
    for slot in slots[:2]:
        slot.release()
    assert (pool.free, one.released) == ((), [])
    slots[2].release()
    assert (pool.free, one.released) == ((one,), ["rp_1"])


async def test_those_who_wait_in_vain_are_told() -> None:
    pool: Pool[Replica] = Pool()
    waiting = [asyncio.get_running_loop().create_task(pool.slot()) for _ in range(2)]
    await asyncio.sleep(0)
    pool.refuse(NotReady("stopped"))
    for waiter in waiting:
        with pytest.raises(NotReady):
            await waiter
    one = Replica("rp_1")
    pool.offer(one)
    assert pool.free == (one,)


async def test_a_withdrawn_replica_gets_no_more_while_its_slots_are_held() -> None:
    pool: Pool[Replica] = Pool(2)
    one = Replica("rp_1")
    pool.offer(one)
    slot = await pool.slot()
    pool.withdraw(one)
    assert pool.try_slot() is None
    slot.release()
    assert (pool.try_slot(), pool.free, pool.held) == (None, (), ())
