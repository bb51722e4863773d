"""`usage`: what the replicas' seconds were spent on."""

import re
from dataclasses import dataclass
from datetime import datetime, timedelta

import click

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.option import option
from comfyserve.cli.options import deployment_option, gather, json_option, server_options
from comfyserve.cli.tables import usage_groups_table, usage_table
from comfyserve.cli.units import utc_now
from comfyserve.domain.ledger import Grouping

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MOMENT_HELP = "a date, a time (RFC 3339), or how long ago: 90m, 24h, 7d"


@dataclass(frozen=True, slots=True)
class Wanted:
    """What part of the ledger is shown, and how."""

    deployment: str | None
    since: str | None
    until: str | None
    by: str | None
    as_csv: bool
    as_json: bool


@click.command(short_help="Show where the seconds of the replicas went.")
@deployment_option
@option("--since", metavar="WHEN", help=f"From then on: {_MOMENT_HELP}.")
@option("--until", metavar="WHEN", help=f"Until then: {_MOMENT_HELP}.")
@option(
    "--by",
    type=click.Choice([grouping.value for grouping in Grouping]),
    help="Add up by this; else by deployment, with the replicas of each.",
)
@option("--csv", "as_csv", is_flag=True, help="Print a CSV table on stdout.")
@json_option
@server_options
@gather(Wanted)
def usage(client: Client, wanted: Wanted) -> None:
    """Show starting, busy, idle and draining seconds, and their price.

    Starting is shown but never billed. Only what lies between --since and --until is counted. Days are
    those of UTC; by token, the seconds in which no job ran are nobody's.
    """
    if wanted.as_csv and wanted.as_json:
        raise click.UsageError("give --csv or --json, not both")
    now = utc_now()
    query = {
        "deployment": wanted.deployment,
        "since": wanted.since and read_moment(wanted.since, now),
        "until": wanted.until and read_moment(wanted.until, now),
        "by": wanted.by,
    }
    if wanted.as_csv:
        render.emit_bytes([client.usage_csv(query)])
        return
    answer = client.usage(query)
    if wanted.as_json:
        render.emit_json(answer.json)
    elif wanted.by is None:
        render.show(usage_table(answer.value))
    else:
        render.show(usage_groups_table(answer.value, wanted.by))


def read_moment(text: str, now: datetime) -> float:
    """Return `text` as seconds since the epoch. Raises click.BadParameter."""
    if found := _AGO.fullmatch(text):
        return (now - timedelta(**{_UNITS[found[2]]: float(found[1])})).timestamp()
    try:
        # A time without a zone is the user's own.
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise click.BadParameter(f"'{text}' is not {_MOMENT_HELP}") from None
