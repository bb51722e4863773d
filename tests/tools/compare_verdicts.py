"""Compares our verdicts with those of every real ComfyUI on this machine, on mutants that nobody has seen yet.

    python -m tests.tools.compare_verdicts SEED MUTANTS_OF_EACH_PROMPT

Prints the scores and each difference; exits with 1 if there is one. Needs the shared corpora and an
installation as `tests/tools/engine.py` looks for it.
"""

import sys
import tempfile
from pathlib import Path
from random import Random

from tests.tools.agreement import Score
from tests.tools.engine import Engine, engine, find_installations, known_files
from tests.tools.mutants import mutants, prompts_of_classes
from tests.tools.verdict_cases import real_prompts

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.validate import validate


def compared(worker: Engine, seed: int, each: int) -> tuple[str, Score]:
    """Ask the engine and ourselves about `each` mutants of every prompt; return its version and the score."""
    rng = Random(seed)
    facts = worker.catalog()
    info = facts["object_info"]
    catalog = NodeCatalog.from_object_info(
        info,
        version=facts["version"],
        validators=facts["validators"],
        replacements=facts["replacements"],
    ).with_input_files(known_files())
    score = Score()
    for name, base in [*real_prompts(info, most_nodes=100), *prompts_of_classes(info, rng)]:
        for mutant in mutants(base, info, rng, each):
            prompt = mutant.prompt(base)
            ours = validate(prompt, catalog, partial_execution_targets=mutant.targets)
            theirs = worker.verdict(prompt, mutant.targets)
            is_old = not catalog.rules.finds_cycles
            score.add(f"{name}/{mutant.kind}", prompt, ours, theirs, is_old=is_old)
    return facts["version"], score


def main() -> None:
    """Compare with each installation."""
    seed, each = int(sys.argv[1]), int(sys.argv[2])
    differs = False
    for installation in find_installations():
        with (
            tempfile.TemporaryDirectory() as base,
            engine(installation, Path(base)) as worker,
        ):
            version, score = compared(worker, seed, each)
        sys.stdout.write(f"ComfyUI {version}, seed {seed}: {score}\n")
        sys.stdout.writelines(f"  {difference}\n" for difference in score.differences)
        differs |= bool(score.differences)
    sys.exit(differs)


if __name__ == "__main__":
    main()
