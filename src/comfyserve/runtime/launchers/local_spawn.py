"""Starting a shim: the order that it reads, and a process with nothing inherited."""

import os
import signal
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from comfyserve.runtime.launchers.base import LaunchSpec
from comfyserve.runtime.launchers.procs import ProcessName, boot_id, start_ticks

SHIM = Path(__file__).resolve().parents[2] / "runner" / "shim.py"
REPLICA_MARK, OWNER_MARK = "COMFYSERVE_REPLICA", "COMFYSERVE_OWNER"
LOOPBACK = "127.0.0.1"

# What a server may know of this process's environment: where things are and how to speak, none of
# what people keep in environments (tokens, passwords, proxies with credentials).
_BASE_ENVIRONMENT = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_ALL", "LC_CTYPE", "TZ"),
    *("LD_LIBRARY_PATH", "CUDA_HOME", "CUDA_PATH", "NVIDIA_DRIVER_CAPABILITIES"),
    *("SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE"),
)
# All that the shim handles wait until it listens: one that came at birth would just kill it.
_BLOCKED_AT_BIRTH = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1, signal.SIGCHLD)


@dataclass(frozen=True, slots=True)
class ShimOrder:
    """One replica as the shim is told of it."""

    replica_id: str
    marks: Mapping[str, str]
    spec: LaunchSpec
    directory: Path
    notices: Path
    gpus: tuple[str, ...]
    started_at: float | None
    base_env: Mapping[str, str]
    bwrap: str | None

    def encode(self) -> bytes:
        """Return the order in the form that `comfyserve.runner.order` reads.

        Raises ValueError for a NUL, which no argument or variable can hold.
        """
        return b"".join(_field(name, value) for name, value in self._fields())

    def _fields(self) -> Iterable[tuple[str, str]]:
        spec = self.spec
        yield "id", self.replica_id
        yield "pool", spec.pool
        yield "spec_digest", spec.spec_digest
        yield "directory", str(self.directory)
        yield "notices", str(self.notices)
        yield "host", LOOPBACK
        yield "started_at", str(self.started_at or "")
        yield "cwd", self._fill(spec.cwd)
        yield "confine", spec.confine
        yield "bwrap", self.bwrap or ""
        yield "memory_bytes", str(spec.memory_bytes or 0)
        yield "log_limit_bytes", str(spec.log_limit_bytes)
        yield "port", str(spec.port or 0)
        for argument in spec.argv:
            yield "arg", self._fill(argument)
        for name, value in self._environment().items():
            yield "env", f"{name}={value}"
        for name, value in spec.secrets.items():
            yield "secret", f"{name}={value}"
        for gpu in self.gpus:
            yield "gpu", gpu
        # Other replicas, and this one's own record, are no business of the server's.
        for path in (str(self.directory.parent), *spec.hidden):
            yield "hidden", self._fill(path)
        for path in (str(self.directory), *spec.readable):
            yield "readable", self._fill(path)
        for path in spec.writable:
            yield "writable", self._fill(path)
        for path, leads_to in spec.links:
            yield "link", self._fill(path)
            yield "link_to", leads_to
        for directory, appears_in in spec.copies:
            yield "copy", directory
            yield "copy_to", self._fill(appears_in)

    def _environment(self) -> Mapping[str, str]:
        own = {name: self._fill(value) for name, value in self.spec.env.items()}
        # Empty, not missing: a server for the CPU must not find a GPU that others pay for.
        if self.spec.path:
            rest = own.get("PATH") or self.base_env.get("PATH", "")
            own["PATH"] = ":".join([*map(self._fill, self.spec.path), *filter(None, [rest])])
        visible = {"CUDA_VISIBLE_DEVICES": ",".join(self.gpus)}
        return {**self.base_env, **own, **visible, **self.marks}

    def _fill(self, text: str) -> str:
        return text.replace("{replica_dir}", str(self.directory))


def base_environment(environ: Mapping[str, str]) -> Mapping[str, str]:
    """Return the part of an environment that servers may see."""
    return {name: environ[name] for name in _BASE_ENVIRONMENT if name in environ}


def spawn_shim(order: ShimOrder) -> tuple[ProcessName, int]:
    """Start the shim of a replica and return at once: its name and a pidfd of it.

    Raises OSError if the host refuses, ValueError if the order cannot be encoded.
    """
    argv = [sys.executable, "-I", "-S", str(SHIM)]
    order_fd = os.memfd_create("order")
    try:
        with open(order_fd, "wb", closefd=False) as file:
            file.write(order.encode())
        os.lseek(order_fd, 0, os.SEEK_SET)
        log = str(order.directory / "shim.log")
        pid = os.posix_spawn(
            argv[0],
            argv,
            {**order.base_env, **order.marks},
            file_actions=[
                (os.POSIX_SPAWN_DUP2, order_fd, 0),
                (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
                (os.POSIX_SPAWN_DUP2, 1, 2),
            ],
            setsigmask=_BLOCKED_AT_BIRTH,
            setsigdef=[signal.SIGPIPE, signal.SIGINT, signal.SIGTERM, signal.SIGHUP],
        )
    finally:
        os.close(order_fd)
    try:
        # Nobody else waits for this child, so the pid is still its own.
        return ProcessName(pid, start_ticks(pid), boot_id()), os.pidfd_open(pid)
    except OSError:
        os.kill(pid, signal.SIGKILL)  # no descriptor left to follow it with
        os.waitpid(pid, 0)
        raise


def _field(name: str, value: str) -> bytes:
    if "\0" in value:
        raise ValueError(f"the {name} of a replica holds a NUL character")
    return os.fsencode(f"{name}={value}\0")
