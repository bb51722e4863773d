"""Webhooks: `webhook create|list|show|test|rotate|rm|secret|deliveries|replay`."""

from dataclasses import dataclass

import click
from rich.table import Table
from rich.text import Text

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.errors import CommandError
from comfyserve.cli.option import option
from comfyserve.cli.options import (
    confirm,
    deployment_option,
    gather,
    json_option,
    server_options,
    yes_option,
)
from comfyserve.cli.units import ago_text, utc_now
from comfyserve.cli.webhook_answers import Delivery, Webhook
from comfyserve.domain.webhook import DeliveryState, WebhookEvent

_MOST_REPLAYS = 500


@dataclass(frozen=True, slots=True)
class Filter:
    """Which deliveries are listed."""

    deployment: str | None
    webhook: str | None
    job: str | None
    state: str | None
    limit: int
    cursor: str | None
    as_json: bool


@click.group(short_help="Tell URLs of jobs; replay what they missed.")
def webhook() -> None:
    """Webhooks: URLs that are told of jobs, with signed messages (Standard Webhooks)."""


@webhook.command("create", short_help="Tell a URL of jobs.")
@click.argument("address", metavar="URL")
@option(
    "--deployment",
    "-d",
    metavar="NAME",
    envvar="COMFYSERVE_DEPLOYMENT",
    help="Whose jobs; else those of the default deployment.",
)
@option("--endpoint", metavar="NAME", help="Only jobs of this typed endpoint.")
@option(
    "--event",
    "events",
    type=click.Choice([event.value for event in WebhookEvent]),
    multiple=True,
    help="What is told. Repeatable. Default: succeeded, failed, canceled.",
)
@json_option
@server_options
def create_webhook(
    client: Client,
    *,
    address: str,
    deployment: str | None,
    endpoint: str | None,
    events: tuple[str, ...],
    as_json: bool,
) -> None:
    """Tell URL of every job, and print the secret that signs the messages, which is shown this once."""
    body = {
        "url": address,
        "deployment": deployment,
        "endpoint": endpoint,
        "events": list(events),
    }
    answer = client.create_webhook(body)
    if as_json:
        render.emit_json(answer.json)
        return
    made = answer.value
    heard = ", ".join(made.events)
    render.say(f"{made.id} is told of jobs of {_subject(made)} ({heard}); its secret:")
    render.emit(made.secret or "")


@webhook.command("list", short_help="List the webhooks.")
@deployment_option
@json_option
@server_options
def list_webhooks(client: Client, *, deployment: str | None, as_json: bool) -> None:
    """List the webhooks, without their secrets. Those of single jobs show in `webhook deliveries`."""
    answer = client.webhooks(deployment)
    if as_json:
        render.emit_json(answer.json)
    elif answer.value.webhooks:
        render.show(_webhooks_table(answer.value.webhooks))
    else:
        render.say("no webhooks; make one with `comfyserve webhook create URL`")


@webhook.command("show", short_help="Show a webhook, or a delivery with its message.")
@click.argument("wanted", metavar="ID")
@json_option
@server_options
def show_webhook(client: Client, *, wanted: str, as_json: bool) -> None:
    """Show the webhook (wh_...) or the delivery (msg_...) with the id ID."""
    if wanted.startswith("msg_"):
        delivery = client.delivery(wanted)
        if as_json:
            render.emit_json(delivery.json)
            return
        render.show(_deliveries_table([delivery.value]))
        render.emit_json(delivery.json["message"])
        return
    answer = client.webhook(wanted)
    if as_json:
        render.emit_json(answer.json)
        return
    render.show(_webhooks_table([answer.value]))
    if answer.value.ended_by:
        render.warn(f"it is told nothing any more: {answer.value.ended_by}")


@webhook.command("test", short_help="Send a test message now.")
@click.argument("webhook_id", metavar="WEBHOOK")
@json_option
@server_options
def try_webhook(client: Client, *, webhook_id: str, as_json: bool) -> None:
    """Send a test message to WEBHOOK, once, and say what came of it. Exit code 1: it was not taken."""
    answer = client.try_webhook(webhook_id)
    if as_json:
        render.emit_json(answer.json)
    if not answer.value.delivered:
        raise CommandError(f"the test message was not taken: {answer.value.error}")
    if not as_json:
        render.say(f"taken: the receiver answered {answer.value.status}")


@webhook.command("rotate", short_help="Give a webhook a new secret.")
@click.argument("webhook_id", metavar="WEBHOOK")
@json_option
@server_options
def rotate_secret(client: Client, *, webhook_id: str, as_json: bool) -> None:
    """Give WEBHOOK a new secret and print it. For a day messages are signed with the old one too."""
    answer = client.rotate_webhook(webhook_id)
    if as_json:
        render.emit_json(answer.json)
        return
    render.say("the old secret goes on to sign for 24 hours; the new one:")
    render.emit(answer.value.secret or "")


