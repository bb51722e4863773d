"""Updates under load, with real processes: nothing that was sent is lost, and the way back works."""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
from tests.e2e.server_process import ServerProcess, picture, wait_until
from tests.gateway.plain_door import Answer, Plain, plain_server, zoo


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    with plain_server(tmp_path_factory.mktemp("updates") / "home") as server:
        yield server


@dataclass
class Load:
    """Callers that go on without a pause."""

    call: Callable[[], Any]
    answers: list[Any] = field(default_factory=list)
    stop: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self.stop.is_set():
            self.answers.append(self.call())


def under_load(call: Callable[[], Any], change: Callable[[Load], None], callers: int = 3) -> Load:
    load = Load(call)
    threads = [threading.Thread(target=load.run) for _ in range(callers)]
    for thread in threads:
        thread.start()
    try:
        wait_until(lambda: load.answers, 30, "the first answer")
        change(load)
    finally:
        load.stop.set()
        for thread in threads:
            thread.join(60)
    return load


def versions(load: Load) -> list[str]:
    answers: list[Answer] = load.answers
    assert {answer.status for answer in answers} == {200}, [a for a in answers if a.status != 200]
    return [answer.json["version"] for answer in answers]


def test_requests_survive_an_update_and_the_way_back(server: ServerProcess) -> None:
    door = Plain(server)

    def deploy(version: str) -> int:
        engine = zoo(env={"VERSION": version})
        number: int = server.deploy("zoo", engine=engine, limits={"concurrency": 4})["revision"]
        return number

    def change(load: Load) -> None:
        deploy("two")
        wait_until(lambda: versions(load)[-1] == "two", 30, "the new one serves")

    def back(load: Load) -> None:
        assert server.post("/api/v1/deployments/zoo/rollback").json["revision"] == 1
        wait_until(lambda: versions(load)[-1] == "one", 30, "the old one serves")

    assert deploy("one") == 1
    seen = versions(under_load(lambda: door.get("/slow?s=0.02"), change))
    assert {"one", "two"} == set(seen)
    wait_until(lambda: len(door.replica_ids()) == 1, 30, "the old replica is gone")
    assert set(versions(under_load(lambda: door.get("/slow?s=0.02"), back))) == {"one", "two"}
    # What waits when the last replica goes is not lost either.
    server.post("/api/v1/deployments/zoo/stop")
    door.asleep()
    server.post("/api/v1/deployments/zoo/start")
    assert door.get("/slow?s=0").json["version"] == "one"
    revisions = server.get("/api/v1/deployments/zoo/revisions").json["revisions"]
    assert [(r["number"], r["is_current"], r["is_plain"]) for r in revisions] == [
        (1, True, True),
        (2, False, True),
    ]
    assert revisions[1]["spec"]["engine"]["env"] == {"VERSION": "two"}
    assert deploy("three") == 3


def test_a_revision_that_does_not_start_changes_nothing(server: ServerProcess) -> None:
    door = Plain(server, "steady")
    server.deploy("steady", engine=zoo(env={"VERSION": "one"}), limits={"concurrency": 4})

    def change(_: Load) -> None:
        bad = {"engine": {"kind": "command", "command": ["python3", "-c", "raise SystemExit(3)"]}}
        reply = server.request("PUT", "/api/v1/deployments/steady", bad)
        assert reply.status == 422

    assert set(versions(under_load(lambda: door.get("/slow?s=0.02"), change))) == {"one"}
    assert door.state()["revision"] == 1


@pytest.mark.parametrize(
    ("wish", "status", "code"),
    [
        (None, 409, "no_earlier_revision"),
        ({"revision": 1}, 409, "already_current"),
        ({"revision": 9}, 404, "revision_not_found"),
        ({"revision": 0}, 400, "invalid_input"),
        ({"number": 1}, 400, "invalid_input"),
    ],
)
def test_a_way_back_that_is_none_is_told(
    server: ServerProcess, wish: Any, status: int, code: str
) -> None:
    if server.get("/api/v1/deployments/single").status == 404:
        server.deploy("single", engine={"kind": "embedded"})
    reply = server.post("/api/v1/deployments/single/rollback", wish)
    assert (reply.status, reply.json["error"]["code"]) == (status, code)


def test_jobs_survive_an_update(server: ServerProcess) -> None:
    """Accepted ones end well, and the deployment is never without an answer."""
    spec = {"engine": {"kind": "embedded"}, "scaling": {"idle_timeout_s": 60}}
    server.deploy("jobs", **spec)

    def submit() -> Any:
        reply = server.post("/d/jobs/prompt", {"prompt": picture(len(load_of_jobs) * 7 + 1)})
        assert reply.status == 200, reply.body
        load_of_jobs.append(reply.json["prompt_id"])
        return server.finished(reply.json["prompt_id"])

    load_of_jobs: list[str] = []

    def change(load: Load) -> None:
        server.deploy("jobs", **{**spec, "limits": {"max_queue": 500}})
        before = len(load.answers)
        wait_until(lambda: len(load.answers) > before + 3, 60, "jobs go on")

    load = under_load(submit, change, callers=2)
    assert {job["state"] for job in load.answers} == {"succeeded"}
    assert {job["attempts"] for job in load.answers} == {1}
    assert len({job["replica"] for job in load.answers}) == 2


def test_a_server_with_open_jobs_is_not_replaced_by_one_that_cannot_run_them(
    server: ServerProcess,
) -> None:
    server.deploy("busy", engine={"kind": "embedded"})
    server.post("/api/v1/deployments/busy/stop")
    server.post("/api/v1/deployments/busy/start")
    node = {"class_type": "TestingSleep", "inputs": {"seconds": 30, "steps": 5, "tag": ""}}
    node["inputs"]["previews"] = False  # type: ignore[index] # a mapping
    prompt = {"1": node, "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}}}
    job = server.post("/d/busy/prompt", {"prompt": prompt}).json["prompt_id"]
    reply = server.request("PUT", "/api/v1/deployments/busy", {"engine": zoo()})
    assert (reply.status, reply.json["error"]["code"]) == (409, "open_jobs")
    server.post(f"/api/v1/jobs/{job}/cancel")
    server.finished(job)
    assert server.request("PUT", "/api/v1/deployments/busy", {"engine": zoo()}).status == 200
    assert Plain(server, "busy").get("/status/200").status == 200


@pytest.mark.slow
def test_a_fixed_port_is_taken_by_one(server: ServerProcess, free_port: int) -> None:
    engine = zoo(container_port=free_port)
    engine["command"] = [*engine["command"][:-1], str(free_port)]
    assert server.deploy("told", engine=engine, scaling={"max_replicas": 2})["revision"] == 1
    script = (
        "import http.server as h; "
        f"h.HTTPServer(('127.0.0.1', int('{free_port}'[:])), h.SimpleHTTPRequestHandler)"
        ".serve_forever()"
    )
    fixed = {"kind": "command", "command": ["python3", "-c", script], "container_port": free_port}
    server.deploy("fixed", engine=fixed)
    assert Plain(server, "fixed").get("/").status == 200
    reply = server.request("PUT", "/api/v1/deployments/fixed", {"engine": fixed})
    assert reply.status == 422
    assert f"port {free_port}" in reply.json["error"]["message"]
    two = {"engine": fixed, "scaling": {"max_replicas": 2}}
    reply = server.request("PUT", "/api/v1/deployments/fixed", two)
    assert (reply.status, "one replica at most" in reply.json["error"]["message"]) == (400, True)
