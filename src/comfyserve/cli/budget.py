"""Budgets: `budget set|list|rm`."""

from collections.abc import Callable
from typing import TypeVar

import click

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.option import option
from comfyserve.cli.options import json_option, server_options
from comfyserve.cli.tables import budgets_table
from comfyserve.domain.budget import BudgetKind

R = TypeVar("R")


def _subject_options(command: Callable[..., R]) -> Callable[..., R]:
    deployment = option("--deployment", "-d", metavar="NAME", help="The cap of this deployment.")
    # Not --token: that is the credential of every command.
    token = option("--of-token", metavar="TOKEN", help="The cap of the token with this id.")
    return deployment(token(command))


@click.group(short_help="Cap what a deployment or token may cost in a month.")
def budget() -> None:
    """Budgets: once a month's cap is reached, new work is refused with a 402.

    Work that was accepted before still runs. A month is a calendar month in UTC.
    """


@budget.command("set", short_help="Set a monthly cap.")
@click.argument("monthly_cost", metavar="AMOUNT", type=click.FloatRange(min=0))
@_subject_options
@json_option
@server_options
def set_budget(
    client: Client,
    *,
    monthly_cost: float,
    deployment: str | None,
    of_token: str | None,
    as_json: bool,
) -> None:
    """Let a deployment, or the jobs of a token, cost AMOUNT a month, in the currency of your prices."""
    answer = client.put_budget(*_subject(deployment, of_token), monthly_cost)
    if as_json:
        render.emit_json(answer.json)
    else:
        render.show(budgets_table([answer.value]))


@budget.command("list", short_help="List the caps.")
@json_option
@server_options
def list_budgets(client: Client, *, as_json: bool) -> None:
    """List all caps, and what is spent of each this month."""
    answer = client.budgets()
    if as_json:
        render.emit_json(answer.json)
    elif answer.value.budgets:
        render.show(budgets_table(answer.value.budgets))
    else:
        render.say("no budgets; set one with `comfyserve budget set AMOUNT --deployment NAME`")


@budget.command("rm", short_help="Lift a cap.")
@_subject_options
@server_options
def remove_budget(client: Client, *, deployment: str | None, of_token: str | None) -> None:
    """Lift the cap of a deployment or token."""
    kind, name = _subject(deployment, of_token)
    client.delete_budget(kind, name)
    render.say(f"the {kind} '{name}' has no budget any more")


def _subject(deployment: str | None, of_token: str | None) -> tuple[BudgetKind, str]:
    if (deployment is None) == (of_token is None):
        raise click.UsageError("give --deployment NAME or --of-token TOKEN, one of them")
    if deployment is not None:
        return BudgetKind.DEPLOYMENT, deployment
    return BudgetKind.TOKEN, str(of_token)
