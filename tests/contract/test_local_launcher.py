"""What only real processes show: the shim, its server and what both leave behind."""

import asyncio
import os
import signal
import socket
import subprocess
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest

from comfyserve.clock import SystemClock
from comfyserve.runtime.launchers.base import (
    Confine,
    Endpoint,
    GoneReason,
    LaunchSpec,
    LaunchState,
    LaunchStatus,
)
from comfyserve.runtime.launchers.local import LocalLauncher
from comfyserve.runtime.launchers.local_record import Records
from comfyserve.runtime.launchers.procs import find_marked, has_ended
from comfyserve.testing.launcher_contract import DEADLINE_S, GRACE_S, opened, reach
from comfyserve.testing.local_servers import DAEMON, L4, LISTEN, TELL, WAIT, environ, python

S = LaunchState
SERVING = python(LISTEN + WAIT)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "replicas"


@pytest.fixture
async def launcher(root: Path) -> AsyncIterator[LocalLauncher]:
    async with opened(new_launcher(root)) as launcher:
        yield launcher


def new_launcher(root: Path, **env: str) -> LocalLauncher:
    return LocalLauncher(root, environ=environ(**env), gpus=[L4])


async def run(launcher: LocalLauncher, spec: LaunchSpec) -> LaunchStatus:
    """Start a replica and wait until it runs or is gone."""
    await launcher.start("rp_a", spec)
    return await reach(launcher, "rp_a", S.RUNNING, S.GONE)


async def ask(endpoint: Endpoint | None) -> str:
    """Return what a server tells every client."""
    assert endpoint is not None
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection(endpoint.host, endpoint.port)
        told = await reader.read()
        writer.close()
        await writer.wait_closed()
        return told.decode()


async def kill(pid: int) -> None:
    """SIGKILL a process and wait for its end, whoever is its parent."""
    os.kill(pid, signal.SIGKILL)
    await ended(pid)


async def ended(pid: int) -> None:
    """Wait for the end of a process, whoever is its parent."""
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert await asyncio.to_thread(has_ended, pidfd, timeout_s=DEADLINE_S)
    finally:
        os.close(pidfd)


def sleeper(**env: str) -> subprocess.Popen[bytes]:
    """A child of ours that no launcher knows of, once its environment can be read.

    In the midst of its exec, a process shows none for a moment.
    """
    child = subprocess.Popen(["sleep", "60"], env=env)
    while env and not Path(f"/proc/{child.pid}/environ").read_bytes():
        assert child.poll() is None
    return child


def private_files() -> list[Path]:
    return [
        path
        for path in map(Path, ("/tmp/comfyserve-private", "/dev/shm/comfyserve-private"))
        if path.exists()
    ]


def boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in "ZX"


async def shim_pid(root: Path) -> int:
    files = Records(root, "", SystemClock()).files("rp_a")
    report = await asyncio.to_thread(files.read_report, "")
    assert report is not None
    assert report.shim is not None
    return report.shim.pid


