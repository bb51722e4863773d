"""What work costs, on a real server: receipts, the ledger in every grouping, budgets, estimates."""

import csv
import io
from collections.abc import Iterator

import pytest
from tests.e2e.server_process import ServerProcess, picture, serving, wait_until
from tests.gateway.v2_door import unused_port

pytestmark = pytest.mark.e2e


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server on which a CPU second costs 1, and whose deployment has run one job and sleeps."""
    home = tmp_path_factory.mktemp("costs") / "home"
    with serving(home, unused_port(), COMFYSERVE_PRICES="cpu=3600") as server:
        server.deploy("demo", scaling={"idle_timeout_s": 0.2})
        run(server)
        wait_until(lambda: not server.replicas(), 30, "the replica is gone")
        yield server


def run(server: ServerProcess, color: int = 255, **headers: str) -> str:
    """Run one job to its end; return its id."""
    reply = server.post("/d/demo/prompt", {"prompt": picture(color)}, **headers)
    assert reply.status == 200, reply.body
    job_id: str = reply.json["prompt_id"]
    assert server.finished(job_id)["state"] == "succeeded"
    return job_id


def test_the_groups_sum_to_the_ledger(server: ServerProcess) -> None:
    for by in ("deployment", "replica", "day", "gpu", "token"):
        usage = server.get(f"/api/v1/usage?by={by}").json
        assert usage["groups"], by
        cost = sum(group["cost"] for group in usage["groups"])
        assert cost == pytest.approx(usage["totals"]["cost"])
        table = list(
            csv.DictReader(io.StringIO(server.get(f"/api/v1/usage.csv?by={by}").body.decode()))
        )
        assert [row[by] for row in table] == [group["key"] for group in usage["groups"]]
        assert float(table[0]["cost"]) == pytest.approx(usage["groups"][0]["cost"])
    tokens = {group["name"]: group for group in server.get("/api/v1/usage?by=token").json["groups"]}
    assert tokens["this machine"]["busy_s"] > 0
    assert tokens["(no job)"]["idle_s"] > 0
    assert server.get("/api/v1/usage?by=moon").status == 400
    assert server.get("/api/v1/usage?since=2100-01-01T00:00:00Z").json["totals"]["cost"] == 0


def test_a_receipt_is_in_the_headers(server: ServerProcess) -> None:
    job = server.get("/api/v1/jobs").json["jobs"][-1]
    reply = server.get(f"/api/v1/jobs/{job['id']}")
    receipt = reply.json["receipt"]
    assert f"billed_ms={receipt['billed_ms']}" in reply.headers["x-comfyserve-receipt"]
    assert f"total;dur={receipt['total_ms']}" in reply.headers["server-timing"]


def test_an_estimate_rests_on_what_has_run(server: ServerProcess) -> None:
    def ask(size: int = 8) -> dict[str, object]:
        prompt = picture(255, size=size)
        reply = server.post("/api/v1/deployments/demo/workflows:estimate", prompt)
        assert reply.status == 200, reply.body
        found: dict[str, object] = reply.json
        return found

    assert ask()["basis"] == "same_settings"
    assert ask(size=9)["basis"] == "same_graph"
    found = ask()
    assert isinstance(found["cost"], dict)
    assert found["cost"]["p50"] > 0
    assert found["price_per_hour"] == 3600
    bad = server.post("/api/v1/deployments/demo/workflows:estimate", {"1": {"class_type": "No"}})
    assert bad.status == 400
    assert "No" in bad.json["error"]["message"]


def test_a_spent_budget_refuses_new_work_at_every_door(server: ServerProcess) -> None:
    prompt = picture(1)
    reply = server.request("PUT", "/api/v1/budgets/deployment/demo", {"monthly_cost": 0.0001})
    assert reply.json["is_spent"]
    refused = server.post("/d/demo/prompt", {"prompt": prompt})
    assert refused.status == 402
    assert "'demo' has spent" in refused.json["error"]["message"]
    v2 = server.post("/d/demo/api/v2/jobs", {"workflow": prompt})
    assert (v2.status, v2.json["error"]["code"]) == (402, "insufficient_credits")
    assert server.post("/api/v1/deployments/demo/warm").status == 402
    assert server.get("/d/demo/history").status == 200, "reading goes on"
    assert server.replicas() == [], "nothing woke"
    assert server.request("DELETE", "/api/v1/budgets/deployment/demo").status == 204
    run(server)
    assert server.request("DELETE", "/api/v1/budgets/deployment/demo").status == 404
    assert (
        server.request("PUT", "/api/v1/budgets/deployment/nope", {"monthly_cost": 1}).status == 404
    )
    assert (
        server.request("PUT", "/api/v1/budgets/deployment/demo", {"monthly_cost": -1}).status == 400
    )


def test_a_token_has_a_budget_of_its_own(server: ServerProcess) -> None:
    made = server.post("/api/v1/tokens", {"name": "ci", "scopes": ["run"]}).json
    auth = {"Authorization": f"Bearer {made['secret']}"}
    run(server, 7, **auth)
    path = f"/api/v1/budgets/token/{made['id']}"
    spent = server.request("PUT", path, {"monthly_cost": 0.0}).json
    assert spent["name"] == "ci"
    assert server.post("/d/demo/prompt", {"prompt": picture(8)}, **auth).status == 402
    run(server, 9)  # somebody else goes on

    def spent_by_the_token() -> float:
        found: float = server.get("/api/v1/budgets").json["budgets"][0]["spent"]
        return found

    wait_until(lambda: spent_by_the_token() > 0, 30, "its job is added up")
    assert server.request("DELETE", path).status == 204
    assert server.request("PUT", "/api/v1/budgets/token/tk_none", {"monthly_cost": 1}).status == 404
