"""The shim: the small program beside each server, the same on every back-end.

It picks the port, confines the server, owns its log, its lease and its exit code, and outlives
the gateway. It ends when nothing of the replica is left: as "child subreaper" it becomes the
parent of every process that its server lets go, so "no child left" means "no descendant left".
If it is killed itself, the kernel kills the server.

Started by path as `python -I -S shim.py < order`. SIGTERM ends the replica; SIGUSR1 says that its
lease was changed. The modification times of two files are deadlines, in seconds of CLOCK_MONOTONIC:
that of `lease`, when the replica ends itself, and of `stop`, when SIGKILL follows SIGTERM.
"""

import fcntl
import os
import select
import sys
import time

if __name__ == "__main__":
    # Last, so that nothing installed beside us can stand in for the standard library.
    sys.path.append(os.path.abspath(os.path.join(os.path.dirname(__file__), "..", "..")))

from comfyserve.runner import linux
from comfyserve.runner.layout import lay_out
from comfyserve.runner.memory import MemoryGroup, is_out_of_memory, limit_memory
from comfyserve.runner.order import Order, Report, read_order
from comfyserve.runner.ports import Port, find_listeners, holds_one
from comfyserve.runner.ringlog import RingLog
from comfyserve.runner.server import Exit, Server, start_confined, start_server

_NEVER = float("inf")
_GRACE_S = 10.0
_PORT_ATTEMPTS = 5
_LOOK_S, _LOOK_SLOWEST_S = 0.002, 0.02
_KILL_AGAIN_S = 0.05
_LONGEST_WAIT_S = 3600.0
_PIPE_BYTES, _CHUNK_BYTES = 1 << 20, 1 << 18
_ENDINGS = (linux.SIGTERM, linux.SIGINT, linux.SIGHUP)
_CLASHES = (b"address already in use", b"address in use", b"eaddrinuse")


class Channels:
    """What the shim waits for: signals, and the output of the server."""

    def __init__(self) -> None:
        self._output, self.server_output = os.pipe()
        os.set_blocking(self._output, False)
        self._signals = linux.open_signals((*_ENDINGS, linux.SIGCHLD, linux.SIGUSR1))
        self._poll = select.poll()
        self._poll.register(self._output, select.POLLIN)
        self._poll.register(self._signals, select.POLLIN)
        try:
            fcntl.fcntl(self._output, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)
        except OSError:
            return  # the host's limit: bursts then wait a little for the shim

    def wait(self, timeout_s: float) -> list[int]:
        """Wait for output or signals; return the signals."""
        self._poll.poll(min(max(0.0, timeout_s), _LONGEST_WAIT_S) * 1000)
        return linux.read_signals(self._signals)

    def read_output(self) -> bytes:
        """Return what the server wrote, empty if nothing waits."""
        try:
            return os.read(self._output, _CHUNK_BYTES)
        except BlockingIOError:
            return b""


