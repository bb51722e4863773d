"""What watchers of a launcher see, and how the fake launcher misbehaves."""

import asyncio

from comfyserve.runtime.launchers.base import (
    Endpoint,
    GoneReason,
    LaunchSpec,
    LaunchState,
    LaunchStatus,
)
from comfyserve.runtime.launchers.feed import StatusFeed
from comfyserve.testing.launcher_contract import opened, reach
from comfyserve.testing.launchers import (
    DIES_LATER,
    OUT_OF_MEMORY,
    SLOW,
    Behaviour,
    FakeLauncher,
)

S = LaunchState
SPEC = LaunchSpec("rv", ("serve",))


def status(replica_id: str, state: LaunchState) -> LaunchStatus:
    return LaunchStatus(replica_id, "rv", state)


async def test_a_slow_watcher_misses_states_but_never_the_latest() -> None:
    feed = StatusFeed()
    watch = feed.watch([status("rp_a", S.PENDING)])
    for state in (S.STARTING, S.RUNNING, S.GONE):
        feed.publish(status("rp_a", state))
    feed.publish(status("rp_b", S.PENDING))
    feed.end()
    assert [(seen.id, seen.state) async for seen in watch] == [
        ("rp_a", S.GONE),
        ("rp_b", S.PENDING),
    ]


async def test_a_watcher_that_left_is_forgotten() -> None:
    feed = StatusFeed()
    feed.watch([])
    kept = feed.watch([])
    feed.publish(status("rp_a", S.RUNNING))
    assert len(feed._watches) == 1
    assert (await anext(kept)).state is S.RUNNING


async def test_the_fake_misbehaves_as_told() -> None:
    expected = {
        SLOW: (S.RUNNING, None, b""),
        DIES_LATER: (S.GONE, GoneReason.EXITED, b"up\nfalling\n"),
        OUT_OF_MEMORY: (S.GONE, GoneReason.OOM, b"out of memory\n"),
    }
    for behaviour, (state, reason, log) in expected.items():
        async with opened(FakeLauncher(behaviour)) as launcher:
            await launcher.start("rp_a", SPEC)
            assert (await launcher.start("rp_a", SPEC)).state is not S.RUNNING
            running = await reach(launcher, "rp_a", S.RUNNING)
            reached = running if state is S.RUNNING else await reach(launcher, "rp_a", state)
            assert (reached.state, reached.reason) == (state, reason)
            assert await launcher.logs("rp_a", tail_bytes=100) == log
            assert launcher.started == 1


async def test_the_fake_can_have_real_servers() -> None:
    class Servers:
        def __init__(self) -> None:
            self.running: dict[str, asyncio.Server] = {}

        async def up(self, replica_id: str, spec: LaunchSpec) -> Endpoint:
            server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0)
            self.running[replica_id] = server
            return Endpoint("127.0.0.1", server.sockets[0].getsockname()[1])

        async def down(self, replica_id: str) -> None:
            self.running.pop(replica_id).close()

    servers = Servers()
    async with opened(FakeLauncher(Behaviour(), servers=servers)) as launcher:
        await launcher.start("rp_a", SPEC)
        running = await reach(launcher, "rp_a", S.RUNNING)
        assert running.endpoint is not None
        reader, writer = await asyncio.open_connection(running.endpoint.host, running.endpoint.port)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await launcher.crash("rp_a")
        assert (await reach(launcher, "rp_a", S.GONE)).term_signal == 9
        assert not servers.running
