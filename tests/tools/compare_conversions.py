"""Compares our conversion with the real frontend's, on mutants of UI workflows that nobody has seen yet.

    python -m tests.tools.compare_conversions FLAVOUR FRONTEND SEED COUNT

FLAVOUR: 1.49 or 1.27. FRONTEND: the unpacked `static` folder of the frontend package of that version. Prints each
difference and the score; the workflows that differ are kept in `differences.jsonl`, with the frontend's prompt.
Needs what `tests/tools/editor.py` needs, and the shared corpora.
"""

import gzip
import json
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
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


def main() -> None:
    """Compare so many mutants."""
    flavour, frontend = Flavour(sys.argv[1]), Path(sys.argv[2])
    seed, count = int(sys.argv[3]), int(sys.argv[4])
    catalog, pairs = corpus(corpora(), flavour, "pairs")
    info = gzip.decompress((corpora() / f"object_info-{_SERVERS[flavour]}.json.gz").read_bytes())
    score: Counter[str] = Counter()
    mutants = _mutants([*pairs, *committed(flavour)[1]], seed)
    with (
        tempfile.TemporaryDirectory() as base,
        Path("differences.jsonl").open("w") as kept,
        editor(
            find_installations()[0], frontend, info.decode(), Path(base), two_free_ports()[0]
        ) as browser,
    ):
        while score["equal"] + score["different"] < count:
            name, workflow = next(mutants)
            theirs = browser.convert(workflow)
            if theirs is None:
                score["not convertible in the editor"] += 1
                continue
            pair = Pair(name, workflow, theirs)
            found = differences(pair, catalog, flavour)
            score["different" if found else "equal"] += 1
            if found:
                kept.write(json.dumps({"name": name, "ui": workflow, "api": theirs}) + "\n")
                sys.stdout.writelines([f"{name}\n", *(f"  {line[:300]}\n" for line in found[:5])])
    sys.stdout.write(f"frontend {flavour}, seed {seed}: {dict(score)}\n")
    sys.exit(bool(score["different"]))


if __name__ == "__main__":
    main()
