"""Run one program of a build: a process group of its own, a clean environment, a bounded log."""

import asyncio
import contextlib
import os
import secrets
import select
import signal
import subprocess
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from comfyserve.build.log import BuildLog
from comfyserve.domain.errors import EngineFailure

MARK = "COMFYSERVE_BUILD"
"""The variable by which every process of a build is found again: it holds the path of its tree."""
_RUN_MARK = "COMFYSERVE_BUILD_RUN"
"""The same for one program and what it started: others of the build may run beside it."""
_GRACE_S = 5.0
_CHUNK_BYTES = 64 * 1024
_KEPT_LINES = 40
_LISTEN_S = 0.5
_PAUSE_S = 0.01
_PATIENCE = 1000
"""How often it is looked again whether killed processes are gone."""


class BuildFailed(EngineFailure):
    """A step of a build failed; carries the end of its output."""

    code = "build_failed"


@dataclass(frozen=True, slots=True)
class Run:
    """One program: what, where, with which environment, and for how long at most.

    A line that `takes` says yes to is meant for us, and not logged; it is asked in a thread.
    """

    argv: Sequence[str]
    cwd: Path
    env: Mapping[str, str] = field(repr=False)
    timeout_s: float
    shown: str = ""
    takes: Callable[[str], bool] = lambda _: False

    @property
    def name(self) -> str:
        """The command as it is shown."""
        return self.shown or " ".join(self.argv)


async def run(order: Run, log: BuildLog) -> list[str]:
    """Run to the end; return the last lines of its output. Raises BuildFailed.

    Whatever the program started is killed with it, also when the caller is canceled. It is watched by
    a thread of its own: a coroutine that is canceled while asyncio starts a process loses it.
    """
    watch = _Watch(order, log)
    pool = ThreadPoolExecutor(max_workers=1, thread_name_prefix="build-step")
    ending = asyncio.get_running_loop().run_in_executor(pool, watch.run)
    pool.shutdown(wait=False)  # The thread ends with its one task.
    try:
        async with asyncio.timeout(order.timeout_s):
            await asyncio.shield(ending)
    except TimeoutError:
        watch.stop()
        await ending
        raise BuildFailed(
            f"'{log.clean(order.name)}' did not end within {order.timeout_s:g} s and was killed "
            "with all that it had started; if it needs longer, raise the setting "
            "build_step_timeout_s",
            code="build_timeout",
            log_tail=tuple(watch.tail),
        ) from None
    except asyncio.CancelledError:
        watch.stop()
        await ending
        raise
    code = ending.result()
    if code != 0:
        how = f"exit code {code}" if code > 0 else f"signal {-code}"
        raise BuildFailed(
            f"'{log.clean(order.name)}' failed with {how}", log_tail=tuple(watch.tail)
        )
    return list(watch.tail)


class _Watch:
    """One process from its start to its end, from a thread."""

    def __init__(self, order: Run, log: BuildLog) -> None:
        self.tail: deque[str] = deque(maxlen=_KEPT_LINES)
        self._order = order
        self._log = log
        self._stopping = threading.Event()
        self._mark = secrets.token_hex(8)

    def stop(self) -> None:
        """End it soon."""
        self._stopping.set()

    def run(self) -> int:
        """Start it and wait; return its exit code. Raises BuildFailed if it cannot be started."""
        order = self._order
        try:
            process = subprocess.Popen(  # noqa: S603 - running what the image says is the point
                list(order.argv),
                cwd=order.cwd,
                env={**order.env, _RUN_MARK: self._mark},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                bufsize=0,
            )
        except OSError as error:
            raise BuildFailed(f"'{order.name}' cannot be run: {error.strerror}") from error
        with process:
            try:
                self._pump(process)
            finally:
                code = self._end(process)
        return code

    def _pump(self, process: "subprocess.Popen[bytes]") -> None:
        """Copy the output until the program ends; others may hold its output open for longer."""
        assert process.stdout is not None  # noqa: S101 - it was asked for
        rest, descriptor = b"", process.stdout.fileno()
        while not self._stopping.is_set():
            readable, _, _ = select.select([descriptor], [], [], _LISTEN_S)
            if not readable and process.poll() is None:
                continue
            data = os.read(descriptor, _CHUNK_BYTES) if readable else b""
            *lines, rest = (rest + data).split(b"\n")
            if (not data and rest) or len(rest) > _CHUNK_BYTES:
                lines, rest = [*lines, rest], b""
            texts = [text for text in map(_text, lines) if not self._order.takes(text)]
            if texts:
                self.tail.extend(self._log.write(texts))
            if not data:
                return

    def _end(self, process: "subprocess.Popen[bytes]") -> int:
        """End the process group, children that were left behind included."""
        if process.poll() is None:
            # Its output has ended: it is about to end by itself, or it is to be stopped.
            if self._stopping.is_set():
                _signal_group(process.pid, signal.SIGTERM)
            while process.poll() is None:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(_GRACE_S if self._stopping.is_set() else _LISTEN_S)
                if self._stopping.is_set():
                    _signal_group(process.pid, signal.SIGKILL)
        _signal_group(process.pid, signal.SIGKILL)
        _kill_all(f"{_RUN_MARK}={self._mark}")
        return process.wait()


def _text(line: bytes) -> str:
    """A progress bar overwrites its own line: the last state is what is worth keeping."""
    return line.decode("utf-8", "replace").rstrip("\r").rsplit("\r", 1)[-1]


def kill_marked(mark: str) -> int:
    """Kill every process of the build whose tree is `mark`; return how many there were.

    Blocks until they are gone. Nobody may be left that writes into a tree while it is read.
    """
    return _kill_all(f"{MARK}={mark}")


def _kill_all(variable: str) -> int:
    pids = there = _having(variable)
    for _ in range(_PATIENCE):
        for pid in there:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if not there:
            break
        time.sleep(_PAUSE_S)
        there = _having(variable)
    return len(pids)


def _having(variable: str) -> list[int]:
    wanted, found = variable.encode(), []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            with contextlib.suppress(OSError):
                if wanted in (entry / "environ").read_bytes().split(b"\0"):
                    found.append(int(entry.name))
    return found


def _signal_group(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(pid, number)