class TestPorts:
    async def test_a_server_that_finds_its_port_taken_gets_another(
        self, launcher: LocalLauncher, tmp_path: Path
    ) -> None:
        # Without SO_REUSEADDR the port that the shim keeps for it looks taken.
        rude = LISTEN.replace("server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)", "")
        told = tmp_path / "ports"
        note = f"import sys\nopen({str(told)!r}, 'a').write(sys.argv[1] + '\\n')\n"
        running = await run(launcher, python(note + rude + WAIT))
        assert running.state is S.RUNNING
        assert running.endpoint is not None
        first, second = told.read_text().split()
        assert first != second
        assert running.endpoint.port == int(second)
        assert b"Address already in use" in await launcher.logs("rp_a", tail_bytes=4000)

    async def test_the_search_for_a_port_ends(self, launcher: LocalLauncher) -> None:
        gone = await run(launcher, python("raise SystemExit('[Errno 98] Address already in use')"))
        assert (gone.reason, gone.exit_code) == (GoneReason.EXITED, 1)
        log = await launcher.logs("rp_a", tail_bytes=10_000)
        assert log.count(b"Address already in use") == 5

    async def test_nobody_is_given_the_port_before_the_server_has_it(
        self, launcher: LocalLauncher, tmp_path: Path
    ) -> None:
        go = tmp_path / "go"
        wait = f"import os, time\nwhile not os.path.exists({str(go)!r}): time.sleep(0.005)\n"
        await launcher.start("rp_a", python(wait + LISTEN + WAIT))
        starting = await reach_port(launcher)
        assert starting.endpoint is not None
        with socket.socket() as other, pytest.raises(OSError, match="in use"):
            other.bind(("127.0.0.1", starting.endpoint.port))
        go.touch()
        running = await reach(launcher, "rp_a", S.RUNNING)
        assert running.endpoint == starting.endpoint

    async def test_a_stranger_on_the_port_is_not_taken_for_the_server(
        self, launcher: LocalLauncher
    ) -> None:
        await launcher.start("rp_a", python(WAIT))
        starting = await reach_port(launcher)
        assert starting.endpoint is not None
        with socket.socket() as stranger:
            stranger.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            stranger.bind((starting.endpoint.host, starting.endpoint.port))
            stranger.listen()
            # Another replica goes all the way while the stranger is there to be seen.
            await launcher.start("rp_b", SERVING)
            await reach(launcher, "rp_b", S.RUNNING)
            assert (await launcher.get("rp_a")) == starting


async def reach_port(launcher: LocalLauncher) -> LaunchStatus:
    """Wait until `rp_a` knows its port though nobody listens there."""
    async with asyncio.timeout(DEADLINE_S):
        async for status in launcher.watch():
            if status.id == "rp_a" and status.endpoint is not None:
                return status
    raise AssertionError("the watch ended")