class Shim:
    """The life of one replica."""

    def __init__(self, order: Order, report: Report, channels: Channels) -> None:
        self._order = order
        self._report = report
        self._channels = channels
        self._log = RingLog(order.path("log"), order.log_limit_bytes)
        self._memory = MemoryGroup()
        self._oom_kills = 0
        self._server: Server | None = None
        self._port: Port | None = None
        self._attempts = 0
        self._begun_at = 0.0
        self._wait_status: int | None = None
        self._is_confined = bool(order.bwrap) and order.confine != "off"
        self._notes: list[str] = []
        self._stop_reason = ""
        self._kill_at = _NEVER
        self._look_at = _NEVER
        self._lease_until = _NEVER

    def run(self) -> None:
        """Live until the replica is gone."""
        self._read_lease()
        self._set_up()
        while self._report.state != "gone":
            timeout_s = min(self._kill_at, self._look_at, self._lease_until) - _now()
            for number in self._channels.wait(timeout_s):
                if number in _ENDINGS:
                    self._stop("stopped")
                elif number == linux.SIGUSR1:
                    self._read_lease()
            self._log.write(self._channels.read_output())
            self._step(_now())

    def _set_up(self) -> None:
        order = self._order
        if order.confine == "on" and not order.bwrap:
            self._finish("exited", "cannot be confined as asked: there is no bwrap on PATH")
            return
        if order.confine == "auto" and not order.bwrap:
            self._notes.append("not confined: there is no bwrap on PATH")
        if order.memory_bytes:
            self._memory = limit_memory(f"comfyserve-{order.id}", order.memory_bytes)
            if not self._memory.path:
                self._notes.append("memory not limited: the host lets us make no control group")
        self._oom_kills = self._memory.oom_kills()
        try:
            for directory in order.writable:
                os.makedirs(directory, exist_ok=True)
            lay_out(order)
        except OSError as error:
            self._finish("exited", f"cannot make a directory: {error}")
            return
        self._begin()

    def _begin(self) -> None:
        self._attempts += 1
        start = start_confined if self._is_confined else start_server
        order, report = self._order, self._report
        try:
            self._port = Port(order.host, is_held=self._attempts == 1, number=order.port)
        except OSError as error:
            where = f"port {order.port}, which the command insists on" if order.port else "a port"
            self._finish("exited", f"cannot have {where}: {error.strerror}")
            return
        try:
            output = self._channels.server_output
            self._server = start(order, self._port.number, output, self._memory.path)
        except OSError as error:
            self._finish("exited", f"cannot start: {error}")
            return
        self._begun_at = _now()
        self._look_at = self._begun_at + _LOOK_S
        report.port, report.pid = self._port.number, self._server.pid
        report.confined_by = "bwrap" if self._is_confined else None
        report.message = "; ".join(self._notes)
        report.publish()

    def _step(self, now: float) -> None:
        has_children = self._reap()
        if self._wait_status is not None:
            if not has_children:
                self._settle(self._wait_status)
                return
            self._kill_at = now  # what a server leaves behind ends with it
        if now >= self._kill_at:
            self._kill_tree()
            self._kill_at = now + _KILL_AGAIN_S
        if now >= self._lease_until:
            self._read_lease()
            if now >= self._lease_until:
                self._lease_until = _NEVER
                self._stop("lease_expired")
        if now >= self._look_at:
            self._look(now)

    def _reap(self) -> bool:
        try:
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if self._server is not None and pid == self._server.pid:
                    self._wait_status = status
        except ChildProcessError:
            return False

    def _kill_tree(self) -> None:
        for pid in linux.descendants(os.getpid()):
            try:
                os.kill(pid, linux.SIGKILL)
            except ProcessLookupError:
                continue  # it ended while we looked

    def _look(self, now: float) -> None:
        """See whether the server listens by now; ask less often the longer it takes."""
        if self._server is None or self._port is None:
            return
        pids = self._find_listener(self._server.pid, find_listeners(self._port.number))
        if not pids:
            pause_s = min(max(_LOOK_S, (now - self._begun_at) / 100), _LOOK_SLOWEST_S)
            took_s = _now() - now
            self._look_at = now + max(pause_s, took_s * 5)
            return
        self._port.release()
        self._look_at = _NEVER
        self._report.state = "running"
        self._report.pid = self._server.main_of(pids)
        self._report.publish()

    def _find_listener(self, pid: int, sockets: set[int]) -> list[int]:
        """Return the server's processes if one of them holds one of the sockets, else nothing."""
        if not sockets:
            return []
        if holds_one(pid, sockets):
            return [pid]
        below = linux.descendants(pid)
        return [pid, *below] if any(holds_one(each, sockets) for each in below) else []

    def _stop(self, reason: str) -> None:
        """End the replica; asked again, it can only become quicker."""
        stop_by = _deadline(self._order.path("stop")) or _now() + _GRACE_S
        self._kill_at = min(self._kill_at, stop_by)
        if self._stop_reason or self._server is None:
            return
        self._stop_reason = reason
        self._look_at = _NEVER
        self._report.state = "stopping"
        self._report.publish()
        self._server.terminate()

    def _settle(self, wait_status: int) -> None:
        """Nothing runs any more: begin again, if the start failed for want of a port, or finish."""
        while output := self._channels.read_output():
            self._log.write(output)
        end = self._server.exit_of(wait_status) if self._server else None
        self._release()
        if end is not None:
            self._report.exit_code, self._report.term_signal = end.code, end.term_signal
        if self._stop_reason:
            self._finish(self._stop_reason, str(end or ""))
        elif end is None:
            self._unconfine()
        elif self._is_clash(end):
            self._begin()
        else:
            self._finish("oom" if self._is_oom(end) else "exited", str(end))

    def _release(self) -> None:
        if self._server is not None:
            self._server.close()
        if self._port is not None:
            self._port.release()
        self._server = self._port = self._wait_status = None
        self._kill_at = self._look_at = _NEVER

    def _unconfine(self) -> None:
        why = self._log.tail.decode(errors="replace").strip().rpartition("\n")[2]
        self._report.pid = self._report.confined_by = None
        if self._order.confine == "on":
            self._finish("exited", f"cannot be confined as asked: {why}")
            return
        self._is_confined = False
        self._notes.append(f"not confined: {why}")
        self._attempts = 0
        self._begin()

    def _is_clash(self, end: Exit) -> bool:
        tail = self._log.tail.lower()
        return (
            self._report.state == "starting"
            and end.code != 0
            and self._attempts < _PORT_ATTEMPTS
            and any(word in tail for word in _CLASHES)
        )

    def _is_oom(self, end: Exit) -> bool:
        if end.term_signal == linux.SIGKILL and self._memory.oom_kills() > self._oom_kills:
            return True
        return end.code != 0 and is_out_of_memory(self._log.tail)

    def _finish(self, reason: str, message: str) -> None:
        self._log.close()
        self._memory.remove()
        self._report.end(reason, message)
        self._report.publish()

    def _read_lease(self) -> None:
        if not self._stop_reason:
            # Without its record nobody can renew it any more: what was said last then holds.
            self._lease_until = _deadline(self._order.path("lease")) or self._lease_until


def main() -> None:
    """Look after the replica that standard input orders."""
    os.setsid()
    os.closerange(3, min(os.sysconf("SC_OPEN_MAX"), 1 << 20))
    order = read_order(0)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0, inheritable=False)
    os.chdir("/")
    linux.adopt_orphans("comfy-shim")
    report = Report(order, shim_start=linux.start_ticks(os.getpid()), boot_id=linux.boot_id())
    Shim(order, report, Channels()).run()
    os._exit(0)  # someone waits for the end of this process; there is nothing to clean up


def _now() -> float:
    # Shared with the launcher through the lease file, so it must be this one clock.
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def _deadline(path: str) -> float:
    try:
        return os.stat(path).st_mtime
    except FileNotFoundError:
        return 0.0


if __name__ == "__main__":
    main()
