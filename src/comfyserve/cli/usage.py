"""`usage`: what the replicas' seconds were spent on."""

import re
from datetime import datetime, timedelta

import click

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.options import deployment_option, json_option, option, server_options
from comfyserve.cli.tables import usage_table
from comfyserve.cli.units import utc_now

_AGO = re.compile(r"(\d+(?:\.\d+)?)([smhdw])")
_UNITS = {"s": "seconds", "m": "minutes", "h": "hours", "d": "days", "w": "weeks"}
_MOMENT_HELP = "a date, a time (RFC 3339), or how long ago: 90m, 24h, 7d"


@click.command(short_help="Show where the seconds of the replicas went.")
@deployment_option
@option("--since", metavar="WHEN", help=f"From then on: {_MOMENT_HELP}.")
@option("--until", metavar="WHEN", help=f"Until then: {_MOMENT_HELP}.")
@json_option
@server_options
def usage(
    client: Client, *, deployment: str | None, since: str | None, until: str | None, as_json: bool
) -> None:
    """Show starting, busy, idle and draining seconds by deployment and replica, and their price.

    Starting is shown but never billed.
    """
    now = utc_now()
    answer = client.usage(
        {
            "deployment": deployment,
            "since": since and read_moment(since, now),
            "until": until and read_moment(until, now),
        }
    )
    if as_json:
        render.emit_json(answer.json)
    else:
        render.show(usage_table(answer.value))


def read_moment(text: str, now: datetime) -> float:
    """Return `text` as seconds since the epoch. Raises click.BadParameter."""
    if found := _AGO.fullmatch(text):
        return (now - timedelta(**{_UNITS[found[2]]: float(found[1])})).timestamp()
    try:
        # A time without a zone is the user's own.
        return datetime.fromisoformat(text).timestamp()
    except ValueError:
        raise click.BadParameter(f"'{text}' is not {_MOMENT_HELP}") from None