class TestWhatIsLeftBehind:
    @pytest.mark.parametrize("confine", [Confine.OFF, Confine.ON])
    async def test_a_daemon_never_outlives_a_stopped_replica(
        self, launcher: LocalLauncher, root: Path, confine: Confine
    ) -> None:
        spec = python(DAEMON + LISTEN + WAIT, "{replica_dir}/temp/pid", confine=confine)
        await run(launcher, replace(spec, writable=("{replica_dir}/temp",)))
        marks = await asyncio.to_thread(Records(root, "", SystemClock()).marks, "rp_a")
        assert len(await asyncio.to_thread(find_marked, marks)) >= 3  # shim, server, daemon
        await launcher.stop("rp_a", grace_s=GRACE_S)
        assert await asyncio.to_thread(find_marked, marks) == []

    async def test_a_daemon_never_outlives_a_server_that_ends_by_itself(
        self, launcher: LocalLauncher, tmp_path: Path
    ) -> None:
        pid_file = tmp_path / "pid"
        gone = await run(launcher, python(DAEMON, str(pid_file)))
        assert (gone.reason, gone.exit_code) == (GoneReason.EXITED, 0)
        assert not is_alive(int(pid_file.read_text()))

    async def test_a_killed_shim_takes_everything_with_it(
        self, launcher: LocalLauncher, root: Path, tmp_path: Path
    ) -> None:
        pid_file = tmp_path / "pid"
        running = await run(launcher, python(DAEMON + LISTEN + WAIT, str(pid_file)))
        os.kill(await shim_pid(root), signal.SIGKILL)
        gone = await reach(launcher, "rp_a", S.GONE)
        assert (gone.reason, gone.message) == (GoneReason.EXITED, "its shim was killed")
        assert running.pid is not None
        assert not is_alive(running.pid)
        assert not is_alive(int(pid_file.read_text()))
        assert await launcher.start("rp_a", python(DAEMON + LISTEN + WAIT, str(pid_file))) == gone

    async def test_the_next_launcher_ends_what_a_killed_shim_left(
        self, launcher: LocalLauncher, root: Path, tmp_path: Path
    ) -> None:
        pid_file = tmp_path / "pid"
        running = await run(launcher, python(DAEMON + LISTEN + WAIT, str(pid_file)))
        shim = await shim_pid(root)
        await launcher.close()
        await kill(shim)
        assert running.pid is not None
        await ended(running.pid)  # by the kernel alone
        assert is_alive(int(pid_file.read_text()))
        async with opened(new_launcher(root)) as heir:
            (status,) = await heir.list()
            assert (status.state, status.reason) == (S.GONE, GoneReason.EXITED)
            assert not is_alive(int(pid_file.read_text()))

    async def test_processes_without_a_record_are_ended(
        self, launcher: LocalLauncher, root: Path, tmp_path: Path
    ) -> None:
        running = await run(launcher, SERVING)
        await launcher.close()
        (root / "rp_a").rename(tmp_path / "elsewhere")
        async with opened(new_launcher(root)) as heir:
            assert await heir.list() == []
            assert running.pid is not None
            assert not is_alive(running.pid)

    async def test_a_replica_whose_record_was_removed_ends_with_its_lease(
        self, launcher: LocalLauncher, root: Path, tmp_path: Path
    ) -> None:
        running = await run(launcher, replace(SERVING, lease_s=1.0))
        assert running.pid is not None
        (root / "rp_a").rename(tmp_path / "elsewhere")
        await ended(running.pid)

    async def test_a_stop_also_ends_what_has_no_record(
        self, launcher: LocalLauncher, root: Path, tmp_path: Path
    ) -> None:
        running = await run(launcher, SERVING)
        shim = await shim_pid(root)
        await launcher.close()
        async with opened(new_launcher(root)) as heir:
            await heir.stop("rp_a", grace_s=GRACE_S)
            await heir.forget("rp_a")
            assert not is_alive(shim)
            records = Records(root, "", SystemClock())
            orphan = sleeper(**await asyncio.to_thread(records.marks, "rp_lost"))
            gone = await heir.stop("rp_lost", grace_s=GRACE_S)
            assert (gone.state, gone.reason) == (S.GONE, GoneReason.STOPPED)
            assert not is_alive(orphan.pid)
            orphan.wait(timeout=DEADLINE_S)
        assert running.endpoint is not None

    async def test_other_homes_are_left_alone(
        self, launcher: LocalLauncher, tmp_path: Path
    ) -> None:
        running = await run(launcher, SERVING)
        async with opened(new_launcher(tmp_path / "other")) as other:
            await other.stop("rp_a", grace_s=GRACE_S)
            assert await other.list() == []
        assert await launcher.get("rp_a") == running
        assert running.pid is not None
        assert is_alive(running.pid)


