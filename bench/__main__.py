"""`make bench`: prints a table and writes `bench-results/latest.json`.

`make bench ARGS="--comfyui-dir DIR --python PY"` measures a real ComfyUI instead of the embedded
engine; `ARGS="--only wake"` one measure alone.
"""

import asyncio
import json
import os
import platform
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from pathlib import Path

import click
from rich.console import Console
from rich.table import Table

from bench import measures
from bench.measures import Row
from bench.processes import EngineUnderTest

Measure = Callable[[EngineUnderTest], Awaitable[list[Row]]]
MEASURES: dict[str, Measure] = {
    "warm": measures.warm_latency,
    "wake": measures.wake,
    "accepts": measures.accepts,
    "histories": measures.histories,
    "idle": measures.idle,
    "efficiency": measures.efficiency,
}
# They need the embedded engine's sleeping node.
EMBEDDED_ONLY = {"efficiency"}


@click.command()
@click.option("--comfyui-dir", type=click.Path(exists=True, file_okay=False, resolve_path=True))
@click.option("--python", help="Interpreter for ComfyUI.")
@click.option("--only", multiple=True, type=click.Choice(list(MEASURES)), help="Just these.")
@click.option("--out", type=click.Path(path_type=Path), default=Path("bench-results/latest.json"))
def main(comfyui_dir: str | None, python: str | None, only: tuple[str, ...], out: Path) -> None:
    """Measure comfyserve beside the engine itself."""
    engine = EngineUnderTest(comfyui_dir, python)
    names = [name for name in (only or MEASURES) if not (engine.is_real and name in EMBEDDED_ONLY)]
    console = Console()
    rows: list[Row] = []
    for name in names:
        console.print(f"measuring {name} ...", style="dim")
        rows += asyncio.run(_measured(MEASURES[name], engine))
    console.print(_table(rows, "ComfyUI" if engine.is_real else "embedded engine"))
    out.parent.mkdir(parents=True, exist_ok=True)
    facts = {
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }
    shown = [{**asdict(row), "ratio": row.ratio} for row in rows]
    out.write_text(json.dumps({"facts": facts, "engine": asdict(engine), "rows": shown}, indent=1))
    console.print(f"written to {out}", style="dim")


async def _measured(measure: Measure, engine: EngineUnderTest) -> list[Row]:
    return await measure(engine)


def _table(rows: list[Row], engine: str) -> Table:
    table = Table("what", "comfyserve", engine, "ratio", "unit", "goal")
    for row in rows:
        theirs = "-" if row.theirs is None else f"{row.theirs:.1f}"
        ratio = "-" if row.ratio is None else f"{row.ratio:.3f}"
        table.add_row(row.what, f"{row.ours:.2f}", theirs, ratio, row.unit, row.goal)
    return table


if __name__ == "__main__":
    main()
