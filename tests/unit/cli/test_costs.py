"""`usage --by`, `budget`, `estimate`, `simulate`: what they ask, show and refuse."""

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from comfyserve.cli.errors import ExitCode
from comfyserve.cli.trace import read_trace
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.simulation import Arrival
from comfyserve.testing import control_answers as answers
from comfyserve.testing.command import Cli
from comfyserve.testing.control_server import ControlServer, Scripted

TRACE = "at,seconds\n2026-11-02T08:00:00Z,40\n\n1793606430,35\n"
BUDGET = {
    "kind": "deployment", "id": "dp_1", "name": "studio", "monthly_cost": 5.0, "spent": 6.0,
    "is_spent": True, "until": "2026-12-01T00:00:00Z",
}  # fmt: skip
ESTIMATE: dict[str, Any] = {
    "basis": "same_settings", "samples": 3, "price_per_hour": 2.5, "wake_s": 8.0, "gpu": "H100",
    "load_ms": {"p50": 100, "p95": 120}, "execute_ms": {"p50": 900, "p95": 1000},
    "billed_ms": {"p50": 1000, "p95": 1120}, "cost": {"p50": 0.0006944, "p95": 0.0007777},
}  # fmt: skip


def job(at: float, seconds: float) -> dict[str, Any]:
    began, ended = (
        datetime.fromtimestamp(moment, UTC).isoformat() for moment in (at, at + seconds)
    )
    return {**answers.job(), "created_at": began, "started_at": began, "finished_at": ended}


def test_usage_by_day(control: ControlServer, cli: Cli) -> None:
    control.on("GET", "/api/v1/usage", answers.usage())
    ran = cli("usage", "--by", "day")
    assert [line.split()[0] for line in ran.out.splitlines() if line.strip(" ─")] == [
        "DAY", "2026-11-29", "total",
    ]  # fmt: skip
    assert control.seen[0].query == {"by": ["day"]}


def test_usage_as_csv_is_what_the_server_made(control: ControlServer, cli: Cli) -> None:
    control.on("GET", "/api/v1/usage.csv", Scripted(pieces=(b"day,name\r\n2026-11-29,\r\n",)))
    ran = cli("usage", "--by", "day", "--csv")
    assert ran.out.splitlines() == ["day,name", "2026-11-29,"]
    assert cli("usage", "--csv", "--json").code == ExitCode.USAGE


def test_a_budget_is_set_shown_and_lifted(control: ControlServer, cli: Cli) -> None:
    control.on("PUT", "/api/v1/budgets/deployment/studio", BUDGET)
    control.on("GET", "/api/v1/budgets", {"budgets": [BUDGET]})
    control.on("DELETE", "/api/v1/budgets/token/tk_1", Scripted(204))
    ran = cli("budget", "set", "5", "-d", "studio")
    assert "120%" in ran.out
    assert json.loads(control.seen[0].body) == {"monthly_cost": 5.0}
    assert "studio" in cli("budget", "list").out
    assert cli("budget", "list", "--json").json == {"budgets": [BUDGET]}
    assert cli("budget", "rm", "--of-token", "tk_1").code == 0
    for wrong in (["set", "5"], ["rm"], ["set", "5", "-d", "a", "--of-token", "b"]):
        ran = cli("budget", *wrong)
        assert ran.code == ExitCode.USAGE
        assert "one of them" in ran.err
    assert cli("budget", "set", "-1", "-d", "studio").code == ExitCode.USAGE


def test_what_is_over_budget_is_refused(control: ControlServer, cli: Cli) -> None:
    error = {"error": {"code": "budget_spent", "message": "studio has spent it", "details": {}}}
    control.on(
        "POST",
        "/api/v1/deployments/studio/warm",
        Scripted(402, pieces=(json.dumps(error).encode(),)),
    )
    ran = cli("deployment", "warm", "studio")
    assert ran.code == ExitCode.REFUSED
    assert "studio has spent it" in ran.err


def test_an_estimate_says_what_it_rests_on(control: ControlServer, cli: Cli) -> None:
    Path("w.json").write_text("{}")
    one = {"deployments": [answers.deployment("demo")]}
    control.on("GET", "/api/v1/deployments", one)
    control.on("POST", "/api/v1/deployments/demo/workflows:estimate", ESTIMATE)
    ran = cli("estimate", "w.json")
    assert "from 3 jobs that did the same work" in ran.err
    assert "1000 ms" in ran.out
    assert "0.000694" in ran.out
    assert cli("estimate", "w.json", "-d", "demo", "--json").json == ESTIMATE


