"""The server of this machine: found by the lock of its home, started in the background, stopped.

Whoever starts one holds `home/start.lock` meanwhile, so two that start at once end up with one
server; the server itself holds `home/lock` for as long as it lives.
"""

import fcntl
import json
import os
import signal
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from comfyserve.clock import SystemClock
from comfyserve.domain.errors import Conflict
from comfyserve.sdk.errors import ClientError, ServerFailed, TimedOut
from comfyserve.sdk.transport import Request, Transport
from comfyserve.settings import ENV_PREFIX, Settings

_START_S = 60.0
_STOP_S = 60.0
_ASK_S = 5.0
_LOOK_EACH_S = 0.05
_SHOWN_LINES = 20
_OF_THE_CLIENT = ("URL", "TOKEN", "PROFILE")


@dataclass(frozen=True, slots=True)
class LocalServer:
    """A server that holds a home. `url` is empty until it listens; `since` is in epoch seconds."""

    home: Path
    pid: int
    url: str
    since: float

    @property
    def log(self) -> Path:
        """Where one that was started in the background writes."""
        return log_of(self.home)


def log_of(home: Path) -> Path:
    """The log of a server that runs in the background."""
    return home / "server.log"


def find_local(home: Path) -> LocalServer | None:
    """The server that holds a home on this machine, as far as can be told without asking it."""
    try:
        # The lock is read, never tried: even for a moment that would keep a server from it.
        told = json.loads((home / "lock").read_bytes())
        found = LocalServer(home, int(told["pid"]), str(told["url"]), float(told["since"]))
        is_here = told["host"] == os.uname().nodename
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if is_here and _is_alive(found.pid) else None


def answers(server: LocalServer) -> bool:
    """Whether it takes requests, and is the one of its home."""
    if not server.url:
        return False
    try:
        ready = Transport(server.url).send(Request("GET", "/api/v1/health/ready", timeout_s=_ASK_S))
        told: object = json.loads(ready)["home"]
    except (ClientError, ValueError, KeyError, TypeError):
        return False
    return told == str(server.home)


def ensure_local(settings: Settings, on_start: Callable[[LocalServer], None]) -> LocalServer:
    """The server of a home, started in the background if there is none; `on_start` is told then.

    Raises ServerFailed with the end of its log, and TimedOut.
    """
    home = settings.home_path
    found = find_local(home)
    if found is not None and answers(found):
        return found
    with _starting(home):
        found = find_local(home)
        pid = None if found is not None else _spawn(settings)
        server = _await_answer(home, pid)
    if pid is not None:
        on_start(server)
    return server


def stop_local(home: Path) -> LocalServer | None:
    """Stop the server of a home and wait until it has let go; None if none runs. Raises TimedOut."""
    server = find_local(home)
    if server is None:
        return None
    if server.url and not answers(server):
        raise Conflict(
            f"process {server.pid} is named by {home / 'lock'} but does not answer as the server "
            f"of this home at {server.url}; if it is one that hangs, end it with `kill {server.pid}`",
            code="not_our_server",
        )
    os.kill(server.pid, signal.SIGTERM)
    clock = SystemClock()
    deadline = clock.monotonic() + _STOP_S
    while (now_there := find_local(home)) is not None and now_there.pid == server.pid:
        if clock.monotonic() > deadline:
            raise TimedOut(
                f"the server (process {server.pid}) still runs after {_STOP_S:g} s; see {server.log}"
            )
        _pause()
    return server


def _spawn(settings: Settings) -> int:
    """Start a server that outlives this process; return its pid."""
    home = settings.home_path
    port = settings.port if _is_free(settings.host, settings.port) else 0
    argv = [
        sys.executable,
        "-P",  # what lies in the user's directory is no module of the server's
        "-m",
        "comfyserve.cli.main",
        "serve",
        f"--home={home}",
        f"--host={settings.host}",
        f"--port={port}",
    ]
    hidden = {ENV_PREFIX + name for name in _OF_THE_CLIENT}
    env = {name: value for name, value in os.environ.items() if name not in hidden}
    # No `subprocess`: what it starts is meant to be waited for.
    return os.posix_spawn(
        argv[0],
        argv,
        env,
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (
                os.POSIX_SPAWN_OPEN,
                1,
                str(log_of(home)),
                os.O_WRONLY | os.O_CREAT | os.O_APPEND,
                0o600,
            ),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        setsigdef=[signal.SIGINT, signal.SIGTERM, signal.SIGPIPE],
    )


def _await_answer(home: Path, pid: int | None) -> LocalServer:
    clock = SystemClock()
    deadline = clock.monotonic() + _START_S
    while True:
        found = find_local(home)
        if found is not None and answers(found):
            return found
        if pid is not None and _has_ended(pid) and find_local(home) is None:
            raise ServerFailed(
                f"the server in the background did not start; its log is {log_of(home)}",
                evidence=_tail(log_of(home)),
            )
        if clock.monotonic() > deadline:
            raise TimedOut(
                f"the server in the background did not answer within {_START_S:g} s; its log is "
                f"{log_of(home)}",
                evidence=_tail(log_of(home)),
            )
        _pause()


@contextmanager
def _starting(home: Path) -> Iterator[None]:
    """Be the only one who starts a server for this home. Waits; the kernel frees it if we die."""
    home.mkdir(mode=0o700, parents=True, exist_ok=True)
    handle = os.open(home / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _is_alive(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as stat:
            return stat.read().rpartition(")")[2].split()[0] not in {"Z", "X"}
    except OSError:
        return False


def _has_ended(pid: int) -> bool:
    try:
        return os.waitpid(pid, os.WNOHANG)[0] == pid
    except ChildProcessError:
        return True


def _is_free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True


def _tail(path: Path) -> list[str]:
    try:
        return path.read_text("utf-8", "replace").splitlines()[-_SHOWN_LINES:]
    except OSError:
        return []


def _pause() -> None:
    threading.Event().wait(_LOOK_EACH_S)
