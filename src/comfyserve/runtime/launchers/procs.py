"""Processes of this host, named so that a recycled pid is never mistaken for one of ours."""

import os
import select
import signal
import time
from collections.abc import Mapping
from dataclasses import dataclass

_POLL_S = 0.02


@dataclass(frozen=True, slots=True)
class ProcessName:
    """A pid is used again sooner or later; with its start time and the boot it is unique."""

    pid: int
    start_ticks: int
    boot_id: str


def boot_id() -> str:
    """Return what tells this boot of the machine from every other."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def start_ticks(pid: int) -> int:
    """Return when `pid` started, in clock ticks since boot. Raises OSError if there is none."""
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
        return int(file.read().rpartition(")")[2].split()[19])


def open_process(name: ProcessName) -> int | None:
    """Return a pidfd of exactly that process, None if it has ended."""
    if name.boot_id != boot_id():
        return None
    try:
        pidfd = os.pidfd_open(name.pid)
    except ProcessLookupError:
        return None
    try:
        is_same = start_ticks(name.pid) == name.start_ticks
    except OSError:
        is_same = False
    if is_same and not has_ended(pidfd):
        return pidfd
    os.close(pidfd)
    return None


def has_ended(pidfd: int, *, timeout_s: float = 0.0) -> bool:
    """Tell whether the process has ended, also if its parent has not waited for it yet."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))


def reap(name: ProcessName) -> None:
    """Wait for an ended process if it is this process's child; others have their own parent."""
    try:
        if start_ticks(name.pid) == name.start_ticks:
            os.waitpid(name.pid, os.WNOHANG)
    except (OSError, ValueError):
        return  # nobody's child any more, or not ours


def find_marked(marks: Mapping[str, str]) -> list[tuple[int, Mapping[str, str]]]:
    """Return pid and environment of every process whose environment carries all `marks`.

    What a process does to its own copy later does not matter: the kernel shows the first one.
    """
    return [
        (int(entry), env)
        for entry in os.listdir("/proc")
        if entry.isdigit() and marks.items() <= (env := _environment(int(entry))).items()
    ]


def end_marked(marks: Mapping[str, str], *, timeout_s: float) -> None:
    """SIGKILL every process that carries `marks`, until there is none.

    Raises TimeoutError if some cannot be ended.
    """
    killed: set[ProcessName] = set()
    for _ in range(max(1, round(timeout_s / _POLL_S))):
        pids = [pid for pid, _ in find_marked(marks)]
        if not pids:
            break
        killed.update(name for pid in pids if (name := _kill_marked(pid, marks)) is not None)
        time.sleep(_POLL_S)
    else:
        raise TimeoutError(f"processes marked {dict(marks)} do not end")
    for name in killed:
        reap(name)


def _kill_marked(pid: int, marks: Mapping[str, str]) -> ProcessName | None:
    try:
        pidfd = os.pidfd_open(pid)
    except ProcessLookupError:
        return None
    try:
        # Looked at again, now that the pidfd rules out that the pid is another's.
        if not marks.items() <= _environment(pid).items():
            return None
        name = ProcessName(pid, start_ticks(pid), boot_id())
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
    except (ProcessLookupError, FileNotFoundError):
        return None
    finally:
        os.close(pidfd)
    return name


def _environment(pid: int) -> Mapping[str, str]:
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            variables = os.fsdecode(file.read()).split("\0")
    except OSError:
        return {}  # another user's, or it ended while we looked
    return dict(variable.partition("=")[::2] for variable in variables)
