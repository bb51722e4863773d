"""The conformance suite of launchers: every back-end, and the fake, keeps the same promises.

Subclass `LauncherContract` in a test module and give it fixtures `bench` (a `LauncherBench`) and
`launcher` (an open launcher of that bench).
"""
# ruff: noqa: S101 - a test suite that ships with the package

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Protocol, TypeVar

from comfyserve.domain.errors import Conflict, InvalidInput
from comfyserve.runtime.launchers.base import (
    GoneReason,
    Launcher,
    LaunchSpec,
    LaunchState,
    LaunchStatus,
    PendingReason,
)

DEADLINE_S = 15.0
GRACE_S = 5.0
_ORDER = tuple(LaunchState)

AnyLauncher = TypeVar("AnyLauncher", bound=Launcher)


class LauncherBench(Protocol):
    """A back-end for tests, with exactly one GPU, of type L4, and servers of every kind."""

    def launcher(self) -> Launcher:
        """Return another launcher on the same host, not yet open."""
        ...

    def serving(self) -> LaunchSpec:
        """A server that listens, and ends at SIGTERM."""
        ...

    def stubborn(self) -> LaunchSpec:
        """One that listens and ignores SIGTERM."""
        ...

    def silent(self) -> LaunchSpec:
        """One that runs but never listens."""
        ...

    def failing(self) -> LaunchSpec:
        """One that writes "first\\nlast\\n" and exits with code 3."""
        ...

    async def crash(self, launcher: Launcher, status: LaunchStatus) -> None:
        """Have the server of a running replica end by SIGKILL, not through its launcher."""
        ...


async def reach(launcher: Launcher, replica_id: str, *states: LaunchState) -> LaunchStatus:
    """Wait until a replica is in one of `states`. Raises TimeoutError naming where it is stuck."""
    try:
        async with asyncio.timeout(DEADLINE_S):
            async for status in launcher.watch():
                if status.id == replica_id and status.state in states:
                    return status
    except TimeoutError:
        tail = await launcher.logs(replica_id, tail_bytes=2000)
        raise TimeoutError(f"{await launcher.get(replica_id)} {tail!r}") from None
    raise AssertionError("the watch ended")


@asynccontextmanager
async def opened(launcher: AnyLauncher) -> AsyncIterator[AnyLauncher]:
    """Open a launcher; at the end stop all that it holds, and close it."""
    await launcher.open()
    try:
        yield launcher
    finally:
        for status in await launcher.list():
            await launcher.stop(status.id, grace_s=0)
        await launcher.close()


