"""Webhooks over HTTP: who may make them, what is refused, and that a killed server still delivers."""

import asyncio
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import standardwebhooks
from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import Reply, ServerProcess, picture, serving

from comfyserve.testing.receiver import Receiver

ADMIN = "/api/v1/webhooks"
DELIVERIES = "/api/v1/webhook-deliveries"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    home = tmp_path_factory.mktemp("webhooks") / "home"
    options = ("--allow-private-urls", "127.0.0.0/8")
    with serving(home, two_free_ports()[0], *options) as server:
        server.deploy("demo", engine={"kind": "embedded"})
        server.deploy("other", engine={"kind": "embedded"})
        yield server


@pytest.fixture
async def receiver() -> AsyncIterator[Receiver]:
    async with Receiver() as receiver:
        yield receiver


async def ask(
    server: ServerProcess, method: str, path: str, body: Any = None, **headers: str
) -> Reply:
    """One exchange that leaves the loop to the receiver."""
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return await asyncio.to_thread(partial(server.request, method, path, body, headers=sent))


def token(server: ServerProcess, *scopes: str, deployment: str | None = None) -> str:
    new = {"name": "t", "scopes": list(scopes), "deployment": deployment}
    secret: str = server.post("/api/v1/tokens", new).json["secret"]
    return f"Bearer {secret}"


def job_ids(server: ServerProcess) -> list[str]:
    jobs = server.get("/api/v1/jobs?deployment=demo&limit=500").json["jobs"]
    return [job["id"] for job in jobs]


async def create(server: ServerProcess, url: str, **fields: Any) -> Any:
    made = await ask(server, "POST", ADMIN, {"url": url, "deployment": "demo", **fields})
    assert made.status == 201, made.body
    return made.json


async def test_a_job_names_its_receiver(server: ServerProcess, receiver: Receiver) -> None:
    secret = server.get("/api/v1/webhook-secret").json["secret"]
    body = {"prompt": picture(1)}
    query = f"?webhook={receiver.url('/query')}&webhook_events=started,succeeded"
    assert (await ask(server, "POST", f"/d/demo/prompt{query}", body)).status == 200
    headers = {"X_Comfyserve_Webhook": receiver.url("/header")}
    v2 = await ask(server, "POST", "/d/demo/api/v2/jobs", {"workflow": picture(2)}, **headers)
    assert v2.status == 201
    by_query, by_header = await receiver.got(2, "/query"), await receiver.got(1, "/header")
    assert {message.type for message in by_query} == {"job.started", "job.succeeded"}
    told = standardwebhooks.Webhook(secret).verify(by_header[0].body, dict(by_header[0].headers))
    assert (told["data"]["job"]["id"], told["type"]) == (v2.json["id"], "job.succeeded")
    (output,) = told["data"]["outputs"]
    assert output["url"].startswith(server.url)
    picture_of = await ask(server, "GET", output["url"].removeprefix(server.url))
    assert picture_of.body.startswith(b"\x89PNG")
    listed = server.get(f"{DELIVERIES}?job={v2.json['id']}").json["deliveries"]
    assert [item["event"] for item in listed] == ["succeeded"]


async def test_a_webhook_from_its_making_to_its_end(
    server: ServerProcess, receiver: Receiver
) -> None:
    made = await create(server, receiver.url("/all"), events=["succeeded"])
    path = f"{ADMIN}/{made['id']}"
    assert made["secret"].startswith("whsec_")
    assert server.get(path).json == {**made, "secret": None}
    trial = await ask(server, "POST", f"{path}/test")
    assert trial.json == {"delivered": True, "status": 204, "error": ""}
    new = (await ask(server, "POST", f"{path}/rotate")).json["secret"]
    await ask(server, "POST", "/d/other/prompt", {"prompt": picture(3)})
    await ask(server, "POST", "/d/demo/prompt", {"prompt": picture(3)})
    _, message = await receiver.got(2, "/all")
    for secret in (made["secret"], new):
        standardwebhooks.Webhook(secret).verify(message.body, dict(message.headers))
    assert message.json["data"]["job"]["deployment"] == "demo"
    shown = await ask(server, "GET", f"{DELIVERIES}/{message.id}")
    assert shown.json["message"]["type"] == "job.succeeded"
    assert (await ask(server, "POST", f"{DELIVERIES}/{message.id}/replay")).json["attempts"] == 0
    assert (await receiver.got(3, "/all"))[-1].id == message.id
    metrics = server.get("/metrics").body.decode()
    assert 'comfyserve_webhook_deliveries{state="dead"} 0.0' in metrics
    assert 'comfyserve_webhook_tries_total{outcome="taken"}' in metrics
    assert server.request("DELETE", path).status == 204
    assert server.get(path).status == 404
    assert server.get(f"{DELIVERIES}/{message.id}").status == 404