class TestAdoption:
    async def test_a_replica_outlives_a_killed_gateway(self, root: Path, tmp_path: Path) -> None:
        gateway = f"""
import asyncio, os
from pathlib import Path
from comfyserve.runtime.launchers.local import LocalLauncher
from comfyserve.testing.launcher_contract import reach
from comfyserve.runtime.launchers.base import LaunchState
from comfyserve.testing.local_servers import *
async def main():
    launcher = LocalLauncher(Path({str(root)!r}), environ=os.environ)
    await launcher.open()
    await launcher.start("rp_a", python(LISTEN + WAIT))
    await reach(launcher, "rp_a", LaunchState.RUNNING)
    await launcher.start("rp_b", python(LISTEN + WAIT))
    print("up", flush=True)
    await asyncio.Event().wait()
asyncio.run(main())
"""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", gateway, stdout=asyncio.subprocess.PIPE
        )
        assert process.stdout is not None
        assert await process.stdout.readline() == b"up\n"
        process.kill()
        await process.wait()
        async with opened(new_launcher(root)) as heir:
            adopted = await heir.get("rp_a")
            assert adopted is not None
            assert adopted.state is S.RUNNING
            # The other one was only just being started when the gateway died.
            if await heir.get("rp_b") is not None:
                await reach(heir, "rp_b", S.RUNNING, S.GONE)

    async def test_a_recycled_pid_is_not_mistaken(
        self, launcher: LocalLauncher, root: Path
    ) -> None:
        await run(launcher, SERVING)
        shim = await shim_pid(root)
        await launcher.stop("rp_a", grace_s=GRACE_S)
        await launcher.close()
        with sleeper() as bystander:
            status_file = root / "rp_a" / "status.json"
            text = status_file.read_text().replace('"gone"', '"running"')
            text = text.replace(f'"shim_pid": {shim}', f'"shim_pid": {bystander.pid}')
            status_file.write_text(text.replace('"reason": "stopped"', '"reason": null'))
            async with opened(new_launcher(root)) as heir:
                (status,) = await heir.list()
                assert (status.state, status.reason) == (S.GONE, GoneReason.EXITED)
                await heir.renew(["rp_a"], ttl_s=0)
                await heir.stop("rp_a", grace_s=0)
                assert bystander.poll() is None
            bystander.kill()

    async def test_what_ran_before_a_reboot_was_lost_with_the_host(
        self, launcher: LocalLauncher, root: Path
    ) -> None:
        await run(launcher, SERVING)
        status_file = root / "rp_a" / "status.json"
        before_reboot = status_file.read_text()
        await launcher.stop("rp_a", grace_s=GRACE_S)
        await launcher.close()
        status_file.write_text(before_reboot.replace(boot_id(), "another-boot"))
        async with opened(new_launcher(root)) as heir:
            (status,) = await heir.list()
            assert (status.state, status.reason) == (S.GONE, GoneReason.HOST_LOST)

    async def test_a_record_that_cannot_be_read_is_a_gone_replica(
        self, launcher: LocalLauncher, root: Path
    ) -> None:
        await launcher.close()
        (root / "rp_empty").mkdir()
        (root / "rp_torn").mkdir()
        (root / "rp_torn" / "status.json").write_text('{"id": "rp_torn", "sta')
        async with opened(new_launcher(root)) as heir:
            assert [status.state for status in await heir.list()] == [S.GONE, S.GONE]
            await heir.forget("rp_torn")
        assert not (root / "rp_torn").exists()

    async def test_an_adopted_replica_keeps_its_gpu(
        self, launcher: LocalLauncher, root: Path
    ) -> None:
        holder = await run(launcher, replace(SERVING, gpus=1))
        await launcher.close()
        async with opened(new_launcher(root)) as heir:
            assert [row.free for row in await heir.capacity()] == [0]
            await heir.start("rp_b", replace(SERVING, gpus=1))
            await heir.stop("rp_a", grace_s=GRACE_S)
            assert (await reach(heir, "rp_b", S.RUNNING)).gpus == holder.gpus


