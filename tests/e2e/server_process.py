"""A comfyserve server as a process of its own, to be used and to be killed."""

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_START_TIMEOUT_S = 30.0
_STOP_TIMEOUT_S = 30.0


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, whatever its status."""

    status: int
    body: bytes
    headers: Mapping[str, str]

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(slots=True)
class ServerProcess:
    """One server on one home; it can be killed and started again at the same address."""

    home: Path
    port: int
    options: tuple[str, ...] = ()
    environment: Mapping[str, str] | None = None
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.home.parent / "server.log").read_text("utf-8", "replace")

    def start(self) -> None:
        argv = [
            sys.executable, "-m", "comfyserve.cli.main", "serve",
            "--home", str(self.home), "--port", str(self.port), *self.options,
        ]  # fmt: skip
        with (self.home.parent / "server.log").open("ab") as out:
            self.process = subprocess.Popen(
                argv,
                stdout=out,
                stderr=out,
                env={**os.environ, "COMFYSERVE_CONFIRM": "", **(self.environment or {})},
            )
        wait_until(self._is_up, _START_TIMEOUT_S, "the server answers")

    def kill(self) -> None:
        """`kill -9`, as a crash would."""
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """SIGTERM, as an operator would; return the exit code."""
        assert self.process is not None
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(_STOP_TIMEOUT_S)

    def deploy(self, name: str = "demo", **spec: Any) -> Any:
        reply = self.request("PUT", f"/api/v1/deployments/{name}", spec)
        assert reply.status in {200, 201}, reply.body
        return reply.json

    def get(self, path: str, **headers: str) -> Reply:
        return self.request("GET", path, headers=headers)

    def post(self, path: str, body: Any = None, **headers: str) -> Reply:
        return self.request("POST", path, body, headers=headers)

    def request(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None
    ) -> Reply:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            self.url + path, data=data, method=method, headers=dict(headers or {})
        )
        if data is not None:
            request.add_header("Content-Type", "application/json")
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return Reply(answer.status, answer.read(), dict(answer.headers))
        except urllib.error.HTTPError as error:
            with error:
                return Reply(error.code, error.read(), dict(error.headers))

    def replicas(self, name: str = "demo") -> list[Any]:
        found: list[Any] = self.get(f"/api/v1/replicas?deployment={name}").json["replicas"]
        return found

    def finished(self, job_id: str, timeout_s: float = 30.0) -> Any:
        """The job once it has ended."""
        found: list[Any] = []

        def has_ended() -> bool:
            found[:] = [self.get(f"/api/v1/jobs/{job_id}").json]
            return found[0]["state"] in {"succeeded", "failed", "canceled", "expired"}

        wait_until(has_ended, timeout_s, f"job {job_id} ends")
        return found[0]

    def _is_up(self) -> bool:
        assert self.process is not None
        assert self.process.poll() is None, f"the server ended:\n{self.log}"
        try:
            return self.get("/api/v1/health/ready").status == 200
        except (urllib.error.URLError, ConnectionError):
            return False


def wait_until(holds: Any, timeout_s: float, what: str) -> None:
    """Poll a condition of another process, with a deadline."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline, f"waited {timeout_s} s in vain until {what}"
        time.sleep(0.02)


@contextmanager
def serving(home: Path, port: int, *options: str, **environment: str) -> Iterator[ServerProcess]:
    """A server that runs while the context lasts; nothing of it is left behind."""
    home.parent.mkdir(parents=True, exist_ok=True)
    server = ServerProcess(home, port, options, environment)
    server.start()
    try:
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()


def picture(color: int, *, size: int = 8, prefix: str = "out") -> dict[str, Any]:
    """A prompt that saves one picture of one color."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": size, "height": size, "batch_size": 1, "color": color},
        },
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0], "filename_prefix": prefix}},
    }


def sleeping(seconds: float, tag: str = "") -> dict[str, Any]:
    """A prompt that takes its time; it can be interrupted four times a second."""
    steps = max(5, round(seconds * 4))
    return {
        "1": {
            "class_type": "TestingSleep",
            "inputs": {"seconds": seconds, "steps": steps, "previews": False, "tag": tag},
        },
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
