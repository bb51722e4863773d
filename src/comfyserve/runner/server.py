"""One run of the server process: spawned, asked to end, and what its end says."""

import os

from comfyserve.runner import linux
from comfyserve.runner.confine import confine
from comfyserve.runner.order import Order

_OOM_SCORE = b"500"


class Exit:
    """How a server ended: with a code or by a signal."""

    def __init__(self, code: int | None, term_signal: int | None) -> None:
        self.code = code
        self.term_signal = term_signal

    def __str__(self) -> str:
        if self.term_signal is not None:
            return f"ended by signal {self.term_signal}"
        return f"exited with code {self.code}"


class Server:
    """The process that the order asks for, in a session of its own."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def main_of(self, pids: list[int]) -> int:
        """Return which of its processes, this one first, is the program that was asked for."""
        return pids[0]

    def terminate(self) -> None:
        """Send SIGTERM to the server's process group. Does nothing if it has ended."""
        _signal_group(self.pid)

    def exit_of(self, wait_status: int) -> Exit | None:
        """Read a status of `waitpid`; None if the server never ran because confinement failed."""
        if os.WIFSIGNALED(wait_status):
            return Exit(None, os.WTERMSIG(wait_status))
        return Exit(os.WEXITSTATUS(wait_status), None)

    def close(self) -> None:
        """Release what belongs to this run. Twice is fine."""


class ConfinedServer(Server):
    """A server below two processes of bubblewrap: a monitor, and the first of a pid namespace."""

    def __init__(self, pid: int, status_fd: int) -> None:
        super().__init__(pid)
        self._status_fd = status_fd

    def main_of(self, pids: list[int]) -> int:
        """Return the program; the monitor while that does not run yet."""
        return pids[2] if len(pids) > 2 else self.pid

    def terminate(self) -> None:
        """Send SIGTERM to the server's process group. Does nothing if it has ended."""
        below = linux.descendants(self.pid)
        # The program's group is that of the namespace's first process, which takes no SIGTERM; and
        # before there is a program, only the end of the monitor ends it all.
        _signal_group(below[0] if len(below) > 1 else self.pid)

    def exit_of(self, wait_status: int) -> Exit | None:
        """Read a status of `waitpid`; None if the server never ran because confinement failed."""
        end = super().exit_of(wait_status)
        if end is None or end.code is None:
            return end
        # Only of a program that it did start does bubblewrap report the end.
        if b'"exit-code"' not in os.read(self._status_fd, 4096):
            return None
        # Bubblewrap speaks like a shell: 128 and the number of the signal.
        return Exit(None, end.code - 128) if end.code > 128 else end

    def close(self) -> None:
        """Release what belongs to this run. Twice is fine."""
        if self._status_fd >= 0:
            os.close(self._status_fd)
        self._status_fd = -1


def start_server(order: Order, port: int, output_fd: int, cgroup: str) -> Server:
    """Start the ordered server on `port`, its output going to `output_fd`.

    Raises OSError if it cannot be executed.
    """
    return Server(_spawn(_argv(order, port), _env(order, port), order.cwd, output_fd, cgroup))


def start_confined(order: Order, port: int, output_fd: int, cgroup: str) -> Server:
    """As `start_server`, within bubblewrap."""
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)  # noqa: FBT003 - the call takes it by position only
    argv = confine(order, _argv(order, port), write_end)
    try:
        return ConfinedServer(_spawn(argv, _env(order, port), "/", output_fd, cgroup), read_end)
    except OSError:
        os.close(read_end)
        raise
    finally:
        os.close(write_end)


def _argv(order: Order, port: int) -> list[str]:
    return [arg.replace("{port}", str(port)) for arg in order.argv]


def _env(order: Order, port: int) -> dict[str, str]:
    env = {name: value.replace("{port}", str(port)) for name, value in order.env.items()}
    return {**env, **order.secrets}


def _signal_group(pid: int) -> None:
    try:
        os.killpg(pid, linux.SIGTERM)
    except ProcessLookupError:
        return


def _spawn(argv: list[str], env: dict[str, str], cwd: str, output_fd: int, cgroup: str) -> int:
    read_end, write_end = os.pipe()
    shim_pid = os.getpid()
    pid = os.fork()
    if pid == 0:
        try:
            _prepare(shim_pid, cwd, output_fd, cgroup)
            os.execvpe(argv[0], argv, env)  # noqa: S606 - the order's own command, no shell
        except OSError as error:
            what = f"{error.errno} {error.filename or argv[0]}"
            os.write(write_end, what.encode(errors="replace"))
        finally:
            os._exit(127)  # a forked child must not run the parent's clean-up
    os.close(write_end)
    with open(read_end, "rb") as pipe:
        failure = pipe.read().decode(errors="replace")  # empty once the program was executed
    if failure:
        os.waitpid(pid, 0)
        number, _, what = failure.partition(" ")
        raise OSError(int(number), os.strerror(int(number)), what)
    return pid


def _prepare(shim_pid: int, cwd: str, output_fd: int, cgroup: str) -> None:
    os.setsid()
    linux.die_with_parent()
    if os.getppid() != shim_pid:
        os._exit(127)  # the shim died before the kernel knew of the wish
    linux.restore_signals()
    _write_kernel("/proc/self/oom_score_adj", _OOM_SCORE)  # the server goes before its shim
    if cgroup:
        _write_kernel(f"{cgroup}/cgroup.procs", b"0")
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output_fd, 1)
    os.dup2(output_fd, 2)
    os.chdir(cwd)


def _write_kernel(path: str, value: bytes) -> None:
    try:
        with open(path, "wb", buffering=0) as file:
            file.write(value)
    except OSError:
        return  # a hint: without the right to give it, the server runs all the same
