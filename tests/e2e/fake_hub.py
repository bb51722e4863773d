"""A Hugging Face hub on the loopback: one file of one repository, with ranges and credentials."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread


@dataclass
class Hub:
    """What is served, and what was asked."""

    url: str
    data: bytes
    commit: str = "c" * 40
    token: str = ""
    asked: list[tuple[str, str, str | None]] = field(default_factory=list)

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.data).hexdigest()


class _Server(ThreadingHTTPServer):
    hub: Hub


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_HEAD(self) -> None:
        self._answer(with_body=False)

    def do_GET(self) -> None:
        self._answer(with_body=True)

    def log_message(self, *_: object) -> None:
        pass

    def _answer(self, *, with_body: bool) -> None:
        hub, data = self.server.hub, self.server.hub.data
        hub.asked.append((self.command, self.path, self.headers.get("Authorization")))
        known = {f"/owner/repo/resolve/{at}/model.safetensors" for at in ("main", hub.commit)}
        if hub.token and self.headers.get("Authorization") != f"Bearer {hub.token}":
            self._refuse(401, "GatedRepo")
        elif self.path not in known:
            self._refuse(404, "EntryNotFound")
        else:
            wanted = self.headers.get("Range") or "bytes=0-"
            start = int(wanted.removeprefix("bytes=").split("-")[0])
            self.send_response(206 if start else 200)
            if start:
                self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            for name, value in (
                ("X-Repo-Commit", hub.commit),
                ("ETag", f'"{hub.sha256}"'),
                ("X-Linked-Etag", f'"{hub.sha256}"'),
                ("X-Linked-Size", str(len(data))),
                ("Content-Length", str(len(data) - start)),
            ):
                self.send_header(name, value)
            self.end_headers()
            if with_body:
                self.wfile.write(data[start:])

    def _refuse(self, status: int, code: str) -> None:
        self.send_response(status)
        self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


@contextmanager
def serving_hub(data: bytes) -> Iterator[Hub]:
    """Serve `owner/repo` with the file `model.safetensors` while the context lasts."""
    server = _Server(("127.0.0.1", 0), _Handler)
    server.hub = Hub(f"http://127.0.0.1:{server.server_address[1]}", data)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
