"""Tasks: each has a name and an owner, and its death is noticed."""

import asyncio

import pytest
import structlog.testing

from comfyserve.runtime.tasks import TaskScope


async def forever() -> None:
    await asyncio.Event().wait()


async def raises() -> None:
    raise ValueError("a defect")


async def test_leaving_a_scope_ends_its_tasks() -> None:
    async with TaskScope("scope") as scope:
        task = scope.spawn(forever(), name="work")
        assert task.get_name() == "scope:work"
        await asyncio.sleep(0)
    assert task.cancelled()
    await scope.aclose()


async def test_a_task_that_dies_is_told_and_takes_nobody_along() -> None:
    with structlog.testing.capture_logs() as told:
        async with TaskScope("scope") as scope:
            other = scope.spawn(forever(), name="other")
            await asyncio.wait({scope.spawn(raises(), name="work")})
            await asyncio.sleep(0)
            assert not other.done()
    [line] = told
    assert (line["event_key"], line["task"]) == ("task_died", "scope:work")
    assert isinstance(line["exc_info"], ValueError)


async def test_a_result_is_the_tasks_own() -> None:
    async def answer() -> int:
        return 7

    async with TaskScope("scope") as scope:
        assert await scope.spawn(answer(), name="work") == 7


async def test_a_closed_scope_takes_no_work() -> None:
    scope = TaskScope("scope")
    await scope.aclose()
    with pytest.raises(RuntimeError, match="scope scope is closed; cannot start late"):
        scope.spawn(forever(), name="late")


async def test_a_task_may_close_its_own_scope() -> None:
    scope = TaskScope("scope")
    other = scope.spawn(forever(), name="other")

    async def close() -> str:
        await scope.aclose()
        return "closed"

    assert await scope.spawn(close(), name="closer") == "closed"
    assert other.cancelled()


async def test_tasks_that_are_started_while_it_closes_end_too() -> None:
    scope, late = TaskScope("scope"), []

    async def stubborn() -> None:
        try:
            await forever()
        finally:
            await asyncio.sleep(0)
            late.append("cleaned up")

    scope.spawn(stubborn(), name="stubborn")
    await asyncio.sleep(0)
    await scope.aclose()
    assert late == ["cleaned up"]


async def test_a_loop_that_dies_is_told_and_begun_anew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("comfyserve.runtime.tasks._PAUSE_AFTER_DEATH_S", 0.0)
    runs: list[int] = []
    done = asyncio.Event()

    async def loop() -> None:
        runs.append(len(runs))
        if len(runs) < 3:
            raise ValueError("a defect")
        done.set()
        await forever()

    with structlog.testing.capture_logs() as told:
        async with TaskScope("scope") as scope:
            scope.keep(loop, name="loop")
            async with asyncio.timeout(5):
                await done.wait()
    assert runs == [0, 1, 2]
    assert [line["event_key"] for line in told] == ["loop_died", "loop_died"]
    assert {line["task"] for line in told} == {"scope:loop"}


async def test_a_loop_that_ends_by_itself_is_over() -> None:
    runs: list[int] = []

    async def loop() -> None:
        runs.append(1)

    async with TaskScope("scope") as scope:
        scope.keep(loop, name="loop")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert runs == [1]
