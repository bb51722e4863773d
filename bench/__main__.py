"""`make bench`: prints a table and writes `bench-results/latest.json`.

`make bench ARGS="--comfyui-dir DIR --python PY"` measures a real ComfyUI instead of the embedded
engine; `ARGS="--only wake"` one topic alone. A topic is a module of this package with a function
that returns rows; it is added to `TOPICS`.
"""

import asyncio
import json
import os
import platform
import sys
import time
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench.building import building
from bench.doors import doors
from bench.floods import accepts, histories
from bench.idling import idle
from bench.imports import imports
from bench.metering import metering
from bench.plain import plain
from bench.playground import playground
from bench.processes import EngineUnderTest
from bench.rows import Measure, Row
from bench.scaling import efficiency
from bench.waking import wake
from bench.warm import warm
from bench.workflows import workflows

TOPICS: dict[str, Measure] = {
    "warm": warm,
    "doors": doors,
    "wake": wake,
    "accepts": accepts,
    "histories": histories,
    "idle": idle,
    "efficiency": efficiency,
    "metering": metering,
    "workflows": workflows,
    "playground": playground,
    "imports": imports,
    "plain": plain,
    "building": building,
}
# Against ComfyUI they would measure the same again, or need the embedded engine's sleeping node.
EMBEDDED_ONLY = {
    "building",
    "doors",
    "efficiency",
    "idle",
    "imports",
    "metering",
    "plain",
    "playground",
    "workflows",
}
_TOPIC_TIMEOUT_S = 420.0


@click.command()
@click.option("--comfyui-dir", type=click.Path(exists=True, file_okay=False, resolve_path=True))
@click.option("--python", help="Interpreter for ComfyUI.")
@click.option("--only", multiple=True, type=click.Choice(list(TOPICS)), help="Just these.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("bench-results/latest.json"))
def main(comfyui_dir: str | None, python: str | None, only: tuple[str, ...], out: Path) -> None:
    """Measure comfyserve beside the engine itself."""
    engine = EngineUnderTest(comfyui_dir, python)
    topics = [
        topic for topic in (only or TOPICS) if not (engine.is_real and topic in EMBEDDED_ONLY)
    ]
    console = Console()
    rows: list[Row] = []
    failed: dict[str, str] = {}
    for topic in topics:
        began = time.perf_counter()
        try:
            rows += asyncio.run(_measured(TOPICS[topic], engine))
        except Exception as error:  # noqa: BLE001 - the other topics are worth having
            failed[topic] = f"{type(error).__name__}: {error}"
        spent = time.perf_counter() - began
        console.print(f"{topic}: {failed.get(topic, f'{spent:.0f} s')}", style="dim")
        _write(out, engine, rows, failed)
    console.print(_table(rows, "ComfyUI" if engine.is_real else "embedded engine"))
    console.print(f"written to {out}", style="dim")
    sys.exit(1 if failed else 0)


async def _measured(measure: Measure, engine: EngineUnderTest) -> list[Row]:
    async with asyncio.timeout(_TOPIC_TIMEOUT_S):
        return await measure(engine)


def _write(out: Path, engine: EngineUnderTest, rows: list[Row], failed: dict[str, str]) -> None:
    """After each topic, so that a run that is broken off leaves what it has."""
    facts = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0],
        "python": platform.python_version(),
    }
    shown = [{**asdict(row), "ratio": row.ratio} for row in rows]
    out.parent.mkdir(parents=True, exist_ok=True)
    document = {"facts": facts, "engine": asdict(engine), "rows": shown, "failed": failed}
    out.write_text(json.dumps(document, indent=1))


def _table(rows: list[Row], engine: str) -> Table:
    table = Table("what", "comfyserve", engine, "ratio", "unit", "goal")
    for row in rows:
        theirs = "-" if row.theirs is None else f"{row.theirs:.1f}"
        ratio = "-" if row.ratio is None else f"{row.ratio:.3f}"
        table.add_row(row.what, f"{row.ours:.2f}", theirs, ratio, row.unit, row.goal)
    return table


if __name__ == "__main__":
    main()
