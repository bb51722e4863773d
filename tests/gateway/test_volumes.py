"""Volumes: over HTTP and with the command line; nothing leads out of them, and nothing gets lost."""

import io
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.e2e.server_process import Reply, ServerProcess, serving
from tests.gateway.v2_door import unused_port

from comfyserve.cli.errors import ExitCode
from comfyserve.cli.main import run_command
from comfyserve.testing.command import Cli, Ran

pytestmark = pytest.mark.e2e

KEY = "0123456789abcdef"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server without volumes."""
    with serving(tmp_path_factory.mktemp("server") / "home", unused_port()) as server:
        yield server


@pytest.fixture
def volume(server: ServerProcess) -> Iterator[Path]:
    """The directory of an empty volume `weights`."""
    assert server.request("PUT", "/api/v1/volumes/weights").status == 201
    assert server.request("PUT", "/api/v1/volumes/weights").status == 200
    yield server.home / "volumes" / "weights"
    assert server.request("DELETE", "/api/v1/volumes/weights").status == 204
    assert not (server.home / "volumes" / "weights").exists()


@pytest.fixture
def cli(
    server: ServerProcess,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Cli:
    """Run a command against the server, in an empty directory."""
    monkeypatch.setenv("COMFYSERVE_URL", server.url)
    monkeypatch.setattr(sys, "stdin", io.StringIO())
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> Ran:
        capsys.readouterr()
        code = run_command(("volume", *arguments))
        captured = capsys.readouterr()
        return Ran(int(code), captured.out, captured.err)

    return run


def put(server: ServerProcess, path: str, data: bytes, **query: Any) -> Reply:
    """Send raw bytes, as they are."""
    fields = {"size_bytes": len(data), "key": KEY, **query}
    text = "&".join(f"{name}={value}" for name, value in fields.items())
    return raw(server, "PUT", f"/api/v1/volumes/weights/files/{path}?{text}", data)


def raw(server: ServerProcess, method: str, target: str, data: bytes = b"") -> Reply:
    """A request whose path no client library has tidied."""
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as link:
        head = f"{method} {target} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        link.sendall(f"{head}Content-Length: {len(data)}\r\n\r\n".encode() + data)
        answer = b"".join(iter(lambda: link.recv(65536), b""))
    status, _, rest = answer.partition(b" ")[2].partition(b" ")
    return Reply(int(status), rest.partition(b"\r\n\r\n")[2], {})


def names(server: ServerProcess, path: str = "/") -> list[str]:
    reply = server.get(f"/api/v1/volumes/weights/entries?path={path}")
    return [entry["name"] for entry in reply.json["entries"]]


def code_of(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json["error"]["code"]


def test_a_file_is_whole_or_not_there(server: ServerProcess, volume: Path) -> None:
    assert put(server, "loras/a.bin", b"123", size_bytes=6).json == {
        "received_bytes": 3,
        "is_complete": False,
    }
    assert names(server) == [], "what is not whole is not seen, nor is where it waits"
    begun = server.post(
        "/api/v1/volumes/weights/uploads", {"path": "/loras/a.bin", "size_bytes": 6, "key": KEY}
    )
    assert begun.json == {"received_bytes": 3, "is_complete": False}
    wrong = put(server, "loras/a.bin", b"456", size_bytes=6, offset=2)
    assert code_of(wrong) == (409, "upload_offset")
    assert code_of(put(server, "loras/a.bin", b"4567", size_bytes=6, offset=3)) == (
        400,
        "upload_too_long",
    )
    assert put(server, "loras/a.bin", b"456", size_bytes=6, offset=3).json["is_complete"]
    assert (volume / "loras" / "a.bin").read_bytes() == b"123456"
    kept = put(server, "loras/a.bin", b"other", overwrite="false")
    assert code_of(kept) == (409, "file_exists")
    assert put(server, "loras/a.bin", b"other").status == 200
    part = server.get("/api/v1/volumes/weights/files/loras/a.bin", Range="bytes=1-2")
    assert (part.status, part.body, part.headers["content-range"]) == (206, b"th", "bytes 1-2/5")
    assert part.headers["content-disposition"] == "attachment"
    assert put(server, "empty", b"").json == {"received_bytes": 0, "is_complete": True}
    assert (volume / "empty").read_bytes() == b""


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("../outside", 400),
        ("a/../../outside", 400),
        ("%2e%2e/outside", 400),
        ("a/%2e%2e/%2e%2e/outside", 400),
        ("..%2foutside", 400),
        (".comfyserve-uploads/x", 400),
        ("%00", 400),
        ("a%07b", 400),
        ("a/", 400),
        ("x" * 300, 400),
        ("leads-out/secret", 409),
        ("to-file", 409),
        ("pipe/x", 409),
    ],
)
def test_no_path_leads_out(server: ServerProcess, volume: Path, path: str, status: int) -> None:
    outside = server.home / "volumes" / "outside"
    secret = server.home / "secret"
    secret.write_text("keep out")
    (volume / "leads-out").symlink_to(server.home)
    (volume / "to-file").symlink_to(secret)
    os.mkfifo(volume / "pipe")
    assert put(server, path, b"mine").status == status
    assert raw(server, "GET", f"/api/v1/volumes/weights/files/{path}").status in {400, 404}
    listed = server.get("/api/v1/volumes/weights/entries?path=leads-out")
    assert listed.json["kind"] == "link", "a link is told, not followed"
    if status == 400:
        assert raw(server, "DELETE", f"/api/v1/volumes/weights/files/{path}").status in {400, 404}
    assert secret.read_text() == "keep out"
    assert not outside.exists()
    secret.unlink()


def test_a_link_in_the_place_of_uploads_is_not_followed(
    server: ServerProcess, volume: Path, tmp_path: Path
) -> None:
    (volume / ".comfyserve-uploads").symlink_to(tmp_path)
    assert code_of(put(server, "a", b"mine")) == (409, "not_a_directory")
    (volume / ".comfyserve-uploads").unlink()
    (volume / ".comfyserve-uploads").mkdir()
    (volume / ".comfyserve-uploads" / KEY).symlink_to(tmp_path / "planted")
    assert put(server, "a", b"mine").status == 409
    assert list(tmp_path.iterdir()) == []


def test_what_is_removed_and_moved(server: ServerProcess, volume: Path, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").touch()
    (volume / "a" / "b").mkdir(parents=True)
    (volume / "a" / "b" / "link").symlink_to(outside)
    (volume / "a" / "f").write_text("f")
    base = "/api/v1/volumes/weights"

    def moved(source: str, destination: str, **more: Any) -> Reply:
        body = {"source": source, "destination": destination, **more}
        return server.post(f"{base}/move", body)

    assert code_of(server.request("DELETE", f"{base}/files/a")) == (409, "directory_not_empty")
    assert code_of(server.request("DELETE", f"{base}/files/")) == (400, "invalid_path")
    assert code_of(server.request("DELETE", f"{base}/files/none")) == (404, "file_not_found")
    assert code_of(moved("a", "a/b/c")) == (400, "invalid_path")
    assert code_of(moved("a", "../a")) == (400, "invalid_path")
    assert code_of(moved("none", "x")) == (404, "file_not_found")
    (volume / "g").write_text("g")
    assert code_of(moved("g", "a/f")) == (409, "file_exists")
    assert moved("g", "a/f", overwrite=True).status == 204
    assert (volume / "a" / "f").read_text() == "g"
    assert moved("a", "deep/er/a").status == 204
    assert server.request("DELETE", f"{base}/files/deep?recursive=true").status == 204
    assert names(server) == []
    assert (outside / "kept").exists()
    assert server.request("PUT", f"{base}/directories/x/y").status == 204
    assert names(server, "x") == ["y"]
    assert code_of(server.get(f"{base}/entries?path=nowhere")) == (404, "file_not_found")


def test_long_directories_come_in_pages(server: ServerProcess, volume: Path) -> None:
    for number in range(5):
        (volume / f"{number}").touch()
    page = server.get("/api/v1/volumes/weights/entries?limit=2").json
    assert ([item["name"] for item in page["entries"]], page["next_after"]) == (["0", "1"], "1")
    page = server.get("/api/v1/volumes/weights/entries?limit=3&after=1").json
    assert ([item["name"] for item in page["entries"]], page["next_after"]) == (list("234"), None)


def test_files_go_there_and_back(cli: Cli, volume: Path, tmp_path: Path) -> None:
    (tmp_path / "models" / "loras").mkdir(parents=True)
    (tmp_path / "models" / "a.bin").write_bytes(os.urandom(3_000_000))
    (tmp_path / "models" / "loras" / "ü b.bin").write_bytes(b"lora")
    ran = cli("cp", "-r", "models", "weights:")
    assert ran.code == 0, ran.err
    assert "2 files copied, 2.9 MiB" in ran.err
    assert (volume / "models" / "loras" / "ü b.bin").read_bytes() == b"lora"
    assert cli("cp", "models/a.bin", "weights:/models/loras").code == 0
    assert cli("cp", "models/a.bin", "weights:/renamed.bin").code == 0
    listed = cli("ls", "weights:/models", "weights:/ren*", "--json").json["entries"]
    assert [(item["path"], item["kind"]) for item in listed] == [
        ("weights:/models/a.bin", "file"),
        ("weights:/models/loras", "directory"),
        ("weights:/renamed.bin", "file"),
    ]
    assert "weights:/models/loras/" in cli("ls", "weights:/models").out
    assert cli("mv", "weights:/models/loras/*.bin", "weights:/").code == 0
    assert cli("cp", "-r", "weights:/", "back/").code == 0
    assert (tmp_path / "back/weights/a.bin").read_bytes() == (
        tmp_path / "models/a.bin"
    ).read_bytes()
    assert cli("cp", "weights:/*.bin", ".").code == 0
    assert (tmp_path / "ü b.bin").read_bytes() == b"lora"
    assert cli("rm", "weights:/*.bin", "--yes").code == 0
    assert cli("rm", "-r", "weights:/models", "--yes").code == 0
    assert "nothing lies there" in cli("ls", "weights").err
    assert not list(tmp_path.rglob("*.part"))


def test_a_copy_that_broke_goes_on(
    cli: Cli, server: ServerProcess, volume: Path, tmp_path: Path
) -> None:
    data = os.urandom(2_000_000)
    (volume / "a.bin").write_bytes(data)
    assert cli("cp", "weights:/a.bin", "first.bin").code == 0
    entry = server.get("/api/v1/volumes/weights/entries?path=a.bin").json["entries"][0]
    assert entry["size_bytes"] == len(data)
    (tmp_path / "first.bin").rename(tmp_path / "whole.bin")
    broken = Cut(server)
    with broken:
        assert cli("cp", "weights:/a.bin", "first.bin", "--url", broken.url).code == ExitCode.FAILED
    (part,) = tmp_path.glob(".first.bin.*.part")
    held = part.stat().st_size
    assert 0 < held < len(data)
    assert cli("cp", "weights:/a.bin", "first.bin").code == 0
    assert (tmp_path / "first.bin").read_bytes() == data
    (volume / "a.bin").unlink()
    with broken:
        ran = cli("cp", "first.bin", "weights:/sent.bin", "--url", broken.url)
        assert ran.code == ExitCode.FAILED
    assert cli("cp", "first.bin", "weights:/sent.bin").code == 0
    assert (volume / "sent.bin").read_bytes() == data
    assert list((volume / ".comfyserve-uploads").iterdir()) == []


def test_what_cannot_be_meant_is_said(cli: Cli, volume: Path, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("a")
    (tmp_path / "d").mkdir()
    (volume / "a").write_text("there")
    (volume / "out").symlink_to(tmp_path)
    for arguments, code, said in (
        (("cp", "a", "b"), ExitCode.USAGE, "one side is here"),
        (("cp", "weights:/a", "weights:/b"), ExitCode.USAGE, "volume mv"),
        (("cp", "d", "weights:/"), ExitCode.USAGE, "--recursive"),
        (("cp", "a", "d", "weights:/b"), ExitCode.USAGE, "several sources"),
        (("cp", "none", "weights:/"), ExitCode.NOT_FOUND, "no file 'none'"),
        (("cp", "a", "weights:/"), ExitCode.REFUSED, "--force"),
        (("cp", "a", "nowhere:/"), ExitCode.NOT_FOUND, "there is: weights"),
        (("cp", "weights:/none", "x"), ExitCode.NOT_FOUND, "nothing at '/none'"),
        (("cp", "weights:/*.no", "x"), ExitCode.NOT_FOUND, "nothing matches"),
        (("cp", "weights:/a", "a"), ExitCode.REFUSED, "--force"),
        (("cp", "weights:/out", "x"), ExitCode.REFUSED, "not followed"),
        (("ls", "nowhere"), ExitCode.NOT_FOUND, "there is: weights"),
        (("mv", "weights:/a", "other:/a"), ExitCode.REFUSED, "different volumes"),
        (("rm", "weights:/", "--yes"), ExitCode.USAGE, "volume delete"),
        (("rm", "weights:/a"), ExitCode.USAGE, "--yes"),
        (("create", "../x"), ExitCode.USAGE, "name of a volume"),
        (("delete", "nowhere", "--yes"), ExitCode.NOT_FOUND, "there is: weights"),
    ):
        ran = cli(*arguments)
        assert ran.code == code, (arguments, ran.err)
        assert said in ran.err, (arguments, ran.err)
    assert (volume / "a").read_text() == "there"
    assert cli("cp", "-f", "a", "weights:/").code == 0
    assert (volume / "a").read_text() == "a"
    listed = cli("list", "--json").json
    assert [item["name"] for item in listed["volumes"]] == ["weights"]
    assert listed["volumes"][0]["id"].startswith("vo_")
    assert listed["free_bytes"] > 0
    assert "weights" in cli("list").out


def test_only_admins_touch_volumes(server: ServerProcess, volume: Path) -> None:
    made = server.post("/api/v1/tokens", {"name": "ci", "scopes": ["run"]}).json
    as_ci = {"Authorization": f"Bearer {made['secret']}"}
    (volume / "a").touch()
    for method, path in (
        ("GET", ""), ("GET", "/weights/entries"), ("GET", "/weights/files/a"),
        ("PUT", "/x"), ("DELETE", "/weights"), ("DELETE", "/weights/files/a"),
    ):  # fmt: skip
        reply = server.request(method, f"/api/v1/volumes{path}", headers=as_ci)
        assert code_of(reply) == (403, "missing_scope"), (method, path)


class Cut:
    """A server in front of the server that breaks each exchange after 700,000 bytes."""

    def __init__(self, server: ServerProcess) -> None:
        self._server = server
        self.port = unused_port()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", self.port))
        self._thread = threading.Thread(target=self._serve)
        self._thread.start()

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            try:
                here, _ = self._listener.accept()
            except OSError:
                return
            there = socket.create_connection(("127.0.0.1", self._server.port))
            pumps = [
                threading.Thread(target=self._pump, args=pair)
                for pair in ((here, there), (there, here))
            ]
            for pump in pumps:
                pump.start()
            for pump in pumps:
                pump.join()
            here.close()
            there.close()

    def _pump(self, source: socket.socket, sink: socket.socket) -> None:
        left = 700_000
        try:
            while left > 0 and (data := source.recv(min(65536, left))):
                sink.sendall(data)
                left -= len(data)
        except OSError:
            pass
        for end in (source, sink) if left <= 0 else (sink,):
            try:
                end.shutdown(socket.SHUT_RDWR if left <= 0 else socket.SHUT_WR)
            except OSError:
                continue