def test_an_estimate_that_rests_on_nothing(control: ControlServer, cli: Cli) -> None:
    Path("w.json").write_text("{}")
    control.on("GET", "/api/v1/deployments", {"deployments": [answers.deployment("demo")]})
    control.on("GET", "/api/v1/deployments", {"deployments": []})
    nothing = {**ESTIMATE, "basis": "nothing", "samples": 0}
    control.on("POST", "/api/v1/deployments/demo/workflows:estimate", nothing)
    assert "no job of this deployment has succeeded" in cli("estimate", "w.json").err
    assert "--deployment" in cli("estimate", "w.json").err


def test_a_trace_is_replayed(cli: Cli) -> None:
    Path("trace.csv").write_text(TRACE)
    ran = cli("simulate", "trace.csv", "--price", "3600", "--wake", "5", "--idle-timeout", "10")
    assert ran.code == 0
    rows = {line.split("  ")[0]: line.split() for line in ran.out.splitlines() if line}
    assert rows["always on"][2] == "75.00"
    assert rows["asleep after 10 s"][4] == "85.00"
    found = cli("simulate", "trace.csv", "--price", "1", "--json").json
    assert found["jobs"] == 2
    assert [item["policy"]["scaling"]["idle_timeout_s"] for item in found["outcomes"]][1:] == [
        0, 10, 60, 300, 1800,
    ]  # fmt: skip


def test_what_a_server_has_on_record_is_replayed(control: ControlServer, cli: Cli) -> None:
    control.on("GET", "/api/v1/jobs", {"jobs": [job(1000, 5), job(900, 5)], "next_cursor": None})
    control.on(
        "GET",
        "/api/v1/replicas",
        {
            "replicas": [
                {
                    **answers.replica(),
                    "created_at": "2026-11-29T00:00:00Z",
                    "ready_at": "2026-11-29T00:00:03Z",
                }
            ]
        },
    )
    ran = cli("simulate", "-d", "demo", "--since", "1970-01-01T00:16:00Z", "--price", "1", "--json")
    assert ran.json["jobs"] == 1, "the older one is before --since"
    assert ran.json["outcomes"][1]["starting_s"] == 3.0, "a wake takes what it took"


def test_nothing_on_record_cannot_be_replayed(control: ControlServer, cli: Cli) -> None:
    control.on("GET", "/api/v1/jobs", {"jobs": [], "next_cursor": None})
    assert "no job has succeeded" in cli("simulate").err


def test_platforms_are_compared(cli: Cli) -> None:
    Path("trace.csv").write_text(TRACE)
    table = Path("platforms.toml")
    table.write_text('[platforms."other"]\nas_of = 2026-06-01\nprice_per_hour = 3600\nwake_s = 5\n')
    ran = cli("simulate", "trace.csv", "--price", "1", "--platforms", "platforms.toml", "--json")
    other = ran.json["outcomes"][-1]
    assert other["policy"]["name"] == "other (2026-06-01)"
    assert other["cost"] == other["busy_s"] + other["idle_s"] + other["starting_s"]
    for text, said in (
        ("platforms = 3", "needs a table"),
        ("[platforms.a]\nprice = 1", "no field 'price'"),
        ("[platforms.a]\nwake_s = 1", "price_per_hour must be a number"),
        ("[platforms.a]\nprice_per_hour = -1", "price_per_hour must be a number"),
        ("[platforms.a]\nprice_per_hour = 1\nbills_wake = 1", "true or false"),
        ("[platforms", "is not TOML"),
    ):
        table.write_text(text)
        ran = cli("simulate", "trace.csv", "--platforms", "platforms.toml")
        assert ran.code == ExitCode.USAGE
        assert said in ran.err


def test_a_plot_is_drawn(cli: Cli) -> None:
    Path("trace.csv").write_text(TRACE)
    assert cli("simulate", "trace.csv", "--price", "1", "--plot", "costs.png").code == 0
    assert Path("costs.png").read_bytes().startswith(b"\x89PNG")
    ran = cli("simulate", "trace.csv", "--plot", "costs.pdf")
    assert ran.code == ExitCode.USAGE
    assert ".svg or .png" in ran.err


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "it has: nothing"),
        ("when,seconds\n1,2", "columns 'at' and 'seconds'"),
        ("at,seconds\n", "no jobs"),
        ("at,seconds\n1,2\nyesterday,2", "line 3: 'yesterday,2'"),
        ("at,seconds\n1,-2", "line 2"),
        ("at,seconds\nnan,2", "line 2"),
        ("at,seconds\n1", "line 2"),
    ],
)
def test_a_trace_that_cannot_be_read(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_trace(text, "trace.csv")


def test_columns_may_stand_in_any_order() -> None:
    assert read_trace("deployment, Seconds ,AT\nx,2,1", "t") == [Arrival(1.0, 2.0)]
