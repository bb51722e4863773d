"""`simulate`: what the same traffic would have cost under other policies."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.table import Table
from rich.text import Text

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.cost_plot import check_plot, save_plot
from comfyserve.cli.documents import read_file, read_input
from comfyserve.cli.option import option
from comfyserve.cli.options import gather, json_option, server_options
from comfyserve.cli.policies import Own, own_policies, read_platforms
from comfyserve.cli.trace import measured_wake_s, read_trace, recorded_trace
from comfyserve.cli.units import count_text, duration_text, utc_now
from comfyserve.cli.usage import read_moment
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.simulation import Arrival, Outcome
from comfyserve.domain.simulation import simulate as replay
from comfyserve.domain.usage import price_of
from comfyserve.settings import load_settings

_IDLE_TIMEOUTS_S = (0.0, 10.0, 60.0, 300.0, 1800.0)
_UNMEASURED_WAKE_S = 30.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is replayed, and under which policies."""

    trace: str | None
    deployment: str | None
    since: str | None
    idle_timeouts_s: tuple[float, ...]
    max_replicas: int
    wake_s: float | None
    gpu: str
    price: float | None
    platforms: Path | None
    plot: Path | None
    as_json: bool


@click.command(short_help="Say what the same traffic would have cost otherwise.")
@click.argument("trace", metavar="[TRACE]", required=False)
@option("--deployment", "-d", metavar="NAME", help="Replay the jobs of this deployment.")
@option(
    "--since", metavar="WHEN", help="Replay the jobs since then: a date, or 24h, 30d. Default: all."
)
@option(
    "--idle-timeout",
    "idle_timeouts_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    multiple=True,
    default=_IDLE_TIMEOUTS_S,
    help="Sleep after so long without work. Repeatable. Default: 0, 10, 60, 300, 1800.",
)
@option(
    "--max-replicas",
    metavar="N",
    type=click.IntRange(1, 1000),
    default=1,
    help="How many replicas there may be. Default: 1.",
)
@option(
    "--wake",
    "wake_s",
    metavar="SECONDS",
    type=click.FloatRange(min=0),
    help="How long a wake takes. Default: as measured on the server, 30 for a TRACE.",
)
@option(
    "--gpu",
    metavar="TYPE",
    default="",
    help="Price by this type in the setting `prices`. Default: cpu.",
)
@option(
    "--price",
    metavar="AMOUNT",
    type=click.FloatRange(min=0),
    help="Price per hour, in place of that of the setting.",
)
@option(
    "--platforms",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Compare with the hosted platforms in this TOML table.",
)
@option(
    "--plot",
    metavar="FILE",
    type=click.Path(dir_okay=False, path_type=Path),
    help="Draw it too: a name that ends in .svg or .png. Needs the extra `plot`.",
)
@json_option
@server_options
@gather(Wanted)
def simulate(client: Client, wanted: Wanted) -> None:
    """Replay traffic under policies, and compare what each costs and how long its jobs wait.

    TRACE is a CSV file with the columns `at` (RFC 3339, or seconds since the epoch) and `seconds`, or - for
    stdin; without one, the jobs that a server has on record are replayed. Spin-up is not billed here; a
    platform says with `bills_wake` whether it is there.
    """
    if wanted.plot is not None:
        check_plot(wanted.plot)
    trace, wake_s = _traffic(client, wanted)
    prices = load_settings().prices
    price = price_of(wanted.gpu, prices) if wanted.price is None else wanted.price
    if price == 0:
        render.warn("the price is 0: give --price, or --gpu with a type of the setting `prices`")
    policies = own_policies(Own(price, wake_s, wanted.max_replicas), wanted.idle_timeouts_s)
    if wanted.platforms is not None:
        text = _text(read_file(wanted.platforms), str(wanted.platforms))
        policies += read_platforms(text, str(wanted.platforms))
    outcomes = [replay(trace, policy) for policy in policies]
    if wanted.plot is not None:
        save_plot(outcomes, wanted.plot)
    if wanted.as_json:
        render.emit_json({"jobs": len(trace), "outcomes": [_json(item) for item in outcomes]})
        return
    span = max(job.at for job in trace) - min(job.at for job in trace)
    render.say(
        f"{count_text(len(trace), 'job')} in {duration_text(span)}, a wake takes {duration_text(wake_s)}"
    )
    render.show(_table(outcomes))


def _traffic(client: Client, wanted: Wanted) -> tuple[Sequence[Arrival], float]:
    if wanted.trace is not None:
        if wanted.deployment is not None or wanted.since is not None:
            raise click.UsageError("give a TRACE, or --deployment and --since, not both")
        text = _text(read_input(wanted.trace), wanted.trace)
        wake_s = _UNMEASURED_WAKE_S if wanted.wake_s is None else wanted.wake_s
        return read_trace(text, wanted.trace), wake_s
    since = None if wanted.since is None else read_moment(wanted.since, utc_now())
    trace = recorded_trace(client, wanted.deployment, since)
    if wanted.wake_s is not None:
        return trace, wanted.wake_s
    measured = measured_wake_s(client, wanted.deployment)
    return trace, _UNMEASURED_WAKE_S if measured is None else measured


def _text(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InvalidInput(f"{name} is not UTF-8 text: {error}") from error


def _table(outcomes: Sequence[Outcome]) -> Table:
    names = ("COST", "WAKES", "BUSY", "IDLE", "WAIT P50", "WAIT P95", "WAIT MAX")
    table = render.columns("POLICY", *names, right=names)
    for item in outcomes:
        waits = (item.wait_p50_s, item.wait_p95_s, item.wait_max_s)
        table.add_row(
            Text(item.policy.name, "bold"),
            f"{item.cost:.2f}",
            str(item.wakes),
            duration_text(item.busy_s),
            duration_text(item.idle_s),
            *map(duration_text, waits),
        )
    return table


def _json(outcome: Outcome) -> Mapping[str, Any]:
    return asdict(outcome)
