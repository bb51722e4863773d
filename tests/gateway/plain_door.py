"""A server with a plain deployment, and a client that hides nothing: raw sockets and headers."""

import http.client
import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import ServerProcess, serving, wait_until
from websockets.sync.client import ClientConnection, connect

ZOO = str(Path(__file__).parents[1] / "tools" / "zoo.py")


def command(*argv: str, **more: Any) -> dict[str, Any]:
    """The engine of a spec that runs a command of this Python."""
    return {"kind": "command", "command": [sys.executable, *argv], **more}


def zoo(**more: Any) -> dict[str, Any]:
    """The engine that runs the zoo."""
    return command(ZOO, "{port}", **more)


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back."""

    status: int
    headers: list[tuple[str, str]]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    def all(self, name: str) -> list[str]:
        return [value for key, value in self.headers if key.lower() == name]

    def header(self, name: str) -> str:
        [value] = self.all(name)
        return value


@dataclass(frozen=True, slots=True)
class Plain:
    """One plain deployment of a server."""

    server: ServerProcess
    name: str = "zoo"

    @property
    def path(self) -> str:
        return f"/d/{self.name}"

    def open(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[http.client.HTTPConnection, http.client.HTTPResponse]:
        """Send a request; the caller reads the answer, and closes."""
        connection = http.client.HTTPConnection("127.0.0.1", self.server.port, timeout=30)
        connection.request(method, self.path + path, body, dict(headers or {}))
        return connection, connection.getresponse()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """One whole exchange."""
        connection, answer = self.open(method, path, body, headers)
        try:
            return Answer(answer.status, answer.getheaders(), answer.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.call("GET", path, headers=headers)

    def socket(self, path: str = "/ws", **options: Any) -> ClientConnection:
        """A WebSocket to the deployment; the caller closes it."""
        url = f"ws://127.0.0.1:{self.server.port}{self.path}{path}"
        wire: ClientConnection = connect(url, open_timeout=30, compression=None, **options)
        return wire

    def log(self) -> list[str]:
        """What the zoo noted."""
        noted: list[str] = self.get("/log").json
        return noted

    def noted(self, line: str) -> None:
        """Wait until the zoo has noted a line."""
        wait_until(lambda: line in self.log(), 20, f"the zoo notes '{line}'")

    def state(self) -> Any:
        return self.server.get(f"/api/v1/deployments/{self.name}").json

    def replica_ids(self) -> list[str]:
        return [replica["id"] for replica in self.state()["replicas"]]

    def asleep(self) -> None:
        """Wait until no replica is left."""
        wait_until(lambda: not self.state()["replicas"], 30, f"{self.name} is asleep")


@contextmanager
def plain_server(home: Path, *options: str, **environment: str) -> Iterator[ServerProcess]:
    """A server on which nothing is deployed yet."""
    with serving(home, two_free_ports()[0], *options, **environment) as server:
        yield server