@webhook.command("rm", short_help="Remove a webhook.")
@click.argument("webhook_id", metavar="WEBHOOK")
@yes_option
@server_options
def remove_webhook(client: Client, *, webhook_id: str, yes: bool) -> None:
    """Remove WEBHOOK, with the messages that it was still to get and the record of the others."""
    found = client.webhook(webhook_id).value
    confirm(f"Remove the webhook '{found.id}' to {found.url}?", yes=yes)
    client.delete_webhook(webhook_id)
    render.say(f"{webhook_id} is removed")


@webhook.command("secret", short_help="Show what signs webhooks of your own jobs.")
@json_option
@server_options
def caller_secret(client: Client, *, as_json: bool) -> None:
    """Print the secret that signs the webhooks that you name with your jobs (`?webhook=URL`)."""
    answer = client.webhook_secret()
    if as_json:
        render.emit_json(answer.json)
        return
    render.emit(answer.value.secret)


@webhook.command("deliveries", short_help="List messages, and those that were given up.")
@deployment_option
@option("--webhook", metavar="WEBHOOK", help="Only messages to this one.")
@option("--job", metavar="JOB", help="Only messages about this job.")
@option(
    "--state",
    type=click.Choice([state.value for state in DeliveryState]),
    help="Only messages in this state; dead ones were given up.",
)
@option(
    "--limit", metavar="N", type=click.IntRange(1, 500), default=50, help="How many. Default: 50."
)
@option("--cursor", metavar="CURSOR", help="Go on where the page before ended.")
@json_option
@server_options
@gather(Filter)
def list_deliveries(client: Client, wanted: Filter) -> None:
    """List the messages that were made, the newest first, and what came of them."""
    answer = client.deliveries(
        {
            "deployment": wanted.deployment,
            "webhook": wanted.webhook,
            "job": wanted.job,
            "state": wanted.state,
            "limit": wanted.limit,
            "cursor": wanted.cursor,
        }
    )
    if wanted.as_json:
        render.emit_json(answer.json)
        return
    if not answer.value.deliveries:
        render.say("no such deliveries")
        return
    render.show(_deliveries_table(answer.value.deliveries))
    if answer.value.next_cursor:
        render.say(f"more: --cursor {answer.value.next_cursor}")


@webhook.command("replay", short_help="Deliver messages again.")
@click.argument("deliveries", metavar="[DELIVERY]...", nargs=-1)
@option("--dead", "webhook_id", metavar="WEBHOOK", help="All that WEBHOOK missed.")
@json_option
@server_options
def replay(
    client: Client, *, deliveries: tuple[str, ...], webhook_id: str | None, as_json: bool
) -> None:
    """Deliver each DELIVERY again, under its id and with all its tries."""
    wanted = list(deliveries)
    if webhook_id is not None:
        query = {"webhook": webhook_id, "state": "dead", "limit": _MOST_REPLAYS}
        client.webhook(webhook_id)
        wanted += [each.id for each in client.deliveries(query).value.deliveries]
    elif not wanted:
        raise click.UsageError("name deliveries (msg_...), or a webhook with --dead")
    made = [client.replay_delivery(each).json for each in wanted]
    if as_json:
        render.emit_json({"deliveries": made})
    else:
        render.say(f"{len(made)} will be delivered again")


def _subject(item: Webhook) -> str:
    return f"{item.deployment}/{item.endpoint}" if item.endpoint else item.deployment


def _webhooks_table(webhooks: list[Webhook] | tuple[Webhook, ...]) -> Table:
    table = render.columns("ID", "OF", "EVENTS", "URL", "CREATED", "ENDED")
    now = utc_now()
    for item in webhooks:
        table.add_row(
            item.id,
            Text(_subject(item)),
            ", ".join(item.events),
            Text(item.url),
            ago_text(item.created_at, now),
            ago_text(item.ended_at, now),
        )
    return table


def _deliveries_table(deliveries: list[Delivery] | tuple[Delivery, ...]) -> Table:
    table = render.columns("ID", "WEBHOOK", "EVENT", "JOB", "STATE", "TRIES", "WHEN", "ERROR")
    now = utc_now()
    for item in deliveries:
        table.add_row(
            item.id,
            item.webhook,
            item.event,
            item.job or "",
            item.state,
            str(item.attempts),
            ago_text(item.created_at, now),
            Text(item.error),
        )
    return table
