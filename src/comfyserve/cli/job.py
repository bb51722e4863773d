"""Jobs: `job list|show|cancel`."""

from dataclasses import dataclass

import click

from comfyserve.cli import render
from comfyserve.cli.client import Client
from comfyserve.cli.option import option
from comfyserve.cli.options import deployment_option, gather, json_option, pairs, server_options
from comfyserve.cli.tables import job_facts, jobs_table, outputs_table, receipt_table
from comfyserve.cli.units import utc_now
from comfyserve.domain.job import JobState


@dataclass(frozen=True, slots=True)
class Filter:
    """Which jobs are listed."""

    deployment: str | None
    states: tuple[str, ...]
    labels: tuple[str, ...]
    limit: int
    cursor: str | None
    as_json: bool


@click.group(short_help="List, show and cancel jobs.")
def job() -> None:
    """Jobs: accepted workflows, with their outputs and receipts."""


@job.command("list", short_help="List jobs, the newest first.")
@deployment_option
@option(
    "--state",
    "states",
    type=click.Choice([state.value for state in JobState]),
    multiple=True,
    help="Only jobs in this state. Repeatable.",
)
@option(
    "--label",
    "labels",
    metavar="KEY=VALUE",
    multiple=True,
    help="Only jobs with this label. Repeatable.",
)
@option(
    "--limit",
    metavar="N",
    type=click.IntRange(1, 500),
    default=50,
    help="How many. Default: 50.",
)
@option("--cursor", metavar="CURSOR", help="Go on where the page before ended.")
@json_option
@server_options
@gather(Filter)
def list_jobs(client: Client, wanted: Filter) -> None:
    """List jobs of all deployments, the newest first, a page at a time."""
    pairs(wanted.labels, "KEY=VALUE")
    answer = client.jobs(
        {
            "deployment": wanted.deployment,
            "state": wanted.states,
            "label": wanted.labels,
            "limit": wanted.limit,
            "cursor": wanted.cursor,
        }
    )
    if wanted.as_json:
        render.emit_json(answer.json)
        return
    page = answer.value
    if not page.jobs:
        render.say("no jobs")
        return
    render.show(jobs_table(page.jobs, utc_now()))
    if page.next_cursor:
        render.say(f"there are more: --cursor {page.next_cursor}", style="dim")


@job.command("show", short_help="Show a job with its outputs and receipt.")
@click.argument("job_id", metavar="JOB")
@json_option
@server_options
def show_job(client: Client, *, job_id: str, as_json: bool) -> None:
    """Show JOB: its state, error, output files and receipt."""
    answer = client.job(job_id)
    if as_json:
        render.emit_json(answer.json)
        return
    item = answer.value
    render.show(job_facts(item, utc_now()))
    if item.error and item.error.log_tail:
        render.fail("the end of the engine's log:", item.error.log_tail)
    if item.outputs:
        render.show("")
        render.show(outputs_table(item))
    if item.receipt:
        render.show("")
        render.show(receipt_table(item.receipt))


@job.command("cancel", short_help="Cancel jobs.")
@click.argument("job_ids", metavar="JOB...", nargs=-1, required=True)
@json_option
@server_options
def cancel_jobs(client: Client, *, job_ids: tuple[str, ...], as_json: bool) -> None:
    """Cancel one or several jobs, queued or running. One that has ended stays as it is."""
    canceled = [client.cancel_job(job_id) for job_id in job_ids]
    if as_json:
        render.emit_json({"jobs": [answer.json for answer in canceled]})
        return
    for answer in canceled:
        render.say(f"job {answer.value.id} is {answer.value.state}")