class LauncherContract:
    """What the table in `comfyserve.runtime.launchers.base` says."""

    async def test_a_start_answers_at_once_and_the_server_listens_later(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        spec = bench.serving()
        status = await launcher.start("rp_a", spec)
        assert (status.id, status.state) == ("rp_a", LaunchState.PENDING)
        assert (status.reason, status.endpoint) == (PendingReason.QUEUED, None)
        running = await reach(launcher, "rp_a", LaunchState.RUNNING)
        assert running.endpoint is not None
        assert running.endpoint.port > 0
        assert (running.pool, running.spec_digest) == (spec.pool, spec.spec_digest)
        assert running.host
        assert running.reason is None
        assert running.started_at is not None
        assert running.ended_at is None
        assert await launcher.get("rp_a") == running

    async def test_a_second_start_is_the_same_replica(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        spec = bench.serving()
        both = await asyncio.gather(launcher.start("rp_a", spec), launcher.start("rp_a", spec))
        assert both[0] == both[1]
        running = await reach(launcher, "rp_a", LaunchState.RUNNING)
        assert await launcher.start("rp_a", spec) == running
        assert await launcher.list() == [running]

    async def test_an_id_stands_for_one_spec(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_a", bench.serving())
        with _raises(Conflict):
            await launcher.start("rp_a", bench.silent())
        assert len(await launcher.list()) == 1

    async def test_an_id_that_could_be_a_path_is_refused(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        for bad in ("../escape", "", "a/b", "a.b"):
            with _raises(InvalidInput):
                await launcher.start(bad, bench.serving())
        assert not await launcher.list()

    async def test_an_unknown_id_is_nothing(self, launcher: Launcher) -> None:
        assert await launcher.get("rp_no") is None
        assert await launcher.logs("rp_no", tail_bytes=10) == b""
        assert (await launcher.read_log("rp_no", offset=3, limit_bytes=10)).end == 3
        await launcher.renew(["rp_no"], ttl_s=1)
        await launcher.forget("rp_no")
        stopped = await launcher.stop("rp_no", grace_s=1)
        assert (stopped.state, stopped.reason) == (LaunchState.GONE, GoneReason.STOPPED)
        assert not await launcher.list()

    async def test_a_stopped_replica_is_gone_for_good(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        spec = bench.serving()
        await launcher.start("rp_a", spec)
        await reach(launcher, "rp_a", LaunchState.RUNNING)
        gone = await launcher.stop("rp_a", grace_s=GRACE_S)
        assert (gone.state, gone.reason) == (LaunchState.GONE, GoneReason.STOPPED)
        assert gone.endpoint is None
        assert gone.ended_at is not None
        assert await launcher.get("rp_a") == gone
        assert await launcher.start("rp_a", spec) == gone
        assert await launcher.stop("rp_a", grace_s=GRACE_S) == gone

    async def test_stops_at_the_same_time_are_one_stop(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_a", bench.serving())
        await reach(launcher, "rp_a", LaunchState.RUNNING)
        stops = (launcher.stop("rp_a", grace_s=GRACE_S) for _ in range(3))
        first, *others = await asyncio.gather(*stops)
        assert first.reason is GoneReason.STOPPED
        assert all(other == first for other in others)

    async def test_a_stop_before_it_runs_is_final(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        for index, replica_id in enumerate(("rp_a", "rp_b", "rp_c")):
            await launcher.start(replica_id, bench.serving())
            for _ in range(index):
                await asyncio.sleep(0)
            gone = await launcher.stop(replica_id, grace_s=GRACE_S)
            assert (gone.state, gone.reason) == (LaunchState.GONE, GoneReason.STOPPED)
            assert gone.term_signal in {None, 15}  # SIGTERM was enough, however early it came
        await launcher.start("rp_d", bench.serving())
        await reach(launcher, "rp_d", LaunchState.STARTING, LaunchState.RUNNING)
        gone = await launcher.stop("rp_d", grace_s=GRACE_S)
        assert (gone.reason, gone.term_signal) == (GoneReason.STOPPED, 15)

    async def test_what_ignores_sigterm_is_killed_after_the_grace(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_a", bench.stubborn())
        await reach(launcher, "rp_a", LaunchState.RUNNING)
        loop = asyncio.get_running_loop()
        began = loop.time()
        gone = await launcher.stop("rp_a", grace_s=0.3)
        assert 0.3 <= loop.time() - began < GRACE_S
        assert (gone.reason, gone.term_signal) == (GoneReason.STOPPED, 9)

    async def test_a_crash_is_seen_with_its_signal(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_a", bench.serving())
        running = await reach(launcher, "rp_a", LaunchState.RUNNING)
        await bench.crash(launcher, running)
        gone = await reach(launcher, "rp_a", LaunchState.GONE)
        assert (gone.reason, gone.term_signal, gone.exit_code) == (GoneReason.EXITED, 9, None)
        assert await launcher.stop("rp_a", grace_s=GRACE_S) == gone

    async def test_what_dies_at_once_leaves_code_and_log(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_a", bench.failing())
        gone = await reach(launcher, "rp_a", LaunchState.GONE)
        assert (gone.reason, gone.exit_code, gone.term_signal) == (GoneReason.EXITED, 3, None)
        assert await launcher.logs("rp_a", tail_bytes=1000) == b"first\nlast\n"
        assert await launcher.logs("rp_a", tail_bytes=5) == b"last\n"
        chunk = await launcher.read_log("rp_a", offset=0, limit_bytes=6)
        assert chunk.data == b"first\n"
        rest = await launcher.read_log("rp_a", offset=chunk.end, limit_bytes=100)
        assert (rest.offset, rest.data) == (6, b"last\n")
        assert (await launcher.read_log("rp_a", offset=rest.end, limit_bytes=100)).data == b""

    async def test_what_never_listens_stays_starting(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_quiet", bench.silent())
        await launcher.start("rp_loud", bench.serving())
        await reach(launcher, "rp_quiet", LaunchState.STARTING)
        await reach(launcher, "rp_loud", LaunchState.RUNNING)
        quiet = await launcher.get("rp_quiet")
        assert quiet is not None
        assert quiet.state is LaunchState.STARTING
        gone = await launcher.stop("rp_quiet", grace_s=GRACE_S)
        assert gone.reason is GoneReason.STOPPED

    async def test_a_watch_shows_all_then_changes_never_backwards_until_close(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_a", bench.serving())
        await reach(launcher, "rp_a", LaunchState.RUNNING)
        seen: dict[str, list[LaunchState]] = {}

        async def watch() -> None:
            async for status in launcher.watch():
                seen.setdefault(status.id, []).append(status.state)

        async with asyncio.TaskGroup() as group:
            group.create_task(watch())
            await launcher.start("rp_b", bench.serving())
            await reach(launcher, "rp_b", LaunchState.RUNNING)
            await launcher.stop("rp_b", grace_s=GRACE_S)
            await launcher.stop("rp_a", grace_s=GRACE_S)
            await launcher.close()  # ends the watch, and so the group
        assert seen["rp_a"][0] is LaunchState.RUNNING
        for states in seen.values():
            assert states == sorted(states, key=_ORDER.index)
            assert states[-1] is LaunchState.GONE

    async def test_another_launcher_adopts_what_lives(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_lives", bench.serving())
        await launcher.start("rp_ended", bench.failing())
        running = await reach(launcher, "rp_lives", LaunchState.RUNNING)
        ended = await reach(launcher, "rp_ended", LaunchState.GONE)
        await launcher.close()
        async with opened(bench.launcher()) as heir:
            found = {status.id: status for status in await heir.list()}
            assert found == {"rp_lives": running, "rp_ended": ended}
            assert await heir.logs("rp_ended", tail_bytes=5) == b"last\n"
            assert await heir.start("rp_lives", bench.serving()) == running
            gone = await heir.stop("rp_lives", grace_s=GRACE_S)
            assert (gone.state, gone.reason) == (LaunchState.GONE, GoneReason.STOPPED)

    async def test_a_lease_that_lapses_ends_the_replica(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_a", replace(bench.serving(), lease_s=0.5))
        gone = await reach(launcher, "rp_a", LaunchState.GONE)
        assert gone.reason is GoneReason.LEASE_EXPIRED

    async def test_a_renewed_lease_lasts_and_can_be_shortened(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_kept", replace(bench.serving(), lease_s=5.0))
        await launcher.start("rp_left", replace(bench.serving(), lease_s=None))
        await reach(launcher, "rp_kept", LaunchState.RUNNING)
        await reach(launcher, "rp_left", LaunchState.RUNNING)
        await launcher.renew(["rp_kept"], ttl_s=None)
        await launcher.renew(["rp_left", "rp_unknown"], ttl_s=0.1)
        gone = await reach(launcher, "rp_left", LaunchState.GONE)
        assert gone.reason is GoneReason.LEASE_EXPIRED
        kept = await launcher.get("rp_kept")
        assert kept is not None
        assert kept.state is LaunchState.RUNNING

    async def test_a_lease_lapses_also_when_nobody_is_there(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_a", bench.serving())
        await reach(launcher, "rp_a", LaunchState.RUNNING)
        await launcher.renew(["rp_a"], ttl_s=0.05)
        await launcher.close()
        async with opened(bench.launcher()) as heir:
            gone = await reach(heir, "rp_a", LaunchState.GONE)
            assert gone.reason is GoneReason.LEASE_EXPIRED

    async def test_a_gone_replica_is_kept_until_it_is_forgotten(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        await launcher.start("rp_a", bench.failing())
        await reach(launcher, "rp_a", LaunchState.GONE)
        await launcher.start("rp_b", bench.serving())
        with _raises(Conflict):
            await launcher.forget("rp_b")
        assert {status.id for status in await launcher.list()} == {"rp_a", "rp_b"}
        await launcher.forget("rp_a")
        await launcher.forget("rp_a")
        assert await launcher.get("rp_a") is None
        assert await launcher.logs("rp_a", tail_bytes=10) == b""
        again = await launcher.start("rp_a", bench.serving())
        assert again.state is LaunchState.PENDING

    async def test_gpus_are_held_by_one_replica_and_wait_for_none(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        (row,) = await launcher.capacity()
        assert (row.gpu_type, row.total, row.free) == ("L4", 1, 1)
        wants_one = replace(bench.serving(), gpus=1, gpu_type="l4")
        await launcher.start("rp_first", wants_one)
        holder = await reach(launcher, "rp_first", LaunchState.RUNNING)
        assert len(holder.gpus) == 1
        assert [row.free for row in await launcher.capacity()] == [0]
        second = await launcher.start("rp_second", wants_one)
        assert (second.state, second.reason) == (LaunchState.PENDING, PendingReason.NO_CAPACITY)
        third = await launcher.start("rp_third", wants_one)
        assert third.reason is PendingReason.NO_CAPACITY
        gone = await launcher.stop("rp_third", grace_s=GRACE_S)
        assert (gone.state, gone.reason) == (LaunchState.GONE, GoneReason.STOPPED)
        await launcher.stop("rp_first", grace_s=GRACE_S)
        heir = await reach(launcher, "rp_second", LaunchState.RUNNING)
        assert heir.gpus == holder.gpus

    async def test_what_no_host_has_is_infeasible_and_says_what_there_is(
        self, bench: LauncherBench, launcher: Launcher
    ) -> None:
        for replica_id, gpus, gpu_type in (("rp_a", 1, "H100"), ("rp_b", 2, "any")):
            spec = replace(bench.serving(), gpus=gpus, gpu_type=gpu_type)
            status = await launcher.start(replica_id, spec)
            assert (status.state, status.reason) == (
                LaunchState.PENDING,
                PendingReason.INFEASIBLE,
            )
            assert "1 x L4" in status.message

    async def test_twenty_start_at_once(self, bench: LauncherBench, launcher: Launcher) -> None:
        ids = [f"rp_{number}" for number in range(20)]
        await asyncio.gather(*(launcher.start(each, bench.serving()) for each in ids))
        running = await asyncio.gather(
            *(reach(launcher, each, LaunchState.RUNNING) for each in ids)
        )
        assert len({status.id for status in running}) == 20
        await asyncio.gather(*(launcher.stop(each, grace_s=GRACE_S) for each in ids))
        assert all(status.is_gone for status in await launcher.list())


@contextmanager
def _raises(kind: type[Exception]) -> Iterator[None]:
    try:
        yield
    except kind:
        return
    raise AssertionError(f"{kind.__name__} was not raised")