class TestCleanRoom:
    async def test_no_secret_and_no_descriptor_reaches_the_server(self, root: Path) -> None:
        leak = os.open("/", os.O_RDONLY)
        os.set_inheritable(leak, True)
        answer = (
            "def answer():\n"
            "    fds = sorted(os.readlink(f'/proc/self/fd/{fd}') for fd in map(int, '012'))\n"
            "    files = sorted(int(fd) for fd in os.listdir('/proc/self/fd'))\n"
            "    return '\\n'.join([*sorted(os.environ), '', *map(str, files)])\n"
        )
        try:
            async with opened(new_launcher(root, AWS_SECRET_ACCESS_KEY="s3cret")) as launcher:
                spec = python(LISTEN + answer + TELL)
                running = await run(launcher, replace(spec, env={"MINE": "1"}))
                names, _, files = (await ask(running.endpoint)).partition("\n\n")
        finally:
            os.close(leak)
        harmless = {"PATH", "HOME", "LANG", "LC_ALL", "TZ", "USER", "LOGNAME", "SHELL", "LC_CTYPE"}
        harmless |= {"LANGUAGE", "LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH"}
        harmless |= {"SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"}
        given = {"MINE", "COMFYSERVE_REPLICA", "COMFYSERVE_OWNER", "CUDA_VISIBLE_DEVICES"}
        assert set(names.split()) - harmless == given
        # Standard streams, the listening socket, the client, and the listing itself.
        assert files.split() == ["0", "1", "2", "3", "4", "5"]

    @pytest.mark.parametrize(("gpus", "seen"), [(0, "''"), (1, f"'{L4.uuid}'")])
    async def test_a_server_sees_the_gpus_it_was_given(
        self, launcher: LocalLauncher, gpus: int, seen: str
    ) -> None:
        answer = "def answer(): return repr(os.environ.get('CUDA_VISIBLE_DEVICES'))\n"
        spec = replace(python(LISTEN + answer + TELL), gpus=gpus, env={"CUDA_VISIBLE_DEVICES": "7"})
        running = await run(launcher, spec)
        assert await ask(running.endpoint) == seen

    async def test_signals_are_as_a_fresh_process_has_them(self, launcher: LocalLauncher) -> None:
        answer = (
            "def answer():\n"
            "    lines = open('/proc/self/status').read().splitlines()\n"
            "    return ' '.join(x[8:] for x in lines if x[:6] in ('SigBlk', 'SigIgn'))\n"
        )
        running = await run(launcher, python(LISTEN + answer + TELL))
        blocked, ignored = (int(mask, 16) for mask in (await ask(running.endpoint)).split())
        assert blocked == 0
        # Python ignores SIGPIPE (13) and SIGXFSZ (25) by itself; 32 and up are not ours to set.
        assert ignored & 0x7FFFFFFF == 1 << 12 | 1 << 24

    async def test_directories_and_tokens_are_filled_in(
        self, launcher: LocalLauncher, root: Path
    ) -> None:
        answer = "def answer(): return f'{os.getcwd()} {sys.argv[2]} {os.environ[\"AT\"]}'\n"
        spec = python(LISTEN + answer + TELL, "{replica_dir}/out")
        running = await run(
            launcher,
            replace(spec, writable=("{replica_dir}/out",), env={"AT": "127.0.0.1:{port}"}),
        )
        assert running.endpoint is not None
        directory = root / "rp_a"
        told = await ask(running.endpoint)
        assert told == f"{directory} {directory}/out 127.0.0.1:{running.endpoint.port}"
        assert (directory / "out").is_dir()


