"""A client of the typed door that hides nothing, and what the tests publish."""

import http.client
import io
import json
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from PIL import Image
from tests.e2e.server_process import ServerProcess, serving, wait_until

ENDED = frozenset({"succeeded", "failed", "canceled", "expired"})


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
    def error(self) -> Any:
        """The error of an envelope that is whole."""
        error = self.json["error"]
        assert set(error) == {"code", "message", "details"}
        assert error["message"]
        return error

    @property
    def refusal(self) -> tuple[int, str]:
        """Status and code."""
        return self.status, self.error["code"]

    @property
    def problems(self) -> list[tuple[str, str]]:
        """Input and code of each problem."""
        return [(each["input"], each["code"]) for each in self.error["details"]["problems"]]


@dataclass(frozen=True, slots=True)
class Door:
    """The typed door of one deployment."""

    server: ServerProcess
    base: str = ""
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
            body, sent = json.dumps(body).encode(), {"Content-Type": "application/json", **sent}
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=60)
        try:
            connection.request(method, self.base + path, body, sent)
            answer = connection.getresponse()
            headers = {name.lower(): value for name, value in answer.getheaders()}
            return Answer(answer.status, headers, answer.read())
        finally:
            connection.close()

    def fetch(self, url: str, headers: Mapping[str, str] | None = None) -> Answer:
        """GET an absolute URL of this server as a browser does: without a token."""
        parts = urlsplit(url)
        query = f"?{parts.query}" if parts.query else ""
        return Door(self.server).call("GET", f"{parts.path}{query}", None, headers)

    def publish(self, name: str, workflow: Any, **fields: Any) -> Any:
        """Publish what must be accepted."""
        answer = self.call("PUT", f"/api/v1/endpoints/{name}", {"workflow": workflow, **fields})
        assert answer.status in {200, 201}, answer.body
        return answer.json

    def run(self, name: str, inputs: Any = None, **headers: str) -> Any:
        """Run an endpoint; the job, however far it is."""
        sent = {key.replace("_", "-"): value for key, value in headers.items()}
        answer = self.call("POST", f"/run/{name}", inputs or {}, sent)
        assert answer.status in {200, 202}, answer.body
        return answer.json

    def job(self, job_id: str) -> Any:
        """The job as it stands."""
        answer = self.call("GET", f"/jobs/{job_id}")
        assert answer.status == 200, answer.body
        return answer.json

    def ended(self, job_id: str, timeout_s: float = 30.0) -> Any:
        """The job once it has ended."""
        wait_until(lambda: self.job(job_id)["state"] in ENDED, timeout_s, "the job ends")
        return self.job(job_id)

    def running(self, job_id: str) -> Any:
        """The job once it runs."""
        wait_until(lambda: self.job(job_id)["state"] == "running", 30, "the job runs")
        return self.job(job_id)

    def events(self, job_id: str, headers: Mapping[str, str] | None = None) -> list["Event"]:
        """The whole story, to where the server ends it."""
        answer = self.call("GET", f"/jobs/{job_id}/events", None, headers)
        assert answer.status == 200, answer.body
        assert answer.headers["content-type"].startswith("text/event-stream")
        return list(read_events(answer.body))


@dataclass(frozen=True, slots=True)
class Event:
    """One server-sent event."""

    name: str
    data: Any
    id: str | None


def read_events(body: bytes) -> Iterator[Event]:
    """Events with their data; comments are left out."""
    for block in body.decode().split("\n\n"):
        lines = [line for line in block.split("\n") if line and not line.startswith(":")]
        if lines:
            fields = dict(line.split(": ", 1) for line in lines)
            assert set(fields) <= {"event", "data", "id", "retry"}
            if "event" in fields:
                yield Event(fields["event"], json.loads(fields["data"]), fields.get("id"))


def form(
    fields: Mapping[str, Any],
    files: Mapping[str, tuple[str, bytes]] | None = None,
    *,
    cut: int = 0,
) -> tuple[bytes, dict[str, str]]:
    """A multipart body and its headers; `cut` bytes are missing at its end."""
    boundary = uuid.uuid4().hex
    parts = [
        f'Content-Disposition: form-data; name="{name}"\r\n\r\n{value}'.encode()
        for name, value in fields.items()
    ]
    for name, (filename, data) in (files or {}).items():
        head = f'Content-Disposition: form-data; name="{name}"; filename="{filename}"\r\n\r\n'
        parts.append(head.encode() + data)
    body = b"".join(b"--" + boundary.encode() + b"\r\n" + part + b"\r\n" for part in parts)
    body += b"--" + boundary.encode() + b"--\r\n"
    content_type = f"multipart/form-data; boundary={boundary}"
    return body[: len(body) - cut], {"Content-Type": content_type}


@contextmanager
def typed_door(home: Path, port: int, **environment: str) -> Iterator[Door]:
    """A server with one deployment that sleeps."""
    with serving(home, port, **environment) as server:
        server.deploy("demo", scaling={"idle_timeout_s": 30})
        yield Door(server)


def png(colour: tuple[int, int, int], size: int = 8) -> bytes:
    """A picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (size, size), colour).save(buffer, "PNG")
    return buffer.getvalue()


def colour_of(data: bytes) -> Any:
    """The colour of a picture that has one."""
    return Image.open(io.BytesIO(data)).convert("RGB").getpixel((0, 0))


def painting() -> dict[str, Any]:
    """A workflow that paints one colour: width, height, color, batch_size."""
    return {
        "1": {
            "class_type": "EmptyImage",
            "inputs": {"width": 8, "height": 8, "batch_size": 1, "color": 0x102030},
            "_meta": {"title": "Canvas"},
        },
        "2": {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "typed"},
            "_meta": {"title": "Result"},
        },
    }


def inverting() -> dict[str, Any]:
    """A workflow that inverts a picture that the caller gives."""
    return {
        "1": {"class_type": "LoadImage", "inputs": {"image": "absent.png"}},
        "2": {"class_type": "ImageInvert", "inputs": {"image": ["1", 0]}},
        "3": {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "inv"}},
    }
