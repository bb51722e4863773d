"""A server that answers the command line as it was told to, on a real socket."""

import json
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, urlsplit

_LONGEST_HANG_S = 30.0


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that came."""

    method: str
    path: str
    query: Mapping[str, Sequence[str]]
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:  # noqa: ANN401 - the JSON border
        """The body as JSON."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Scripted:
    """An answer: whole, or in pieces. `breaks`: the connection ends before the answer does;
    `hangs`: nothing follows the pieces until the server closes; `breaks` without a status line
    is status 0."""

    status: int = 200
    body: bytes = b""
    pieces: tuple[bytes, ...] | None = None
    breaks: bool = False
    hangs: bool = False


@dataclass(slots=True)
class ControlServer:
    """Scripts by method and path; the last of a path's scripts is repeated."""

    url: str
    seen: list[Seen] = field(default_factory=list)
    _scripts: dict[tuple[str, str], list[Scripted]] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)
    closing: threading.Event = field(default_factory=threading.Event)

    def on(self, method: str, path: str, *answers: Scripted | Mapping[str, Any]) -> None:
        """Answer `method path` with these, one after the other; a mapping is a 200 with JSON."""
        scripts = [
            answer if isinstance(answer, Scripted) else Scripted(body=json.dumps(answer).encode())
            for answer in answers
        ]
        with self._lock:
            self._scripts.setdefault((method, path), []).extend(scripts)

    def take(self, request: Seen) -> Scripted:
        """The answer to a request; 404 as the real server says it."""
        with self._lock:
            self.seen.append(request)
            scripts = self._scripts.get((request.method, request.path))
            if not scripts:
                return refused(404, "not_found", f"there is no {request.method} {request.path}")
            return scripts.pop(0) if len(scripts) > 1 else scripts[0]

    def requests(self, method: str, path: str) -> list[Seen]:
        """What came for one route."""
        with self._lock:
            return [item for item in self.seen if (item.method, item.path) == (method, path)]


def refused(
    status: int, code: str, message: str, details: Mapping[str, Any] | None = None
) -> Scripted:
    """An error in the control API's shape."""
    error = {"code": code, "message": message, "details": dict(details or {})}
    return Scripted(status, json.dumps({"error": error}).encode())


def stream(
    *events: tuple[str, Mapping[str, Any]] | str, breaks: bool = False, hangs: bool = False
) -> Scripted:
    """Server-sent events: pairs of name and data; a text is a comment."""
    pieces = tuple(
        f": {event}\n\n".encode()
        if isinstance(event, str)
        else f"event: {event[0]}\ndata: {json.dumps(event[1])}\n\n".encode()
        for event in events
    )
    return Scripted(pieces=pieces, breaks=breaks, hangs=hangs)


@contextmanager
def control_server() -> Iterator[ControlServer]:
    """A scripted server on a free port of the loopback."""
    server = ControlServer(url="")

    class Handler(_Handler):
        control = server

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as listener:
        server.url = f"http://127.0.0.1:{listener.server_port}"
        thread = threading.Thread(target=listener.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            listener.shutdown()
            thread.join()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    control: ControlServer

    def handle_one_request(self) -> None:
        """As the base, for any method."""
        self.raw_requestline = self.rfile.readline(65537)
        if not self.raw_requestline or not self.parse_request():
            self.close_connection = True
            return
        parts = urlsplit(self.path)
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        answer = self.control.take(
            Seen(self.command, parts.path, parse_qs(parts.query), dict(self.headers), body)
        )
        self.close_connection = True
        if answer.status:
            self._answer(answer)

    def _answer(self, answer: Scripted) -> None:
        self.send_response(answer.status)
        if answer.pieces is None:
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)
            return
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for piece in answer.pieces:
            self.wfile.write(f"{len(piece):x}\r\n".encode() + piece + b"\r\n")
        if answer.hangs:
            self.control.closing.wait(_LONGEST_HANG_S)
        elif not answer.breaks:
            self.wfile.write(b"0\r\n\r\n")

    def log_message(self, *_: object) -> None:
        """Say nothing."""
