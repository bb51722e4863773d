"""Linux calls that `os` lacks, and the process table.

The shim runs before every wake, so its modules import only what starts in microseconds: no
`signal`, `socket` (enum), `json` (re), `collections`, `typing` or `dataclasses`. That is why
numbers that `signal` would name stand here; they are those of x86-64 and arm64.
"""

import ctypes
import os

SIGHUP, SIGINT, SIGKILL, SIGUSR1, SIGPIPE, SIGTERM, SIGCHLD, SIGXFSZ = 1, 2, 9, 10, 13, 15, 17, 25

_PR_SET_PDEATHSIG, _PR_SET_NAME, _PR_SET_CHILD_SUBREAPER = 1, 15, 36
_SIG_BLOCK, _SIG_SETMASK, _SIG_DFL = 0, 2, 0
_SFD_NONBLOCK_CLOEXEC = 0o4000 | 0o2000000
_SIGNALFD_RECORD = 128

_libc = ctypes.CDLL(None, use_errno=True)
_libc.signal.argtypes = (ctypes.c_int, ctypes.c_void_p)
_libc.signal.restype = ctypes.c_void_p


def adopt_orphans(name: str) -> None:
    """Make this process, shown as `name`, the parent of every descendant that loses its own."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _libc.prctl(_PR_SET_NAME, name.encode())


def die_with_parent() -> None:
    """Have the kernel SIGKILL this process when the thread that forked it ends."""
    _prctl(_PR_SET_PDEATHSIG, SIGKILL)


def open_signals(signals: tuple[int, ...]) -> int:
    """Block `signals` and return a non-blocking descriptor that reports them instead."""
    mask = _mask(signals)
    _libc.sigprocmask(_SIG_BLOCK, mask, None)
    fd: int = _libc.signalfd(-1, mask, _SFD_NONBLOCK_CLOEXEC)
    if fd < 0:
        raise OSError(ctypes.get_errno(), "signalfd")
    return fd


def read_signals(fd: int) -> list[int]:
    """Return the signals that arrived on a descriptor of `open_signals`."""
    try:
        records = os.read(fd, 16 * _SIGNALFD_RECORD)
    except BlockingIOError:
        return []
    return [
        int.from_bytes(records[start : start + 4], "little")
        for start in range(0, len(records), _SIGNALFD_RECORD)
    ]


def restore_signals() -> None:
    """Undo, between fork and exec, what Python and the shim changed about signals."""
    for number in (SIGPIPE, SIGXFSZ):
        _libc.signal(number, _SIG_DFL)
    _libc.sigprocmask(_SIG_SETMASK, _mask(()), None)


def descendants(root: int) -> list[int]:
    """Return the processes below `root`, parents first."""
    children: dict[int, list[int]] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (parent := _parent(name)):
            children.setdefault(parent, []).append(int(name))
    found = [root]
    for pid in found:
        found.extend(children.get(pid, ()))
    return found[1:]


def start_ticks(pid: int) -> int:
    """Return when `pid` started, in clock ticks since boot: with the pid, it names one process."""
    return int(_stat_fields(str(pid))[19])


def boot_id() -> str:
    """Return what tells this boot of the machine from every other."""
    with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as file:
        return file.read().strip()


def _parent(pid: str) -> int:
    try:
        return int(_stat_fields(pid)[1])
    except OSError:
        return 0  # it ended while we looked


def _stat_fields(pid: str) -> list[str]:
    # The second field is the program's name in parentheses and may hold anything.
    with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
        return stat.read().rpartition(")")[2].split()


def _mask(signals: tuple[int, ...]) -> bytes:
    return sum(1 << (number - 1) for number in signals).to_bytes(128, "little")


def _prctl(option: int, value: int) -> None:
    if _libc.prctl(option, ctypes.c_ulong(value), 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")