async def test_a_webhook_of_one_endpoint(server: ServerProcess, receiver: Receiver) -> None:
    publish = {"workflow": picture(4)}
    assert server.request("PUT", "/api/v1/endpoints/paint?deployment=demo", publish).status < 300
    made = await create(server, receiver.url("/paint"), endpoint="paint")
    assert made["endpoint"] == "paint"
    await ask(server, "POST", "/d/demo/prompt", {"prompt": picture(5)})
    called = await ask(server, "POST", f"/d/demo/run/paint?webhook={receiver.url('/call')}", {})
    assert called.status == 200
    for path in ("/paint", "/call"):
        (message,) = await receiver.got(1, path)
        told = message.json["data"]["job"]
        assert (told["id"], told["endpoint"]) == (called.json["id"], "paint")
    server.request("DELETE", f"{ADMIN}/{made['id']}")


async def test_a_reused_result_is_told_with_its_outputs(
    server: ServerProcess, receiver: Receiver
) -> None:
    publish = {"workflow": picture(8), "reuse": True}
    assert server.request("PUT", "/api/v1/endpoints/again?deployment=demo", publish).status < 300
    path = f"/d/demo/run/again?webhook={receiver.url('/again')}"
    first = await ask(server, "POST", path, {}, Prefer="wait=60")
    second = await ask(server, "POST", path, {})
    assert second.json["reused_from"] == first.json["id"]
    jobs = {message.json["data"]["job"]["id"]: message for message in await receiver.got(2)}
    assert set(jobs) == {first.json["id"], second.json["id"]}
    assert len(jobs[second.json["id"]].json["data"]["outputs"]) == 1


@pytest.mark.parametrize(
    ("query", "code", "said"),
    [
        ("webhook=http://10.0.0.1/", "url_refused", "not a public address"),
        ("webhook=http://169.254.169.254/", "url_refused", "not a public address"),
        ("webhook=ftp://example.com/", "url_refused", "must begin with http"),
        ("webhook=http://a:b@example.com/", "url_refused", "user name"),
        ("webhook=https://example.com/&webhook_events=done", "unknown_event", "no event 'done'"),
        ("webhook_events=succeeded", "no_webhook", "but no webhook"),
    ],
)
def test_a_job_with_a_bad_webhook_is_not_taken(
    server: ServerProcess, query: str, code: str, said: str
) -> None:
    before = job_ids(server)
    refused = server.post(f"/d/demo/prompt?{query}", {"prompt": picture(6)})
    assert (refused.status, refused.json["error"]["type"]) == (400, code)
    assert said in refused.json["error"]["message"]
    assert job_ids(server) == before


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        ({"url": "http://192.168.0.1/x"}, 400, "url_refused"),
        ({"url": "nonsense"}, 400, "url_refused"),
        ({}, 400, "invalid_input"),
        ({"url": "https://example.com", "events": ["queued"]}, 400, "unknown_event"),
        ({"url": "https://example.com", "deployment": "nope"}, 404, "deployment_not_found"),
        ({"url": "https://example.com", "endpoint": "nope"}, 404, "endpoint_not_found"),
    ],
)
def test_a_bad_webhook_is_refused(server: ServerProcess, body: Any, status: int, code: str) -> None:
    refused = server.post(ADMIN, body)
    assert (refused.status, refused.json["error"]["code"]) == (status, code)


def test_webhooks_are_for_those_who_administer_the_deployment(server: ServerProcess) -> None:
    made = server.post(ADMIN, {"url": "https://example.com", "deployment": "demo"}).json
    runner, foreign = token(server, "run"), token(server, "admin", deployment="other")
    own = token(server, "admin", deployment="demo")
    for method, path in (
        ("GET", ADMIN),
        ("GET", DELIVERIES),
        ("POST", f"{ADMIN}/{made['id']}/test"),
    ):
        assert server.request(method, path, headers={"Authorization": runner}).status == 403
    path = f"{ADMIN}/{made['id']}"
    assert server.request("GET", path, headers={"Authorization": foreign}).status == 404
    assert server.request("GET", path, headers={"Authorization": own}).status == 200
    seen = server.request("GET", ADMIN, headers={"Authorization": own}).json["webhooks"]
    assert made["id"] in [item["id"] for item in seen]
    secrets = {
        server.request("GET", "/api/v1/webhook-secret", headers={"Authorization": who}).json[
            "secret"
        ]
        for who in (runner, own)
    }
    assert len(secrets) == 2
    server.request("DELETE", path)


@pytest.mark.e2e
async def test_a_killed_server_delivers_when_it_is_back(
    tmp_path: Path, free_port: int, receiver: Receiver
) -> None:
    await receiver.close()
    options = ("--allow-private-urls", "127.0.0.0/8")
    with serving(tmp_path / "home", free_port, *options) as server:
        server.deploy("demo", engine={"kind": "embedded"})
        await create(server, receiver.url())
        sent = await ask(server, "POST", "/d/demo/prompt", {"prompt": picture(7)})
        job = await asyncio.to_thread(server.finished, sent.json["prompt_id"])
        server.kill()
        await receiver.listen()
        await asyncio.to_thread(server.start)
        (message,) = await receiver.got(1)
        assert message.json["data"]["job"]["id"] == job["id"]
