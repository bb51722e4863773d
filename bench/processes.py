"""The two things that are measured: a plain engine process, and a whole comfyserve server."""

import asyncio
import json
import os
import signal
import socket
import sys
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp

START_TIMEOUT_S = 180.0
_STOP_TIMEOUT_S = 30.0
_CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
_NODES = Path(__file__).parent / "comfyui" / "extra_model_paths.yaml"
_COMFYUI_ARGS = ["--extra-model-paths-config", str(_NODES)]


@dataclass(frozen=True, slots=True)
class EngineUnderTest:
    """Which engine runs on both sides: the embedded one, or a ComfyUI directory."""

    comfyui_dir: str | None = None
    python: str | None = None

    @property
    def is_real(self) -> bool:
        """Whether it is ComfyUI itself."""
        return self.comfyui_dir is not None

    def command(self, port: int, directory: Path) -> tuple[list[str], str]:
        """How the engine is started by hand: argv and working directory."""
        shared = [
            "--listen", "127.0.0.1", "--port", str(port),
            "--output-directory", str(directory / "output"),
            "--temp-directory", str(directory),
            "--input-directory", str(directory / "input"),
            "--user-directory", str(directory / "user"),
        ]  # fmt: skip
        for name in ("output", "input", "user"):
            (directory / name).mkdir(parents=True, exist_ok=True)
        if self.comfyui_dir is None:
            return [sys.executable, "-m", "comfyserve.engine", *shared], str(directory)
        database = ["--database-url", "sqlite:///:memory:", "--disable-auto-launch", "--cpu"]
        command = [self.python or "python3", "-u", "main.py", *shared, *database, *_COMFYUI_ARGS]
        return command, self.comfyui_dir

    def spec(self, *, max_replicas: int, idle_timeout_s: float) -> dict[str, object]:
        """The same engine as a deployment."""
        engine: dict[str, object] = {"kind": "embedded"}
        if self.comfyui_dir is not None:
            engine = {
                "kind": "comfyui",
                "comfyui_dir": self.comfyui_dir,
                "python": self.python,
                "args": _COMFYUI_ARGS,
            }
        return {
            "engine": engine,
            "scaling": {"max_replicas": max_replicas, "idle_timeout_s": idle_timeout_s},
            "limits": {"max_queue": 100_000},
        }


@dataclass(slots=True)
class Running:
    """A process that answers at `url`."""

    url: str
    process: asyncio.subprocess.Process


@asynccontextmanager
async def plain_engine(engine: EngineUnderTest) -> AsyncIterator[Running]:
    """The engine alone, ready."""
    with tempfile.TemporaryDirectory() as directory:
        port = free_port()
        argv, cwd = engine.command(port, Path(directory))
        async with _process(argv, cwd) as process:
            url = f"http://127.0.0.1:{port}"
            await answering(f"{url}/prompt", process)
            yield Running(url, process)


@asynccontextmanager
async def server(engine: EngineUnderTest, *, max_replicas: int = 1) -> AsyncIterator[Running]:
    """A comfyserve server with the engine deployed as `bench`."""
    with tempfile.TemporaryDirectory() as home:
        port = free_port()
        argv = [
            sys.executable, "-m", "comfyserve.cli.main", "serve",
            "--home", home, "--port", str(port),
        ]  # fmt: skip
        async with _process(argv, home) as process:
            url = f"http://127.0.0.1:{port}"
            await answering(f"{url}/api/v1/health/ready", process)
            spec = engine.spec(max_replicas=max_replicas, idle_timeout_s=3600)
            async with (
                aiohttp.ClientSession() as session,
                session.put(f"{url}/api/v1/deployments/bench", json=spec) as answer,
            ):
                if answer.status >= 300:
                    raise RuntimeError(f"deploy failed: {await answer.text()}")
            yield Running(url, process)


async def answering(url: str, process: asyncio.subprocess.Process) -> None:
    """Wait until a GET answers 200, polling as tightly as comfyserve itself does."""
    async with asyncio.timeout(START_TIMEOUT_S), aiohttp.ClientSession() as session:
        while True:
            if process.returncode is not None:
                raise RuntimeError(f"the process of {url} ended with {process.returncode}")
            try:
                async with session.get(url) as answer:
                    if answer.status == 200:
                        return
            except aiohttp.ClientError:
                pass
            await asyncio.sleep(0.005)


async def replicas_of(url: str) -> int:
    """How many replicas of the benchmark's deployment live."""
    async with (
        aiohttp.ClientSession() as session,
        session.get(f"{url}/api/v1/deployments/bench") as answer,
    ):
        return len(json.loads(await answer.read())["replicas"])


async def put_to_sleep(url: str) -> None:
    """Stop all replicas of a server, and wait until they are gone."""
    async with aiohttp.ClientSession() as session:
        async with session.get(f"{url}/api/v1/replicas") as answer:
            found = json.loads(await answer.read())["replicas"]
        for replica in found:
            await session.post(f"{url}/api/v1/replicas/{replica['id']}/stop")
        while await replicas_of(url):  # noqa: ASYNC110 - another process
            await asyncio.sleep(0.02)


def cpu_seconds(pid: int) -> float:
    """What a process has used so far, all its threads, user and system."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _CLOCK_TICKS


def rss_bytes(pid: int) -> int:
    """What a process holds in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


def free_port() -> int:
    """A port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@asynccontextmanager
async def _process(argv: list[str], cwd: str) -> AsyncIterator[asyncio.subprocess.Process]:
    log = Path(tempfile.gettempdir()) / "comfyserve-bench.log"
    with log.open("ab") as out:
        process = await asyncio.create_subprocess_exec(
            *argv, cwd=cwd, stdout=out, stderr=out, env={**os.environ, "PYTHONUNBUFFERED": "1"}
        )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.send_signal(signal.SIGTERM)
            try:
                await asyncio.wait_for(process.wait(), _STOP_TIMEOUT_S)
            except TimeoutError:
                process.kill()
                await process.wait()
