"""`run`: send a workflow, watch it, save what it makes."""

import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import click

from comfyserve.cli import render
from comfyserve.cli.answers import Job, Remark
from comfyserve.cli.client import Client
from comfyserve.cli.errors import (
    ConnectionLost,
    Interrupted,
    JobFailed,
    PromptRefused,
    TimedOut,
)
from comfyserve.cli.follow import Follower
from comfyserve.cli.live import choose_view
from comfyserve.cli.option import option
from comfyserve.cli.options import gather, json_option, server_options
from comfyserve.cli.saving import save_outputs
from comfyserve.cli.tables import receipt_table
from comfyserve.cli.workflow_file import WorkflowFile, read_prompt, refer_to, set_inputs
from comfyserve.clock import SystemClock
from comfyserve.domain.job import JobState
from comfyserve.sdk.refusals import node_lines, prompt_refused

_SUBMISSIONS = 3
_SHOWN_TRACE = 12
_SHOWN_REMARKS = 8
_CANCEL_S = 10.0


@dataclass(frozen=True, slots=True)
class Order:
    """What was typed."""

    workflow: IO[bytes]
    deployment: str | None
    settings: tuple[str, ...]
    inputs: tuple[Path, ...]
    out: Path
    timeout: float | None
    as_json: bool


@click.command(short_help="Run a workflow and save what it makes.")
@click.argument("workflow", type=click.File("rb"))
@option(
    "--deployment",
    "-d",
    metavar="NAME",
    envvar="COMFYSERVE_DEPLOYMENT",
    help="Run it there; else on the deployment called 'default', else on the oldest.",
)
@option(
    "--set",
    "settings",
    metavar="NODE.INPUT=VALUE",
    multiple=True,
    help="Set an input; NODE is an id, or a title or class that is there once. Repeatable.",
)
@option(
    "--input",
    "inputs",
    metavar="FILE",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Upload a file that the workflow names. Repeatable.",
)
@option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("comfyserve-out"),
    help="Where the outputs are saved. Default: comfyserve-out.",
)
@option(
    "--timeout",
    metavar="SECONDS",
    type=click.FloatRange(min=0, min_open=True),
    help="Wait no longer than this; the job itself goes on.",
)
@json_option
@server_options
@gather(Order)
def run(client: Client, order: Order) -> None:
    """Run WORKFLOW (a file, or - for stdin) and save every file that it makes.

    Shows on stderr the place in the queue, the wake, and each node with its steps. Prints on
    stdout the paths of the saved files, with --json the job. Ctrl-C asks whether to cancel it.
    """
    file = _read(client, order)
    file, warnings = set_inputs(file, order.settings)
    for warning in warnings:
        render.warn(warning)
    file = _upload(client, order, file)
    job_id = submit(client, order.deployment, file, as_json=order.as_json)
    render.say(f"job {job_id}", style="bold")
    job = watch(client, job_id, file.labels(), order.timeout)
    saved = save_outputs(client, job, order.out)
    if job.receipt:
        render.say()
        render.say_table(receipt_table(job.receipt))
    if order.as_json:
        document = client.job(job_id).json
        render.emit_json({**document, "saved": [str(path) for path in saved]})
    else:
        for path in saved:
            render.emit(str(path))
    check_end(job)


def submit(
    client: Client, deployment: str | None, file: WorkflowFile, *, as_json: bool = False
) -> str:
    """Send the prompt, again if the connection breaks: the key makes it one job. Return its id."""
    key = str(uuid.uuid4())
    for _ in range(_SUBMISSIONS - 1):
        try:
            return _submit_once(client, deployment, file, key, as_json=as_json)
        except (TimedOut, ConnectionLost):
            render.warn("the server did not answer; sending the workflow again, under the same key")
    return _submit_once(client, deployment, file, key, as_json=as_json)


