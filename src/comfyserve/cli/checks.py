"""What `doctor` looks at on this machine: one function a check, each finding with its remedy."""

import errno
import fcntl
import os
import shutil
import socket
import subprocess
import sys
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from comfyserve import __version__
from comfyserve.cli.answers import Ready
from comfyserve.cli.client import Client
from comfyserve.cli.errors import Unreachable
from comfyserve.cli.units import count_text, size_text
from comfyserve.domain.errors import ComfyserveError
from comfyserve.runtime.gpus import Inventory
from comfyserve.store.home import read_holder

_PYTHON = (3, 11)
_GIB = 1024**3
_LEAST_BYTES, _GOOD_BYTES = _GIB // 2, 10 * _GIB
_TRIAL_S = 10.0


class Level(StrEnum):
    """How much a finding matters."""

    OK = "ok"
    WARNING = "warning"
    PROBLEM = "problem"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `mend` says what to do about it."""

    name: str
    level: Level
    detail: str
    mend: str = ""


def check_python(version: tuple[int, int, int]) -> Finding:
    """The Python that comfyserve itself runs on."""
    detail = f"{'.'.join(map(str, version))} at {sys.executable}"
    if version[:2] >= _PYTHON:
        return Finding("python", Level.OK, detail)
    wanted = ".".join(map(str, _PYTHON))
    return Finding("python", Level.PROBLEM, detail, f"use Python {wanted} or newer")


def check_gpus(inventory: Inventory) -> Finding:
    """The GPUs that deployments may ask for."""
    if inventory.gpus:
        shown = ", ".join(
            f"{gpu.type} ({size_text(gpu.memory_bytes)})" if gpu.memory_bytes else gpu.type
            for gpu in inventory.gpus
        )
        if inventory.problem:
            mend = "look at `nvidia-smi`; a GPU that fell off the bus needs a restart of the host"
            return Finding("gpu", Level.WARNING, f"{shown}; {inventory.problem}", mend)
        return Finding("gpu", Level.OK, shown)
    why = inventory.problem or "the driver lists none"
    mend = "replicas run on the CPU; for a GPU install NVIDIA's driver, then try `nvidia-smi`"
    return Finding("gpu", Level.WARNING, f"none ({why})", mend)


def check_bubblewrap(confine: str) -> Finding:
    """What engines are confined with; `confine` is the setting: auto, on or off."""
    if confine == "off":
        mend = "custom nodes can read what this user can; set COMFYSERVE_CONFINE=auto"
        return Finding("bubblewrap", Level.WARNING, "engines are not confined, as set", mend)
    missing = Level.PROBLEM if confine == "on" else Level.WARNING
    path = shutil.which("bwrap")
    if path is None:
        mend = "install it: apt install bubblewrap (until then engines are not confined)"
        return Finding("bubblewrap", missing, "there is no bwrap on PATH", mend)
    trial = [path, "--ro-bind", "/", "/", "--dev", "/dev", "--unshare-pid", "--", "/bin/true"]
    try:
        done = subprocess.run(trial, capture_output=True, timeout=_TRIAL_S, check=False)  # noqa: S603
    except (OSError, subprocess.TimeoutExpired) as error:
        return Finding("bubblewrap", missing, f"{path} cannot be run: {error}", "reinstall it")
    if done.returncode:
        why = done.stderr.decode("utf-8", "replace").strip() or f"exit code {done.returncode}"
        mend = "allow unprivileged user namespaces, or run outside of a container that forbids them"
        return Finding("bubblewrap", missing, why, mend)
    return Finding("bubblewrap", Level.OK, path)


def check_home(home: Path) -> Finding:
    """Whether a server could keep its things there, and whether one does."""
    existing = next(path for path in (home, *home.parents) if path.exists())
    if not (existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)):
        mend = f"make {existing} writable for this user, or choose another with --home"
        return Finding("home", Level.PROBLEM, f"{home} cannot be written", mend)
    if _is_held(home):
        holder = read_holder(home)
        who = f"process {holder.pid} at {holder.url}" if holder else "a server"
        return Finding("home", Level.OK, f"{home}, held by {who}")
    return Finding("home", Level.OK, f"{home}{'' if existing == home else ', made when needed'}")


def check_disk(home: Path) -> Finding:
    """The room for outputs, logs and the database."""
    existing = next(path for path in (home, *home.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    detail = f"{size_text(free)} free for {home}"
    if free >= _GOOD_BYTES:
        return Finding("disk", Level.OK, detail)
    level = Level.PROBLEM if free < _LEAST_BYTES else Level.WARNING
    return Finding("disk", level, detail, "make room, or choose a larger disk with --home")


def check_server(client: Client) -> tuple[Finding, Ready | None]:
    """Whether a server answers where the command line looks for it."""
    try:
        ready = client.ready(timeout_s=_TRIAL_S).value
    except Unreachable:
        mend = "start one with `comfyserve serve`, or set COMFYSERVE_URL"
        return Finding("server", Level.WARNING, f"none at {client.url}", mend), None
    except ComfyserveError as error:
        return Finding("server", Level.PROBLEM, error.message, "look at its log"), None
    detail = (
        f"{ready.version} at {client.url}: {count_text(ready.deployments, 'deployment')}, "
        f"{count_text(ready.replicas, 'replica')}, "
        f"{count_text(ready.jobs.queued, 'job')} queued, {ready.jobs.running} running"
    )
    if ready.version != __version__:
        mend = f"this command is {__version__}: update the older one"
        return Finding("server", Level.WARNING, detail, mend), ready
    return Finding("server", Level.OK, detail), ready


def check_port(host: str, port: int, *, is_ours: bool) -> Finding:
    """Whether a server could listen; `is_ours`: the one that does is a comfyserve."""
    where = f"{host}:{port}"
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as trial:
        trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            trial.bind((host, port))
        except OSError as error:
            if error.errno == errno.EADDRINUSE and is_ours:
                return Finding("port", Level.OK, f"{where} is the server's")
            why = "in use by another program" if error.errno == errno.EADDRINUSE else error.strerror
            mend = "choose another with --port or COMFYSERVE_PORT"
            return Finding("port", Level.PROBLEM, f"{where}: {why}", mend)
    return Finding("port", Level.OK, f"{where} is free")


def _is_held(home: Path) -> bool:
    try:
        with (home / "lock").open("rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
