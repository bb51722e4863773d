"""`kill -9` at random moments: no accepted job is lost, none finished twice, each is right."""

import io
import os
import random
import signal
import urllib.error
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.e2e.server_process import ServerProcess, picture, serving, sleeping, wait_until

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(240)]

# For each 200 jobs.
KILLS_OF_THE_SERVER = 5
KILLS_OF_REPLICAS = 8


def _submit(server: ServerProcess, number: int) -> str:
    """Submit until it is acknowledged, as a careful client does: with an idempotency key."""
    while True:
        try:
            reply = server.post(
                "/prompt", {"prompt": picture(number)}, **{"Idempotency-Key": f"k{number}"}
            )
        except (urllib.error.URLError, ConnectionError, TimeoutError):
            server.start()
            continue
        assert reply.status == 200, reply.body
        found: str = reply.json["prompt_id"]
        return found


def _kill_a_replica(server: ServerProcess, chance: random.Random) -> bool:
    try:
        replicas = [replica for replica in server.replicas() if replica["pid"]]
    except (urllib.error.URLError, ConnectionError):
        return False
    if not replicas:
        return False
    try:
        os.kill(chance.choice(replicas)["pid"], signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True


def _color_of(server: ServerProcess, entry: dict[str, Any]) -> int:
    image = entry["outputs"]["2"]["images"][0]
    query = f"filename={image['filename']}&subfolder={image['subfolder']}&type={image['type']}"
    reply = server.get(f"/view?{query}")
    assert reply.status == 200
    red, green, blue = Image.open(io.BytesIO(reply.body)).convert("RGB").getpixel((0, 0))  # type: ignore[misc]  # RGB
    return int(red) << 16 | int(green) << 8 | int(blue)


@pytest.mark.parametrize(
    "jobs", [200, pytest.param(1000, marks=[pytest.mark.slow, pytest.mark.timeout(900)])]
)
def test_no_job_is_lost_or_finished_twice(home: Path, free_port: int, jobs: int) -> None:
    chance = random.Random(7)
    of_server = KILLS_OF_THE_SERVER * jobs // 200
    of_replicas = KILLS_OF_REPLICAS * jobs // 200
    with serving(home, free_port) as server:
        server.deploy(
            scaling={"max_replicas": 2, "idle_timeout_s": 30}, limits={"max_attempts": 100}
        )
        moments = chance.sample(range(10, jobs), of_server + of_replicas)
        server_moments = set(moments[:of_server])
        prompt_ids = {}
        for number in range(jobs):
            prompt_ids[number] = _submit(server, number)
            if number in server_moments:
                server.kill()
                server.start()
            elif number in moments:
                _kill_a_replica(server, chance)
        names = set()
        for number, prompt_id in prompt_ids.items():
            job = server.finished(prompt_id, timeout_s=120)
            assert job["state"] == "succeeded", job
            assert len(job["outputs"]) == 1, job
            entry = server.get(f"/history/{prompt_id}").json[prompt_id]
            assert _color_of(server, entry) == number
            names.add(entry["outputs"]["2"]["images"][0]["filename"])
        assert len(names) == jobs
        history = server.get("/history").json
        assert sorted(history) == sorted(prompt_ids.values())
        _assert_the_sums_agree(server)


def _assert_the_sums_agree(server: ServerProcess) -> None:
    """Receipts never exceed the ledger, and the ledger is the replicas' lifetimes."""
    usage = server.get("/api/v1/usage").json
    parts = sum(usage["totals"][kind] for kind in ("starting_s", "busy_s", "idle_s", "draining_s"))
    assert parts == pytest.approx(usage["totals"]["awake_s"])
    by_replica = sum(replica["busy_s"] for replica in usage["replicas"])
    assert by_replica == pytest.approx(usage["totals"]["busy_s"])


def test_a_replica_outlives_the_server_and_its_job_goes_on(home: Path, free_port: int) -> None:
    with serving(home, free_port) as server:
        server.deploy(scaling={"idle_timeout_s": 30})
        prompt_id = server.post("/prompt", {"prompt": sleeping(3)}).json["prompt_id"]
        wait_until(lambda: _state(server, prompt_id) == "running", 15, "it runs")
        before = server.replicas()[0]
        server.kill()
        server.start()
        job = server.finished(prompt_id)
        assert job["state"] == "succeeded"
        assert job["attempts"] == 1
        assert job["replica"] == before["id"]
        assert [replica["pid"] for replica in server.replicas()] == [before["pid"]]


def test_a_replica_that_died_with_the_server_costs_one_attempt(home: Path, free_port: int) -> None:
    with serving(home, free_port) as server:
        server.deploy(scaling={"idle_timeout_s": 30})
        prompt_id = server.post("/prompt", {"prompt": sleeping(1.5)}).json["prompt_id"]
        wait_until(lambda: _state(server, prompt_id) == "running", 15, "it runs")
        pid = server.replicas()[0]["pid"]
        server.kill()
        os.kill(pid, signal.SIGKILL)
        server.start()
        job = server.finished(prompt_id)
        assert job["state"] == "succeeded"
        assert job["attempts"] == 2


def test_a_job_that_kills_its_replica_fails_with_the_evidence(home: Path, free_port: int) -> None:
    crash = {
        "1": {
            "class_type": "TestingCrash",
            "inputs": {"exit_code": 77, "by_signal": "none", "once": ""},
        }
    }
    with serving(home, free_port) as server:
        server.deploy(limits={"max_attempts": 2})
        prompt_id = server.post("/prompt", {"prompt": crash}).json["prompt_id"]
        job = server.finished(prompt_id)
        assert job["state"] == "failed"
        assert job["attempts"] == 2
        assert job["error"]["code"] == "replica_lost"
        assert job["error"]["exit_code"] == 77
        assert job["error"]["log_tail"]
        entry = server.get(f"/history/{prompt_id}").json[prompt_id]
        assert entry["status"]["status_str"] == "error"
        assert entry["status"]["messages"][-1][0] == "execution_error"


def test_the_second_server_on_a_home_says_who_holds_it(home: Path, free_port: int) -> None:
    with serving(home, free_port) as server:
        second = ServerProcess(home, 0)
        with pytest.raises(AssertionError, match="ended"):
            second.start()
        assert second.process is not None
        assert second.process.wait() == 4
        assert server.process is not None
        assert str(server.process.pid) in server.log
        assert server.get("/api/v1/health/ready").status == 200


def test_a_stopped_server_leaves_no_process_and_gives_jobs_back(home: Path, free_port: int) -> None:
    with serving(home, free_port, COMFYSERVE_STOP_TIMEOUT_S="0.2") as server:
        server.deploy()
        prompt_id = server.post("/prompt", {"prompt": sleeping(30)}).json["prompt_id"]
        wait_until(lambda: _state(server, prompt_id) == "running", 15, "it runs")
        pid = server.replicas()[0]["pid"]
        assert server.stop() == 0
        assert not Path(f"/proc/{pid}").exists()
        server.start()
        job = server.get(f"/api/v1/jobs/{prompt_id}").json
        assert job["state"] in {"queued", "running"}
        assert job["attempts"] <= 1
        server.post(f"/api/v1/jobs/{prompt_id}/cancel")
        assert server.finished(prompt_id)["state"] == "canceled"


def _state(server: ServerProcess, job_id: str) -> str:
    found: str = server.get(f"/api/v1/jobs/{job_id}").json["state"]
    return found
