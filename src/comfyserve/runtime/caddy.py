"""Caddy as a child process: configured, started, watched, restarted, stopped, its log lines ours."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
from collections import deque
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import msgspec
import structlog

from comfyserve.domain.errors import ComfyserveError, Conflict
from comfyserve.runtime.launchers.procs import (
    ProcessName,
    boot_id,
    has_ended,
    open_process,
    start_ticks,
)
from comfyserve.runtime.tasks import TaskScope

log = structlog.get_logger()

_START_S, _STOP_S = 30.0, 10.0
_LOOK_EACH_S = 0.1
_FIRST_PAUSE_S, _LONGEST_PAUSE_S = 1.0, 60.0
_SETTLED_S = 60.0
_KEPT_LINES = 20
_LINE_BYTES = 64 * 1024
# What Caddy may know of this process's environment: where things are, no tokens.
_ENVIRONMENT = ("PATH", "LANG", "TZ", "SSL_CERT_FILE", "SSL_CERT_DIR", "HTTPS_PROXY", "NO_PROXY")


class _Line(msgspec.Struct):
    """What we read of one of Caddy's log lines."""

    level: str = "info"
    msg: str = ""
    logger: str = ""
    error: str = ""


class Caddy:
    """One Caddy for as long as the context lasts; its files lie in `directory`."""

    def __init__(self, directory: Path, config: Mapping[str, Any], *, port: int) -> None:
        self._directory = directory
        self._config = config
        self._port = port
        self._process: asyncio.subprocess.Process | None = None
        self._lines: deque[str] = deque(maxlen=_KEPT_LINES)
        self._scope = TaskScope("caddy")

    async def __aenter__(self) -> Self:
        """Start it and wait until it listens. Raises ComfyserveError `caddy_missing`, `caddy_failed`."""
        await asyncio.to_thread(self._prepare)
        await self._start()
        try:
            async with asyncio.timeout(_START_S):
                await self._await_listening()
        except TimeoutError:
            await self._stop()
            raise self._failure(f"it did not listen on port {self._port} in time") from None
        except BaseException:
            await self._stop()
            raise
        self._scope.spawn(self._watch(), name="watch")
        log.info("Caddy serves HTTPS.", event_key="caddy_ready", port=self._port)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._scope.aclose()
        await self._stop()

    @property
    def pid(self) -> int | None:
        """The process that serves now."""
        return self._process.pid if self._process else None

    def _prepare(self) -> None:
        if shutil.which("caddy") is None:
            raise ComfyserveError(
                "there is no caddy on PATH, which has the certificates for --tls auto and internal: "
                "install it (apt install caddy), bring your own certificate (--tls files), or put "
                "a proxy of your own in front (--tls off, --trusted-proxies)",
                code="caddy_missing",
            )
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._directory / "caddy.json"
        path.write_text(json.dumps(self._config, indent=2), "utf-8")
        _end_orphan(self._directory / "caddy.pid")

    async def _start(self) -> None:
        path = self._directory / "caddy.json"
        environment = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        self._process = await asyncio.create_subprocess_exec(
            "caddy",
            "run",
            "--config",
            str(path),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
            env={**environment, "HOME": str(self._directory)},
            limit=_LINE_BYTES,
            start_new_session=True,
        )
        await asyncio.to_thread(_note, self._directory / "caddy.pid", self._process.pid)
        self._scope.spawn(self._read_log(self._process), name="log")

    async def _read_log(self, process: asyncio.subprocess.Process) -> None:
        assert process.stderr is not None  # noqa: S101 - a pipe was asked for
        while True:
            try:
                raw = await process.stderr.readline()
            except ValueError:
                continue  # A line that is too long is left out.
            if not raw:
                return
            self._tell(raw.decode("utf-8", "replace").strip())

    def _tell(self, text: str) -> None:
        try:
            line = msgspec.json.decode(text, type=_Line)
        except msgspec.MsgspecError:
            line = _Line(level="error", msg=text)
        shown = " ".join(filter(None, (line.msg, line.error)))
        self._lines.append(shown)
        if line.level in {"warn", "error", "fatal", "panic"}:
            log.warning("Caddy says.", event_key="caddy_log", source=line.logger, message=shown)

    async def _await_listening(self) -> None:
        assert self._process is not None  # noqa: S101 - it was started
        while True:
            if self._process.returncode is not None:
                raise self._failure(f"it ended with exit code {self._process.returncode}")
            try:
                _, writer = await asyncio.open_connection(self._address, self._port)
            except OSError:
                await asyncio.sleep(_LOOK_EACH_S)
                continue
            writer.close()
            return

    @property
    def _address(self) -> str:
        listen = self._config["apps"]["http"]["servers"]["https"]["listen"][0]
        return str(listen).rpartition(":")[0] or "127.0.0.1"

    async def _watch(self) -> None:
        """Begin it anew when it ends, after a pause that grows while it does not last."""
        loop, pause_s = asyncio.get_running_loop(), _FIRST_PAUSE_S
        while True:
            assert self._process is not None  # noqa: S101 - it was started
            began = loop.time()
            code = await self._process.wait()
            if loop.time() - began > _SETTLED_S:
                pause_s = _FIRST_PAUSE_S
            log.error(
                "Caddy ended; it is begun anew.",
                event_key="caddy_ended",
                exit_code=code,
                pause_s=pause_s,
                last_lines=list(self._lines)[-3:],
            )
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
            await self._start()

    async def _stop(self) -> None:
        process = self._process
        if process is not None and process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.terminate()
            try:
                async with asyncio.timeout(_STOP_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
        await self._scope.aclose()
        await asyncio.to_thread((self._directory / "caddy.pid").unlink, missing_ok=True)

    def _failure(self, what: str) -> ComfyserveError:
        lines = "; ".join(list(self._lines)[-3:])
        kind = Conflict if "bind" in lines else ComfyserveError
        hint = (
            " (low ports need a right: sysctl net.ipv4.ip_unprivileged_port_start=80, or other "
            "ports with --https-port and --http-port)"
            if "permission denied" in lines
            else ""
        )
        return kind(f"caddy does not serve: {what}: {lines}{hint}", code="caddy_failed")


def _note(path: Path, pid: int) -> None:
    name = ProcessName(pid, start_ticks(pid), boot_id())
    path.write_bytes(msgspec.json.encode(name))


def _end_orphan(path: Path) -> None:
    """End the Caddy of a server that was killed: it holds the ports. Blocks."""
    try:
        name = msgspec.json.decode(path.read_bytes(), type=ProcessName)
    except (FileNotFoundError, msgspec.MsgspecError):
        return
    pidfd = open_process(name)
    if pidfd is None:
        return
    try:
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        has_ended(pidfd, timeout_s=_STOP_S)
    except ProcessLookupError:
        return
    finally:
        os.close(pidfd)
