"""`estimate`: what a workflow would take and cost, by jobs like it that have run."""

import click
from rich.table import Table

from comfyserve.cli import render
from comfyserve.cli.answers import Estimate
from comfyserve.cli.client import Client
from comfyserve.cli.documents import read_input
from comfyserve.cli.option import option
from comfyserve.cli.options import json_option, server_options
from comfyserve.cli.units import count_text, duration_text, ms_text
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.estimate import Basis, Spread

_BASES = {
    Basis.SAME_SETTINGS: "that did the same work on other texts and seeds",
    Basis.SAME_GRAPH: "of the same graph, with other sizes or steps",
    Basis.ANY_JOB: "of the deployment; none was like this one, so it is a rough guess",
}


@click.command(short_help="Say what a workflow would take and cost.")
@click.argument("file", metavar="FILE")
@option(
    "--deployment",
    "-d",
    metavar="NAME",
    envvar="COMFYSERVE_DEPLOYMENT",
    help="The deployment that would run it; not needed where there is only one.",
)
@json_option
@server_options
def estimate(client: Client, *, file: str, deployment: str | None, as_json: bool) -> None:
    """Say how long FILE would run and what it would cost, from the receipts of jobs like it.

    FILE is a workflow in any format, or - for stdin. Nothing runs and nothing wakes.
    """
    data = read_input(file)
    answer = client.estimate(deployment or _only_deployment(client), data)
    if as_json:
        render.emit_json(answer.json)
        return
    found = answer.value
    if found.basis is Basis.NOTHING:
        render.say("no job of this deployment has succeeded yet: run one, then ask again")
        return
    render.say(f"from {count_text(found.samples, 'job')} {_BASES[found.basis]}")
    render.show(_table(found))


def _only_deployment(client: Client) -> str:
    names = [item.name for item in client.deployments().value.deployments]
    if len(names) != 1:
        raise InvalidInput(f"name one with --deployment; there is: {', '.join(names) or 'none'}")
    return names[0]


def _table(found: Estimate) -> Table:
    table = render.columns(
        "WHAT", "TYPICAL", "19 OF 20 WITHIN", right=("TYPICAL", "19 OF 20 WITHIN")
    )
    rows = (("load", found.load_ms), ("execute", found.execute_ms), ("billed", found.billed_ms))
    for name, spread in rows:
        if spread is not None:
            table.add_row(name, _ms(spread.p50), _ms(spread.p95))
    if found.wake_s is not None:
        table.add_row("wake, if asleep (never billed)", duration_text(found.wake_s), "")
    if found.cost is not None:
        where = f"cost at {found.price_per_hour:g} an hour on {found.gpu or 'cpu'}"
        table.add_row(where, *_costs(found.cost))
    return table


def _ms(value: float) -> str:
    return ms_text(round(value))


def _costs(spread: Spread) -> tuple[str, str]:
    return f"{spread.p50:.6f}", f"{spread.p95:.6f}"
