"""Compares our conversion with the real frontend's, on mutants of UI workflows that nobody has seen yet.

    python -m tests.tools.compare_conversions FLAVOUR FRONTEND SEED COUNT

FLAVOUR: 1.49 or 1.27. FRONTEND: the unpacked `static` folder of the frontend package of that version. Prints each
difference and the score; the workflows that differ are kept in `differences.jsonl`, with the frontend's prompt.
Needs what `tests/tools/editor.py` needs, and the shared corpora.
"""

import asyncio
import gzip
import json
import sys
import tempfile
from collections import Counter
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, Final

from tests.e2e.ports import two_free_ports
from tests.tools.editor import editor
from tests.tools.engine import find_installations
from tests.tools.ui_mutants import UiMutator
from tests.tools.verdict_cases import corpora
from tests.unit.workflow.pairs import Pair, committed, corpus, differences

from comfyserve.workflow.flavours import Flavour

_SERVERS: Final = {Flavour.NEW: "0.33.0", Flavour.OLD: "0.3.64"}
_LARGEST: Final = 80_000
_NOT_TO_TELL: Final = {"hand__remote_combo", "hand__load3d"}
"""Their values are the server's or the browser's, see docs/workflows.md."""


def _mutants(pairs: list[Pair], seed: int) -> Iterator[tuple[str, Any]]:
    """Go through mutants without an end: every fourth of a group node, a subgraph, a handmade one."""
    rng = Random(seed)
    mutator = UiMutator(rng)
    texts = {pair.name: json.dumps(pair.ui) for pair in pairs}
    usable = [p for p in pairs if len(texts[p.name]) < _LARGEST and p.name not in _NOT_TO_TELL]
    kinds = [
        usable,
        [pair for pair in usable if pair.name.startswith(("hand", "own"))],
        [pair for pair in usable if '"groupNodes"' in texts[pair.name]],
        [pair for pair in usable if '"definitions"' in texts[pair.name]],
    ]
    while True:
        pair = rng.choice(rng.choice(kinds))
        changes, workflow = mutator.mutant(pair.ui)
        if changes:
            yield f"{pair.name} {changes}", workflow


@dataclass(frozen=True, slots=True)
class Compared:
    """One mutant: what the editor made of it, `None` where it cannot, and where ours differs."""

    name: str
    workflow: Any
    theirs: Any
    differences: list[str]


async def compared(flavour: Flavour, frontend: Path, seed: int) -> AsyncGenerator[Compared, None]:
    """Go through mutants without an end, each as the editor converts it and as we do."""
    catalog, pairs = corpus(corpora(), flavour, "pairs")
    info = gzip.decompress((corpora() / f"object_info-{_SERVERS[flavour]}.json.gz").read_bytes())
    installation, port = find_installations()[0], two_free_ports()[0]
    with tempfile.TemporaryDirectory() as base:
        async with editor(installation, frontend, info.decode(), Path(base), port) as browser:
            for name, workflow in _mutants([*pairs, *committed(flavour)[1]], seed):
                theirs = await browser.convert(workflow)
                pair = Pair(name, workflow, theirs)
                found = [] if theirs is None else differences(pair, catalog, flavour)
                yield Compared(name, workflow, theirs, found)


async def main() -> None:
    """Compare so many mutants."""
    flavour, frontend = Flavour(sys.argv[1]), Path(sys.argv[2])
    seed, count = int(sys.argv[3]), int(sys.argv[4])
    score: Counter[str] = Counter()
    async with aclosing(compared(flavour, frontend, seed)) as mutants:
        async for each in mutants:
            if each.theirs is None:
                score["not convertible in the editor"] += 1
                continue
            score["different" if each.differences else "equal"] += 1
            if each.differences:
                _keep(each)
            if score["equal"] + score["different"] == count:
                break
    sys.stdout.write(f"frontend {flavour}, seed {seed}: {dict(score)}\n")
    sys.exit(bool(score["different"]))


def _keep(each: Compared) -> None:
    with Path("differences.jsonl").open("a") as kept:
        kept.write(json.dumps({"name": each.name, "ui": each.workflow, "api": each.theirs}) + "\n")
    sys.stdout.writelines(f"{line[:300]}\n" for line in (each.name, *each.differences[:5]))
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main())
