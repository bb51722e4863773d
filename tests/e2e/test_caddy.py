"""HTTPS by Caddy, with its own authority: a client that verifies, names that exist, and a crash."""

import json
import os
import shutil
import signal
import socket
import ssl
from collections.abc import Iterator
from pathlib import Path

import aiohttp
import pytest
from tests.e2e.server_process import ServerProcess, picture, serving, wait_until
from tests.gateway.https_client import HttpsClient
from tests.gateway.test_https import Here
from tests.gateway.v2_door import unused_port

pytestmark = [
    pytest.mark.e2e,
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(shutil.which("caddy") is None, reason="no caddy (apt install caddy)"),
]
DOMAIN = "gpu.test"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server behind its Caddy, with the deployment `demo`."""
    options = (
        *("--domain", DOMAIN, "--tls", "internal", "--public-host", "127.0.0.1"),
        *("--https-port", str(unused_port()), "--http-port", str(unused_port())),
    )
    home = tmp_path_factory.mktemp("server") / "home"
    with serving(home, unused_port(), *options) as server:
        server.deploy("demo")
        yield server


@pytest.fixture
def client(server: ServerProcess) -> HttpsClient:
    """A client that trusts Caddy's own authority."""
    root = server.home / "tls" / "pki" / "authorities" / "local" / "root.crt"
    wait_until(root.exists, 30, "Caddy has made its authority")
    port = int(server.options[server.options.index("--https-port") + 1])
    return HttpsClient(port, root)


@pytest.fixture
def token(server: ServerProcess) -> dict[str, str]:
    """The header of somebody who may run."""
    made = server.post("/api/v1/tokens", {"name": "x", "scopes": ["run"]}).json
    return {"Authorization": f"Bearer {made['secret']}"}


def caddy_of(server: ServerProcess) -> int:
    pid: int = json.loads((server.home / "tls" / "caddy.pid").read_bytes())["pid"]
    return pid


def test_names_that_exist_have_certificates(client: HttpsClient, token: dict[str, str]) -> None:
    assert client.get(f"demo.{DOMAIN}", "/queue", **token).json["queue_running"] == []
    assert client.get(DOMAIN, "/api/v1/deployments", **token).status == 200
    assert client.get(DOMAIN, "/api/v1/deployments").status == 401, "nobody is local out there"
    forged = client.get(DOMAIN, "/api/v1/deployments", **{"X-Forwarded-For": "127.0.0.1"})
    assert forged.status == 401
    asked = client.get(DOMAIN, "/.comfyserve/ask?domain=demo.gpu.test", **token)
    assert asked.body != b"yes", "who may have certificates is Caddy's question alone"
    with pytest.raises(ssl.SSLError):
        client.get(f"none.{DOMAIN}", "/queue", **token)


async def test_prompts_and_websockets_go_through(
    client: HttpsClient, token: dict[str, str]
) -> None:
    connector = aiohttp.TCPConnector(resolver=Here(), ssl=client.context)
    base = f"demo.{DOMAIN}:{client.port}"
    async with (
        aiohttp.ClientSession(connector=connector, headers=token) as session,
        session.ws_connect(f"wss://{base}/ws?clientId=me") as ws,
    ):
        assert (await ws.receive_json(timeout=30))["type"] == "status"
        body = {"prompt": picture(255), "client_id": "me"}
        async with session.post(f"https://{base}/prompt", json=body) as answer:
            assert answer.status == 200
        kinds = set()
        while "execution_success" not in kinds:
            message = await ws.receive(timeout=60)
            if message.type is aiohttp.WSMsgType.TEXT:
                kinds.add(json.loads(message.data)["type"])


def test_http2_is_offered(client: HttpsClient) -> None:
    client.context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", client.port), timeout=30) as plain,
        client.context.wrap_socket(plain, server_hostname=DOMAIN) as link,
    ):
        assert link.selected_alpn_protocol() == "h2"


def test_a_caddy_that_died_is_begun_anew_and_ends_with_the_server(
    server: ServerProcess, client: HttpsClient, token: dict[str, str]
) -> None:
    first = caddy_of(server)
    os.kill(first, signal.SIGKILL)

    def serves_again() -> bool:
        try:
            return caddy_of(server) != first and client.get(DOMAIN, "/queue", **token).status == 200
        except (OSError, ValueError):
            return False

    wait_until(serves_again, 60, "Caddy serves again")
    assert "caddy_ended" in server.log
    second = caddy_of(server)

    # A killed server leaves its Caddy behind; the next one ends it and has the ports.
    server.kill()
    os.kill(second, 0)
    server.start()
    wait_until(serves_again, 60, "the next Caddy serves")
    third = caddy_of(server)
    assert third != second
    assert server.stop() == 0
    assert not Path(f"/proc/{third}").exists()