class TestConfinement:
    async def test_a_program_below_tmp_is_still_there(
        self, launcher: LocalLauncher, tmp_path: Path
    ) -> None:
        assert tmp_path.parts[1] == "tmp"
        program = tmp_path / "server.py"
        program.write_text(LISTEN + WAIT)
        argv = (sys.executable, str(program), "{port}")
        running = await run(launcher, LaunchSpec("rv_test", argv, confine=Confine.ON))
        assert running.state is S.RUNNING

    async def test_a_confined_server_writes_only_where_it_may(
        self, launcher: LocalLauncher, root: Path, tmp_path: Path
    ) -> None:
        home = tmp_path / "home"
        (home / "input").mkdir(parents=True)
        (home / "tokens.db").write_text("secret")
        probe = f"""
def can(what, *args):
    try: what(*args); return "yes"
    except OSError: return "no"
def answer():
    home = {str(home)!r}
    return " ".join([
        can(open, sys.argv[2] + "/out/x", "w"),
        can(open, home + "/input/x", "w"),
        can(open, "/tmp/comfyserve-private", "w"),
        can(open, "/dev/shm/comfyserve-private", "w"),
        can(open, sys.argv[2] + "/lease", "a"),
        can(open, os.path.dirname(sys.executable) + "/x", "w"),
        can(open, home + "/tokens.db"),
        can(os.listdir, {str(root)!r} + "/rp_b"),
        can(os.kill, {os.getpid()}, 0),
    ])
"""
        await launcher.start("rp_b", SERVING)
        await reach(launcher, "rp_b", S.RUNNING)
        spec = replace(
            python(LISTEN + probe + TELL, "{replica_dir}", confine=Confine.ON),
            writable=("{replica_dir}/out", str(home / "input")),
            hidden=(str(home),),
        )
        running = await run(launcher, spec)
        assert running.confined_by == "bwrap"
        assert await ask(running.endpoint) == "yes yes yes yes no no no no no"
        assert (home / "input" / "x").exists()
        assert not private_files()

    async def test_without_bubblewrap_it_runs_and_says_so(self, root: Path) -> None:
        async with opened(new_launcher(root, PATH="/usr/bin:/bin/nowhere")) as launcher:
            running = await run(launcher, replace(SERVING, confine=Confine.AUTO))
            assert (running.state, running.confined_by) == (S.RUNNING, None)
            assert "no bwrap" in running.message

    async def test_without_bubblewrap_it_is_refused_where_it_must_be(self, root: Path) -> None:
        async with opened(new_launcher(root, PATH="/usr/bin:/bin/nowhere")) as launcher:
            gone = await run(launcher, replace(SERVING, confine=Confine.ON))
            assert (gone.state, gone.pid) == (S.GONE, None)
            assert "no bwrap" in gone.message

    @pytest.mark.parametrize("confine", [Confine.AUTO, Confine.ON])
    async def test_a_host_that_forbids_it_is_named(
        self, root: Path, tmp_path: Path, confine: Confine
    ) -> None:
        bwrap = tmp_path / "bwrap"
        bwrap.write_text(
            "#!/bin/sh\necho 'bwrap: No permissions to create namespace' >&2\nexit 1\n"
        )
        bwrap.chmod(0o755)
        async with opened(new_launcher(root, PATH=f"{tmp_path}:/usr/bin:/bin")) as launcher:
            status = await run(launcher, replace(SERVING, confine=confine))
            assert status.state is (S.RUNNING if confine is Confine.AUTO else S.GONE)
            assert "No permissions to create namespace" in status.message

    async def test_exit_codes_and_signals_pass_through(self, launcher: LocalLauncher) -> None:
        code = "import sys; sys.exit(7)"
        await launcher.start("rp_code", python(code, confine=Confine.ON))
        code = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
        await launcher.start("rp_signal", python(code, confine=Confine.ON))
        by_code = await reach(launcher, "rp_code", S.GONE)
        by_signal = await reach(launcher, "rp_signal", S.GONE)
        assert (by_code.exit_code, by_code.term_signal) == (7, None)
        assert (by_signal.exit_code, by_signal.term_signal) == (None, signal.SIGSEGV)


