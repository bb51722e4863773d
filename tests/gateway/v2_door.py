"""A client of the v2 door that hides nothing: any method, any bytes, any header."""

import http.client
import json
import socket
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tests.e2e.server_process import ServerProcess, serving, wait_until

ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})
JSON = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and code, of an envelope that is whole."""
        error = self.json["error"]
        assert set(error) == {"code", "message", "details"}
        assert error["message"]
        return self.status, error["code"]


@dataclass(frozen=True, slots=True)
class Door:
    """The door of one deployment."""

    server: ServerProcess
    base: str = "/api/v2"
    token: str = ""

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One exchange; a body that is not bytes goes as JSON."""
        sent = dict(headers or {})
        if self.token:
            sent["Authorization"] = f"Bearer {self.token}"
        if body is not None and not isinstance(body, bytes):
            body, sent = json.dumps(body).encode(), {**JSON, **sent}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        try:
            connection.request(method, self.base + path, body, sent)
            answer = connection.getresponse()
            read = Answer(answer.status, dict(answer.getheaders()), answer.read())
        finally:
            connection.close()
        assert read.headers.get("x-comfy-request-id"), path
        return read

    def fetch(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET an absolute URL of this server as a browser does: without a token."""
        parts = urlsplit(url)
        plain = Door(self.server, "")
        return plain.call("GET", f"{parts.path}?{parts.query}", None, headers)

    def submit(self, workflow: Mapping[str, Any], **fields: Any) -> Any:
        """Submit what must be accepted; the job."""
        answer = self.call("POST", "/jobs", {"workflow": workflow, **fields})
        assert answer.status == 201, answer.body
        return answer.json

    def job(self, job_id: str) -> Any:
        """The job as it stands."""
        answer = self.call("GET", f"/jobs/{job_id}")
        assert answer.status == 200, answer.body
        return answer.json

    def ended(self, job_id: str, timeout_s: float = 30.0) -> Any:
        """The job once it has ended."""
        wait_until(lambda: self.job(job_id)["status"] in ENDED, timeout_s, "the job ends")
        return self.job(job_id)

    def running(self, job_id: str) -> Any:
        """The job once it runs."""
        wait_until(lambda: self.job(job_id)["status"] == "running", 30, "the job runs")
        return self.job(job_id)

    def upload(self, data: bytes, file_path: str, **fields: Any) -> Answer:
        """Upload a file; `tags` may be a list. Fields that are None are left out."""
        key = fields.pop("key", None)
        all_fields = {"content_type": "image/png", "file_path": file_path, **fields}
        body, content_type = form(all_fields, data, file_path)
        headers = {"Content-Type": content_type}
        if key is not None:
            headers["Idempotency-Key"] = key
        return self.call("POST", "/assets", body, headers)

    def events(self, job_id: str) -> list[tuple[str, Any]]:
        """The whole story, to where the server ends it."""
        answer = self.call("GET", f"/jobs/{job_id}/events")
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(read_events(answer.body))


def read_events(body: bytes) -> Iterator[tuple[str, Any]]:
    """Events with their data; comments are left out."""
    for block in body.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            fields = dict(line.split(": ", 1) for line in lines)
            assert set(fields) == {"event", "data"}
            yield fields["event"], json.loads(fields["data"])


def form(
    fields: Mapping[str, Any], data: bytes | None, filename: str, *, cut: int = 0
) -> tuple[bytes, str]:
    """A multipart body and its content type; `cut` bytes are missing at its end."""
    boundary = uuid.uuid4().hex
    parts = []
    for name, value in fields.items():
        if value is None:
            continue
        head = f'Content-Disposition: form-data; name="{name}"\r\n\r\n'
        parts += [
            f"{head}{each}".encode() for each in (value if isinstance(value, list) else [value])
        ]
    if data is not None:
        head = f'Content-Disposition: form-data; name="file"; filename="{filename}"\r\n\r\n'
        parts.append(head.encode() + data)
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    body += b"--" + boundary.encode() + b"--\r\n"
    return body[: len(body) - cut], f"multipart/form-data; boundary={boundary}"


@contextmanager
def v2_door(home: Path, port: int, **spec: Any) -> Iterator[Door]:
    """A server with one deployment that sleeps."""
    with serving(home, port, COMFYSERVE_RETENTION_S="2592000") as server:
        server.deploy("demo", **spec)
        yield Door(server)


def unused_port() -> int:
    """A port of the loopback, for a fixture that outlives a test."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
