"""`demo`: a workflow through an API that was asleep, and asleep again."""

import json
import shutil
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.resources import as_file, files
from pathlib import Path

import click

from comfyserve.cli import render
from comfyserve.cli.answers import Job
from comfyserve.cli.client import Client, native_prefix
from comfyserve.cli.errors import CommandError, TimedOut
from comfyserve.cli.option import option
from comfyserve.cli.private_server import PrivateServer, private_server
from comfyserve.cli.run import check_end, submit, watch
from comfyserve.cli.saving import save_outputs
from comfyserve.cli.tables import receipt_table
from comfyserve.cli.units import duration_text, ms_text, size_text
from comfyserve.cli.workflow_file import read_prompt, refer_to
from comfyserve.clock import SystemClock
from comfyserve.domain.usage import Receipt
from comfyserve.sdk.transport import Transport

_NAME = "demo"
_IDLE_S = 2.0
_DEPLOY_S = 60.0
_ASLEEP_S = 30.0
_POLL_S = 0.05
_WORKFLOW, _PHOTOGRAPH = "postcard_api.json", "postcard.jpg"


@dataclass(frozen=True, slots=True)
class Shown:
    """What the demonstration has done, for the calls that it leaves to the user."""

    job: Job
    saved: Sequence[Path]
    directory: Path


@click.command(short_help="See a workflow go through an API that was asleep.")
@option("--keep", is_flag=True, help="Leave the server running until Ctrl-C, with calls to try.")
@option(
    "--out",
    metavar="DIR",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path("comfyserve-demo"),
    help="Where the example and its result are put. Default: comfyserve-demo.",
)
def demo(*, keep: bool, out: Path) -> None:
    """Start a server, deploy the embedded engine, run an example, see everything fall asleep.

    Needs no GPU, no ComfyUI and no particular port. Everything but DIR is removed at the end.
    """
    # As Ctrl-C: the server must not outlive us.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _unpack(out)
    _title("A server, on a free port, with a home of its own")
    with private_server() as server:
        client = Client(Transport(server.url))
        render.say(f"  {server.url}")
        _deploy(client)
        shown = _run(client, out)
        _wait_for_zero(client)
        _read_again(client, shown)
        for path in shown.saved:
            render.emit(str(path))
        if keep:
            _keep(server, shown)


def _title(text: str) -> None:
    render.say()
    render.say(text, style="bold")


def _unpack(out: Path) -> None:
    out.mkdir(parents=True, exist_ok=True)
    for name in (_WORKFLOW, _PHOTOGRAPH):
        with as_file(files("comfyserve") / "examples" / name) as path:
            shutil.copyfile(path, out / name)


def _deploy(client: Client) -> None:
    _title("A deployment of the embedded engine: started once, asked what it is, stopped")
    spec = {"engine": {"kind": "embedded"}, "scaling": {"idle_timeout_s": _IDLE_S}}
    began = SystemClock().monotonic()
    with render.busy("  deploying"):
        deployed = client.deploy(_NAME, spec, _DEPLOY_S).value
    took = duration_text(SystemClock().monotonic() - began)
    awake = len(client.replicas().value.replicas)
    render.say(f"  {deployed.url} after {took}: {deployed.status}, {awake} replicas")


def _run(client: Client, out: Path) -> Shown:
    file = read_prompt((out / _WORKFLOW).read_bytes())
    if file is None:
        raise CommandError(f"{_WORKFLOW} in {out} is not the example any more")
    _title(f"A workflow of {len(file.prompt)} nodes on a photograph; nothing is awake yet")
    uploaded = client.upload(_NAME, out / _PHOTOGRAPH)
    file, _ = refer_to(file, (_PHOTOGRAPH,), uploaded.reference)
    (out / "prompt.json").write_text(json.dumps({"prompt": file.prompt}), "utf-8")
    job = watch(client, submit(client, _NAME, file), file.labels())
    check_end(job)
    saved = save_outputs(client, job, out)
    if job.receipt is not None:
        _title("Where the time went")
        render.say(f"  {_timeline(job.receipt)}")
        render.say()
        render.say_table(receipt_table(job.receipt))
    return Shown(job, saved, out)


def _timeline(receipt: Receipt) -> str:
    parts = (
        ("queued", receipt.queued_ms),
        ("waking", receipt.wake_ms),
        ("loading", receipt.load_ms),
        ("executing", receipt.execute_ms),
    )
    steps = (f"{name} {ms_text(milliseconds)}" for name, milliseconds in parts)
    return " → ".join(("accepted", *steps, "done"))


def _wait_for_zero(client: Client) -> None:
    _title(f"No more work: asleep after {_IDLE_S:g} s")
    clock = SystemClock()
    began = clock.monotonic()
    with render.busy("  waiting for zero replicas"):
        while client.deployment(_NAME).value.replicas:
            if clock.monotonic() - began > _ASLEEP_S:
                raise TimedOut(f"a replica is still awake after {_ASLEEP_S:g} s without work")
            time.sleep(_POLL_S)
    took = duration_text(clock.monotonic() - began)
    render.say(f"  {client.deployment(_NAME).value.status} after {took}: 0 replicas")


def _read_again(client: Client, shown: Shown) -> None:
    """Read what ComfyUI's API gives for the job. Raises CommandError if that wakes anything."""
    _title("Reading with nothing awake")
    ever = len(client.replicas(ended=True).value.replicas)
    history_path = f"{native_prefix(_NAME)}/history/{shown.job.id}"
    clock = SystemClock()
    began = clock.monotonic()
    entry = json.loads(client.native(history_path)).get(shown.job.id)
    history_ms = round((clock.monotonic() - began) * 1000)
    if not entry or entry["status"]["status_str"] != "success":
        raise CommandError(f"{history_path} does not have the job any more")
    render.say(f"  GET {history_path}: success, {len(entry['outputs'])} outputs, {history_ms} ms")
    for output, path in zip(shown.job.outputs, shown.saved, strict=True):
        began = clock.monotonic()
        data = b"".join(client.fetch(output.url))
        view_ms = round((clock.monotonic() - began) * 1000)
        if data != path.read_bytes():
            raise CommandError(f"/view gave other bytes for {output.name} than before")
        size = size_text(len(data))
        render.say(f"  GET /view {output.name}: the same {size}, {view_ms} ms")
    awake = len(client.replicas().value.replicas)
    if awake or len(client.replicas(ended=True).value.replicas) != ever:
        raise CommandError("reading woke a replica")
    render.say(f"  {awake} replicas: reading woke nothing", style="bold green")


def _keep(server: PrivateServer, shown: Shown) -> None:
    base, directory = f"{server.url}{native_prefix(_NAME)}", shown.directory
    first = min(shown.job.outputs, key=lambda output: output.type != "output")
    view = f"{base}/view?filename={first.name}&subfolder={first.subfolder}&type={first.type}"
    _title("It goes on running. Try, from another terminal:")
    for what, call in (
        (
            "submit",
            f"{base}/prompt -H 'Content-Type: application/json' -d @{directory}/prompt.json",
        ),
        ("history", f"{base}/history/{shown.job.id}"),
        ("view", f"'{view}' -o again{Path(first.name).suffix}"),
        ("queue", f"{base}/queue"),
        ("upload", f"-F image=@{directory}/{_PHOTOGRAPH} {base}/upload/image"),
    ):
        render.say(f"  {what.ljust(8)} curl -s {call}")
    render.say(f"  or       comfyserve status --url {server.url}")
    render.say("Ctrl-C ends it.", style="dim")
    try:
        server.wait()
    except KeyboardInterrupt:
        render.say("stopping")
