"""HTTPS from files: the chain verifies, deployments have their names, renewed files count."""

import asyncio
import http.client
import ssl
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from tests.e2e.server_process import ServerProcess, serving
from tests.gateway.https_client import Authority, HttpsClient
from tests.gateway.v2_door import unused_port

from comfyserve.domain.errors import Conflict, InvalidInput
from comfyserve.gateway.certificates import CertificateFiles
from comfyserve.gateway.listeners import bind
from comfyserve.settings import Settings

DOMAIN, PROXY = "gpu.test", "127.0.0.2"


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the certificates lie."""
    return tmp_path_factory.mktemp("tls")


@pytest.fixture(scope="module")
def authority(directory: Path) -> Authority:
    """Who made them."""
    made = Authority(directory)
    made.issue(directory, DOMAIN, f"*.{DOMAIN}")
    return made


@pytest.fixture(scope="module")
def server(
    tmp_path_factory: pytest.TempPathFactory, directory: Path, authority: Authority
) -> Iterator[ServerProcess]:
    """A server with HTTPS on a high port, and the deployment `demo`."""
    options = (
        *("--domain", DOMAIN, "--tls", "files", "--public-host", "127.0.0.1", "--hsts-s", "600"),
        *("--trusted-proxies", PROXY),
        *("--cert", str(directory / "cert.pem"), "--key", str(directory / "key.pem")),
        *("--https-port", str(unused_port()), "--http-port", str(unused_port())),
    )
    home = tmp_path_factory.mktemp("server") / "home"
    with serving(home, unused_port(), *options) as server:
        server.deploy("demo")
        yield server


@pytest.fixture
def client(server: ServerProcess, authority: Authority) -> HttpsClient:
    """A client that verifies."""
    return HttpsClient(int(option(server, "--https-port")), authority.path)


@pytest.fixture(scope="module")
def token(server: ServerProcess) -> dict[str, str]:
    """The header of somebody who may read."""
    made = server.post("/api/v1/tokens", {"name": "x", "scopes": ["read"]}).json
    return {"Authorization": f"Bearer {made['secret']}"}


def option(server: ServerProcess, name: str) -> str:
    return server.options[server.options.index(name) + 1]


def test_each_deployment_has_its_name(client: HttpsClient, token: dict[str, str]) -> None:
    queue = client.get(f"demo.{DOMAIN}", "/queue", **token)
    assert (queue.status, queue.json) == (200, {"queue_running": [], "queue_pending": []})
    assert queue.headers["strict-transport-security"] == "max-age=600; includeSubDomains"
    shown = client.get(DOMAIN, "/api/v1/deployments/demo", **token).json
    assert shown["url"] == f"https://demo.{DOMAIN}:{client.port}/"
    assert client.get(DOMAIN, "/api/v1/deployments").status == 401, "a tunnel may end here"
    unknown = client.get(f"none.{DOMAIN}", "/queue", **token)
    assert unknown.status == 404
    assert "there is: demo" in unknown.json["error"]["message"]
    with pytest.raises(ssl.SSLCertVerificationError):
        client.get("demo.other.test", "/queue")


def test_plain_http_leads_there(server: ServerProcess, client: HttpsClient) -> None:
    connection = http.client.HTTPConnection(
        "127.0.0.1", int(option(server, "--http-port")), timeout=30
    )
    connection.request("GET", "/view?filename=a", headers={"Host": f"demo.{DOMAIN}"})
    answer = connection.getresponse()
    connection.close()
    assert answer.status == 308
    wanted = f"https://demo.{DOMAIN}:{client.port}/view?filename=a"
    assert answer.headers["Location"] == wanted


class Here(AbstractResolver):
    """Every name is this machine."""

    async def resolve(self, host: str, port: int = 0, family: int = 0) -> list[ResolveResult]:
        return [
            ResolveResult(hostname=host, host="127.0.0.1", port=port, family=2, proto=0, flags=0)
        ]

    async def close(self) -> None:
        """Nothing to close."""


async def test_a_websocket_goes_through(client: HttpsClient, token: dict[str, str]) -> None:
    connector = aiohttp.TCPConnector(resolver=Here(), ssl=client.context)
    async with aiohttp.ClientSession(connector=connector, headers=token) as session:
        url = f"wss://demo.{DOMAIN}:{client.port}/ws?clientId=me"
        async with session.ws_connect(url) as socket:
            first = await socket.receive_json(timeout=30)
    assert first["type"] == "status"


async def test_renewed_files_are_used_and_broken_ones_are_not(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    first = authority.issue(tmp_path, DOMAIN)
    files = CertificateFiles(tmp_path / "cert.pem", tmp_path / "key.pem")
    context = files.load()
    following = asyncio.create_task(files.follow(context, look_each_s=0.01))

    async def answer(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n")
        await writer.drain()
        writer.close()

    served = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    client = HttpsClient(served.sockets[0].getsockname()[1], authority.path)

    async def until(serial: int) -> None:
        async with asyncio.timeout(20):
            while True:
                answered = await asyncio.to_thread(client.get, DOMAIN)
                if answered.serial == serial:
                    return

    try:
        await until(first)
        (tmp_path / "cert.pem").write_bytes(b"broken")
        await until(first)
        await until(authority.issue(tmp_path, DOMAIN))
    finally:
        following.cancel()
        served.close()
        await served.wait_closed()
        await asyncio.wait([following])


def test_what_cannot_be_served_is_refused_at_the_start(tmp_path: Path) -> None:
    authority = Authority(tmp_path)
    cert, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    with pytest.raises(InvalidInput, match="no file"):
        CertificateFiles(cert, key).load()
    authority.issue(tmp_path, DOMAIN)
    first_key = key.read_bytes()
    authority.issue(tmp_path, DOMAIN)
    key.write_bytes(first_key)
    with pytest.raises(InvalidInput, match="not a certificate and its key"):
        CertificateFiles(cert, key).load()
    with pytest.raises(InvalidInput, match="--cert and --key"):
        Settings(domain=DOMAIN, tls="files").check()
    with pytest.raises(InvalidInput, match="--tls internal"):
        Settings(domain=DOMAIN).check()
    with pytest.raises(InvalidInput, match="trusted_proxies"):
        Settings(trusted_proxies="everybody").check()
    assert Settings(domain=DOMAIN, tls="off").public is not None
    assert Settings().public is None


def test_a_port_that_is_taken_is_named(server: ServerProcess) -> None:
    with pytest.raises(Conflict, match="in use by another program; choose another with --http"):
        bind("127.0.0.1", int(option(server, "--https-port")), "--https-port")


def test_a_caller_is_who_a_trusted_proxy_says(server: ServerProcess, token: dict[str, str]) -> None:
    told = {"X-Forwarded-For": "198.51.100.4", "X-Forwarded-Proto": "https"}

    def ask(source: str, **headers: str) -> tuple[int, str]:
        connection = http.client.HTTPConnection(
            "127.0.0.1", server.port, timeout=30, source_address=(source, 0)
        )
        shown = {"Host": DOMAIN, **headers}
        connection.request("GET", "/api/v1/deployments/demo", headers=shown)
        answer = connection.getresponse()
        body = answer.read().decode()
        connection.close()
        return answer.status, body

    assert ask("127.0.0.1")[0] == 200, "this machine's own user"
    assert ask("127.0.0.1", **told)[0] == 401
    assert ask(PROXY)[0] == 401, "it could be anybody's"
    assert ask(PROXY, **told)[0] == 401
    status, body = ask(PROXY, **told, **token)
    assert status == 200
    assert f'"https://demo.{DOMAIN}/"' in body
    assert f'"http://demo.{DOMAIN}/"' in ask("127.0.0.1", **told, **token)[1], "not believed"