class TestFailures:
    @pytest.mark.parametrize("confine", [Confine.OFF, Confine.ON])
    async def test_a_program_that_is_not_there(
        self, launcher: LocalLauncher, confine: Confine
    ) -> None:
        spec = LaunchSpec("rv_test", ("/no/such/python",), confine=confine)
        gone = await run(launcher, spec)
        assert (gone.state, gone.reason) == (S.GONE, GoneReason.EXITED)
        said = gone.message.encode() + await launcher.logs("rp_a", tail_bytes=500)
        assert b"/no/such/python" in said
        assert b"No such file or directory" in said

    async def test_a_directory_that_is_not_there(self, launcher: LocalLauncher) -> None:
        gone = await run(launcher, replace(SERVING, cwd="/no/such/directory"))
        assert "No such file or directory: '/no/such/directory'" in gone.message

    async def test_an_argument_that_no_process_can_have(self, launcher: LocalLauncher) -> None:
        gone = await run(launcher, python(LISTEN, "nul\0inside"))
        assert (gone.state, gone.pid) == (S.GONE, None)
        assert "NUL" in gone.message

    async def test_memory_that_ran_out_by_its_own_word(self, launcher: LocalLauncher) -> None:
        gone = await run(launcher, python("raise MemoryError"))
        assert (gone.reason, gone.exit_code) == (GoneReason.OOM, 1)

    async def test_memory_beyond_the_limit(self, launcher: LocalLauncher) -> None:
        hog = "held = [bytearray(1 << 20) for _ in range(1024)]\n"
        spec = replace(python(LISTEN + hog + WAIT), memory_bytes=100 << 20)
        await launcher.start("rp_a", spec)
        status = await reach(launcher, "rp_a", S.RUNNING, S.GONE)
        if "memory not limited" in status.message:
            pytest.skip(status.message)
        gone = await reach(launcher, "rp_a", S.GONE)
        assert (gone.reason, gone.term_signal) == (GoneReason.OOM, signal.SIGKILL)

    async def test_a_shim_that_hangs_is_killed_in_the_end(
        self, launcher: LocalLauncher, root: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("comfyserve.runtime.launchers.local._SLACK_S", 0.2)
        running = await run(launcher, SERVING)
        os.kill(await shim_pid(root), signal.SIGSTOP)
        gone = await launcher.stop("rp_a", grace_s=0)
        assert (gone.state, gone.reason) == (S.GONE, GoneReason.STOPPED)
        assert running.pid is not None
        assert not is_alive(running.pid)


class TestLog:
    async def test_a_flood_is_bounded_and_does_not_hold_up_the_server(
        self, launcher: LocalLauncher, root: Path
    ) -> None:
        lines = 500_000
        flood = (
            "import sys\n"
            f"for start in range(0, {lines}, 1000):\n"
            "    sys.stdout.write(''.join(f'{n:099d}\\n' for n in range(start, start + 1000)))\n"
            "sys.stdout.flush()\n"
        )
        limit = 1_000_000
        began = asyncio.get_running_loop().time()
        await launcher.start("rp_a", replace(python(flood), log_limit_bytes=limit))
        assert (await reach(launcher, "rp_a", S.GONE)).exit_code == 0
        assert asyncio.get_running_loop().time() - began < DEADLINE_S
        kept = sum(path.stat().st_size for path in (root / "rp_a" / "log").iterdir())
        assert limit / 2 < kept <= limit
        last = await launcher.logs("rp_a", tail_bytes=200)
        assert last.decode().split() == [f"{lines - 2:099d}", f"{lines - 1:099d}"]
        oldest = await launcher.read_log("rp_a", offset=0, limit_bytes=1000)
        assert oldest.offset == lines * 100 - kept
        assert oldest.data[-100:].decode() == f"{(oldest.end // 100) - 1:099d}\n"

    async def test_a_log_can_be_followed_while_it_grows(
        self, launcher: LocalLauncher, tmp_path: Path
    ) -> None:
        steps = 20
        server = f"""
import os, time
for step in range({steps}):
    print("step", step, flush=True)
    while not os.path.exists(f"{tmp_path}/seen-{{step}}"): time.sleep(0.002)
"""
        await launcher.start("rp_a", replace(python(server), log_limit_bytes=8192))
        followed, offset = b"", 0
        async with asyncio.timeout(DEADLINE_S):
            for step in range(steps):
                while f"step {step}\n".encode() not in followed:
                    chunk = await launcher.read_log("rp_a", offset=offset, limit_bytes=1000)
                    followed, offset = followed + chunk.data, chunk.end
                (tmp_path / f"seen-{step}").touch()
        assert followed == b"".join(f"step {step}\n".encode() for step in range(steps))
        assert (await reach(launcher, "rp_a", S.GONE)).exit_code == 0
