"""`doctor`: check this machine, and say how to mend it."""

import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path

import click
from rich.text import Text

from comfyserve.cli import checks, render
from comfyserve.cli.checks import Finding, Level
from comfyserve.cli.client import Client
from comfyserve.cli.comfyui_checks import check_comfyui
from comfyserve.cli.errors import CommandError
from comfyserve.cli.option import option
from comfyserve.cli.options import gather, json_option, server_options
from comfyserve.cli.public_checks import check_public
from comfyserve.cli.units import count_text
from comfyserve.runtime.nvml import read_inventory
from comfyserve.settings import load_settings

_MARKS = {
    Level.OK: ("✔", "green"),
    Level.WARNING: ("!", "yellow"),
    Level.PROBLEM: ("✘", "bold red"),
}


@dataclass(frozen=True, slots=True)
class Patient:
    """What is looked at; None: as set."""

    comfyui_dir: Path | None
    python: str | None
    home: str | None
    port: int | None
    as_json: bool


@click.command(short_help="Check this machine, and say how to mend it.")
@option(
    "--comfyui-dir",
    metavar="DIR",
    type=click.Path(path_type=Path),
    help="Look at this ComfyUI installation too.",
)
@option("--python", metavar="PATH", help="The Python that ComfyUI runs with.")
@option("--home", metavar="DIR", envvar="COMFYSERVE_HOME", help="The home of the server.")
@option(
    "--port",
    metavar="PORT",
    type=click.IntRange(0, 65535),
    envvar="COMFYSERVE_PORT",
    help="The port of the server.",
)
@json_option
@server_options
@gather(Patient)
def doctor(client: Client, patient: Patient) -> None:
    """Check Python, GPUs, confinement, home, disk, port, server, public HTTPS and a ComfyUI.

    Exits with 1 if there is a problem; warnings are for your judgement.
    """
    findings = []
    for finding in examine(client, patient):
        findings.append(finding)
        if not patient.as_json:
            render.show(_line(finding))
    if patient.as_json:
        render.emit_json({"findings": [asdict(finding) for finding in findings]})
    problems = sum(finding.level is Level.PROBLEM for finding in findings)
    if problems:
        raise CommandError(f"{count_text(problems, 'problem')} to mend")


def examine(client: Client, patient: Patient) -> Iterator[Finding]:
    """Look at everything, one thing after the other."""
    settings = load_settings(home=patient.home, port=patient.port)
    inventory = read_inventory()
    yield checks.check_python(sys.version_info[:3])
    yield checks.check_gpus(inventory)
    yield checks.check_bubblewrap(settings.confine)
    yield checks.check_home(settings.home_path)
    yield checks.check_disk(settings.home_path)
    server, ready = checks.check_server(client)
    yield server
    is_ours = ready is not None and client.url.endswith(f":{settings.port}")
    yield checks.check_port(settings.host, settings.port, is_ours=is_ours)
    yield from check_public(settings, is_running=is_ours)
    if patient.comfyui_dir is not None:
        yield from check_comfyui(patient.comfyui_dir, patient.python, gpus=len(inventory.gpus))


def _line(finding: Finding) -> Text:
    mark, style = _MARKS[finding.level]
    line = Text.assemble((mark, style), f" {finding.name.ljust(15)} {finding.detail}")
    if finding.mend:
        line.append(f"\n  {' ' * 15} {finding.mend}", "yellow")
    return line
