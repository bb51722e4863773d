"""Records verdicts of every real ComfyUI on this machine into `tests/data`.

    python -m tests.tools.record_verdicts

Needs the shared corpora and an installation as `tests/tools/engine.py` looks for it.
"""

import sys
import tempfile
from pathlib import Path

from tests.tools.engine import engine, find_installations
from tests.tools.verdict_cases import DATA, record, save


def main() -> None:
    """Record each installation."""
    for installation in find_installations():
        with (
            tempfile.TemporaryDirectory() as base,
            engine(installation, Path(base)) as worker,
        ):
            recording = record(worker, 20_261_122, prompts=100, each=20)
        path = DATA / f"verdicts-{recording['version']}.json.gz"
        save(path, recording)
        sys.stdout.write(f"{path.name}: {len(recording['cases'])} cases\n")


if __name__ == "__main__":
    main()
