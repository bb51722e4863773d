"""Misbehaviour on request, so that whoever runs engines can be tested against bad ones.

Each `--fault KIND[=ARG]` of the command line is one `Fault`. A fault imitates something that real
ComfyUIs were seen to do: start slowly, die while they start, stop answering, leave processes behind.
"""

import errno
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from argparse import ArgumentTypeError
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import NoReturn

_log = logging.getLogger(__name__)


class FaultKind(StrEnum):
    """What can go wrong. The argument, and what it is without one, in each line."""

    SLOW_START = "slow-start"
    """Seconds (5) to wait before listening."""
    START_CRASH = "start-crash"
    """Exit code (1) to die with before listening, after a traceback in the log."""
    PORT_BUSY = "port-busy"
    """Die as if the port were taken."""
    NEVER_READY = "never-ready"
    """Live, but never listen."""
    MUTE = "mute"
    """Seconds (0) of answering; then stay alive, keep connections open and answer nothing."""
    CRASH_AFTER = "crash-after"
    """Seconds (1) after listening to be killed by SIGKILL."""
    CRASH_AT_PROMPT = "crash-at-prompt"
    """Die by SIGKILL when the N-th (1) prompt of this process starts."""
    CRASH_AT_CLASS = "crash-at-class"
    """Die by SIGKILL when a node of this class starts."""
    HANG_AT_CLASS = "hang-at-class"
    """Never come back from a node of this class, whatever interrupts it."""
    IGNORE_SIGTERM = "ignore-sigterm"
    """Live on when asked to end."""
    SLOW_STOP = "slow-stop"
    """Seconds (5) between SIGTERM and the end."""
    FORK_GRANDCHILD = "fork-grandchild"
    """Leave a process in a session of its own; the log names its pid."""
    DROP_SOCKETS = "drop-sockets"
    """Cut a WebSocket without goodbye after N (5) messages to it."""
    REFUSE_PROMPTS = "refuse-prompts"
    """Answer `POST /prompt` with status 500."""
    FORGET_HISTORY = "forget-history"
    """Keep no history of finished prompts."""


_DEFAULTS = {
    FaultKind.SLOW_START: "5",
    FaultKind.START_CRASH: "1",
    FaultKind.MUTE: "0",
    FaultKind.CRASH_AFTER: "1",
    FaultKind.CRASH_AT_PROMPT: "1",
    FaultKind.SLOW_STOP: "5",
    FaultKind.DROP_SOCKETS: "5",
}
_NAMES_A_CLASS = frozenset({FaultKind.CRASH_AT_CLASS, FaultKind.HANG_AT_CLASS})


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing that goes wrong."""

    kind: FaultKind
    argument: str = ""

    @property
    def number(self) -> float:
        """The argument as a number."""
        return float(self.argument)


def parse_fault(text: str) -> Fault:
    """Read `KIND` or `KIND=ARG`.

    Raises:
        ArgumentTypeError: no such kind, or not an argument for it.
    """
    name, _, argument = text.partition("=")
    try:
        kind = FaultKind(name)
    except ValueError:
        kinds = ", ".join(FaultKind)
        raise ArgumentTypeError(f"no fault is called {name!r}; there are: {kinds}") from None
    argument = argument or _DEFAULTS.get(kind, "")
    if kind in _DEFAULTS:
        try:
            float(argument)
        except ValueError:
            raise ArgumentTypeError(f"{name} takes a number, not {argument!r}") from None
    elif kind in _NAMES_A_CLASS and not argument:
        raise ArgumentTypeError(f"{name} takes a node class: {name}=SaveImage")
    return Fault(kind, argument)


class Faults:
    """The faults of this process; the rest of the engine asks it at the places where they strike."""

    def __init__(self, faults: Iterable[Fault] = ()) -> None:
        self._faults = {(fault.kind, fault.argument): fault for fault in faults}
        self._prompts_started = 0

    def find(self, kind: FaultKind) -> Fault | None:
        """Return the first fault of this kind."""
        return next((fault for fault in self._faults.values() if fault.kind is kind), None)

    def before_listening(self, port: int) -> None:
        """Do what goes wrong while the engine starts."""
        if self.find(FaultKind.FORK_GRANDCHILD):
            leave_grandchild()
        if slow := self.find(FaultKind.SLOW_START):
            _log.info("fault: waiting %s seconds before listening", slow.argument)
            time.sleep(slow.number)
        if crash := self.find(FaultKind.START_CRASH):
            _crash_at_start(int(crash.number))
        if self.find(FaultKind.PORT_BUSY):
            raise OSError(errno.EADDRINUSE, f"port {port} is taken (fault)")
        if self.find(FaultKind.NEVER_READY):
            _log.info("fault: never listening")
            sleep_for_ever()

    def at_prompt(self) -> None:
        """Do what goes wrong when a prompt starts."""
        self._prompts_started += 1
        crash = self.find(FaultKind.CRASH_AT_PROMPT)
        if crash and self._prompts_started == crash.number:
            kill_self()

    def at_node(self, class_type: str) -> None:
        """Do what goes wrong when a node starts."""
        if (FaultKind.CRASH_AT_CLASS, class_type) in self._faults:
            kill_self()
        if (FaultKind.HANG_AT_CLASS, class_type) in self._faults:
            _log.info("fault: hanging at a node of class %s", class_type)
            sleep_for_ever()


def kill_self(signal_number: int = signal.SIGKILL) -> None:
    """End this process at once by a signal, as a crash or the kernel's out-of-memory killer does."""
    os.kill(os.getpid(), signal_number)


def sleep_for_ever() -> NoReturn:
    """Block the calling thread for good."""
    while True:
        threading.Event().wait(3600.0)


def leave_grandchild() -> int:
    """Start a process in its own session that outlives this one (15 minutes at most); return its pid."""
    child = subprocess.Popen(
        [sys.executable, "-S", "-c", "import signal; signal.alarm(900); signal.pause()"],
        start_new_session=True,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _log.info("fault: left a grandchild with pid %d", child.pid)
    return child.pid


def _crash_at_start(code: int) -> NoReturn:
    _log.error(
        "Traceback (most recent call last):\n"
        '  File "custom_nodes/broken/__init__.py", line 1, in <module>\n'
        "ModuleNotFoundError: No module named 'broken_dependency' (fault)"
    )
    raise SystemExit(code)
