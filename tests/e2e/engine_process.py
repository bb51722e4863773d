"""Starts engines as processes, the way a launcher does, and talks to them."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

_READY = "To see the GUI go to: "
_TIMEOUT_S = 30.0


@dataclass
class Reply:
    """An HTTP answer."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        return json.loads(self.body)


@dataclass
class EngineProcess:
    """A running engine."""

    process: subprocess.Popen[str]
    directory: Path
    url: str = ""
    lines: list[str] = field(default_factory=list)
    _reader: threading.Thread | None = None

    @property
    def port(self) -> int:
        """Where it listens."""
        return int(self.url.rpartition(":")[2])

    def wait_ready(self) -> None:
        """Read the log until it says where the engine listens."""
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))
            if line.startswith(_READY):
                self.url = line.removeprefix(_READY).strip()
                break
        else:
            raise RuntimeError("the engine ended:\n" + "\n".join(self.lines))
        self._reader = threading.Thread(target=self._drain, daemon=True)
        self._reader.start()

    def _drain(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            self.lines.append(line.rstrip("\n"))

    def request(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        """Send a request; `body` goes as JSON, unless it is bytes."""
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        request = Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urlopen(request, timeout=_TIMEOUT_S) as reply:
                return Reply(reply.status, dict(reply.headers), reply.read())
        except HTTPError as error:
            with error:
                return Reply(error.code, dict(error.headers), error.read())

    def get(self, path: str, **headers: str) -> Reply:
        """GET."""
        return self.request("GET", path, **headers)

    def post(self, path: str, body: Any = None) -> Reply:
        """POST."""
        return self.request("POST", path, b"" if body is None else body)

    def submit(self, prompt: dict[str, Any], **more: Any) -> str:
        """Queue a prompt; return its id."""
        reply = self.post("/prompt", {"prompt": prompt, **more})
        assert reply.status == 200, reply.body
        prompt_id: str = reply.json["prompt_id"]
        return prompt_id

    def run(self, prompt: dict[str, Any], **more: Any) -> dict[str, Any]:
        """Run a prompt to its end; return its history entry."""
        return self.finish(self.submit(prompt, **more))

    def start(self, prompt: dict[str, Any], **more: Any) -> str:
        """Queue a prompt and wait until it runs; return its id."""
        prompt_id = self.submit(prompt, **more)
        wait_until(
            lambda: prompt_id in [item[1] for item in self.get("/queue").json["queue_running"]]
        )
        return prompt_id

    def finish(self, prompt_id: str) -> dict[str, Any]:
        """Wait until a prompt is over; return its history entry."""
        wait_until(lambda: self.get(f"/history/{prompt_id}").json != {})
        entry: dict[str, Any] = self.get(f"/history/{prompt_id}").json[prompt_id]
        return entry

    def end(self, number: int = signal.SIGTERM, timeout_s: float = 10.0) -> int:
        """Send a signal and return the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(timeout_s)
        if self._reader is not None:
            self._reader.join(timeout_s)
        return code


def wait_until(is_so: Callable[[], bool]) -> None:
    """Look again and again, for half a minute at most."""
    pause = threading.Event()
    for _ in range(int(_TIMEOUT_S / 0.01)):
        if is_so():
            return
        pause.wait(0.01)
    raise TimeoutError


@contextmanager
def starting(directory: Path, *arguments: str) -> Iterator[EngineProcess]:
    """Start an engine in a directory without waiting for it; it is killed at the end."""
    command = [sys.executable, "-m", "comfyserve.engine", "--port", "0"]
    process = subprocess.Popen(
        [*command, "--base-directory", str(directory), *arguments],
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield EngineProcess(process, directory)
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


@contextmanager
def running(directory: Path, *arguments: str) -> Iterator[EngineProcess]:
    """Start an engine and wait until it listens."""
    with starting(directory, *arguments) as engine:
        engine.wait_ready()
        yield engine
        engine.end()