def _submit_once(
    client: Client, deployment: str | None, file: WorkflowFile, key: str, *, as_json: bool
) -> str:
    try:
        accepted = client.submit(deployment, file.body, key)
    except PromptRefused as error:
        if as_json:
            render.emit_json(error.body)
        raise prompt_refused(error.body, file.labels()) from None
    if accepted.node_errors:
        render.warn("only a part of the workflow runs; what is wrong with the rest:")
        for line in node_lines(accepted.node_errors, file.labels()):
            render.say(f"  {line}")
    _show_remarks(accepted.warnings)
    return accepted.prompt_id


def watch(
    client: Client, job_id: str, labels: Mapping[str, str], timeout_s: float | None = None
) -> Job:
    """Show the job until it ends. Ctrl-C asks whether to cancel it and raises Interrupted."""
    clock = SystemClock()
    follower = Follower(client, job_id, clock, timeout_s=timeout_s)
    try:
        with choose_view(clock) as view:
            return follower.follow(view, labels)
    except KeyboardInterrupt:
        raise _interrupted(client, job_id) from None


def check_end(job: Job) -> None:
    """Raise what a job's end means: nothing for success, else JobFailed or TimedOut."""
    if job.state is JobState.SUCCEEDED:
        return
    if job.state is JobState.EXPIRED:
        raise TimedOut(f"job {job.id} waited longer for a slot than its deployment allows")
    error = job.error
    if error is None:
        raise JobFailed(f"job {job.id}: {job.state}")
    where = f" at node {error.node_id} ({error.class_type})" if error.node_id else ""
    evidence = [*_trace(error.traceback), *error.log_tail]
    raise JobFailed(
        f"job {job.id} failed{where}: {error.message.strip()}", code=error.code, evidence=evidence
    )


def _read(client: Client, order: Order) -> WorkflowFile:
    data = order.workflow.read()
    if (file := read_prompt(data)) is not None:
        return file

    # Here, not at the top: the common case does without the converter.
    from comfyserve.cli.conversion import convert_file

    file = convert_file(data, order.workflow.name, lambda: client.object_info(order.deployment))
    _show_remarks(file.remarks)
    return file


def _show_remarks(remarks: Sequence[Remark]) -> None:
    for remark in remarks[:_SHOWN_REMARKS]:
        render.warn(remark.line)
    if len(remarks) > _SHOWN_REMARKS:
        render.warn(f"and {len(remarks) - _SHOWN_REMARKS} more remarks")


def _upload(client: Client, order: Order, file: WorkflowFile) -> WorkflowFile:
    for path in order.inputs:
        uploaded = client.upload(order.deployment, path)
        file, count = refer_to(file, (path.name, str(path)), uploaded.reference)
        if not count:
            render.warn(
                f"no input of the workflow is '{path.name}'; it was uploaded as "
                f"'{uploaded.reference}', name it with --set NODE.INPUT={uploaded.reference}"
            )
    return file


def _trace(traceback: Sequence[str]) -> list[str]:
    lines = "".join(line if line.endswith("\n") else f"{line}\n" for line in traceback).splitlines()
    return lines[-_SHOWN_TRACE:]


def _interrupted(client: Client, job_id: str) -> Interrupted:
    if render.is_interactive() and _wants_cancel():
        return Interrupted(f"job {job_id} is {_cancel(client, job_id).state}")
    return Interrupted(
        f"job {job_id} goes on; see `comfyserve job show {job_id}`, or end it with "
        f"`comfyserve job cancel {job_id}`"
    )


def _cancel(client: Client, job_id: str) -> Job:
    """Cancel, and wait a moment for a running node to heed it."""
    job = client.cancel_job(job_id).value
    clock = SystemClock()
    try:
        with choose_view(clock) as view:
            return Follower(client, job_id, clock, timeout_s=_CANCEL_S).follow(view, {})
    except TimedOut:
        return job


def _wants_cancel() -> bool:
    try:
        return click.confirm("Cancel the job?", err=True)
    except click.Abort:
        return False
