"""Fuzzes everything that `comfyserve.workflow` does with what strangers hand in.

    python -m venv /tmp/fuzz && /tmp/fuzz/bin/pip install atheris
    PYTHONPATH=src:. nice -n 19 /tmp/fuzz/bin/python -m tests.tools.fuzz_workflows FOLDER -max_total_time=3600

Guided by coverage, from the pairs and pictures of this repository; documents are broken as JSON, not as text.
FOLDER keeps what reached new code (`corpus`), so that a later run goes on from there, and each input that
broke a promise (`found`), one for each place. A finding becomes a file in `tests/data/fuzz`, which
`tests/unit/workflow/test_fuzzed.py` runs through the same promises ever after.
"""

import hashlib
import importlib
import sys
import traceback
from pathlib import Path
from random import Random
from types import ModuleType
from typing import Any, Final

from tests.tools.json_faults import Breaker, document

MAX_BYTES: Final = 200_000


class Mutator:
    """Breaks inputs: documents as documents; what is none is left to libFuzzer."""

    def __init__(self, seeds: list[bytes]) -> None:
        documents = [found for seed in seeds if (found := document(seed[1:])) is not None]
        self._breaker = Breaker(Random(1).sample(documents, min(60, len(documents))))

    def broken(self, data: bytes, seed: int) -> bytes | None:
        """Return another input, `None` where it is no document or cannot be written again."""
        rng = Random(seed)
        found = document(data[1:])
        if found is None:
            return None
        how = data[0] if rng.random() < 0.9 else rng.randrange(8)
        text = self._breaker.broken(found, rng)
        return None if text is None else bytes([how]) + text


class Findings:
    """Keeps the first input that broke a promise at each place."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self._places: set[str] = set()

    def add(self, data: bytes, error: BaseException) -> None:
        """Note an input; another one for a place that is known is passed over."""
        frames = traceback.extract_tb(error.__traceback__)
        last = [f"{Path(f.filename).name}:{f.name}:{f.lineno}" for f in frames][-1:]
        own = [
            f"{Path(f.filename).name}:{f.name}:{f.lineno}"
            for f in frames
            if "comfyserve/workflow" in f.filename
        ][-1:]
        place = " ".join((type(error).__name__, *own, *last))
        if place in self._places:
            return
        self._places.add(place)
        name = hashlib.sha256(data).hexdigest()[:12]
        (self._folder / f"{name}.bin").write_bytes(data)
        text = "".join(traceback.format_exception(error))
        (self._folder / f"{name}.txt").write_text(f"{place}\n{text[-6000:]}\n")
        sys.stdout.write(f"FOUND {name} {place}\n")
        sys.stdout.flush()


def _instrumented(atheris: Any) -> ModuleType:
    with atheris.instrument_imports(include=["comfyserve.workflow"]):
        return importlib.import_module("tests.tools.workflow_promises")


def main() -> None:
    """Run until libFuzzer's own options say stop."""
    atheris: Any = importlib.import_module("atheris")
    promises = _instrumented(atheris)
    folder, options = Path(sys.argv[1]), sys.argv[2:]
    start, corpus = folder / "seeds", folder / "corpus"
    for each in (start, corpus):
        each.mkdir(parents=True, exist_ok=True)
    seeds = [seed for seed in promises.seeds() if len(seed) <= MAX_BYTES]
    for seed in seeds:
        (start / hashlib.sha256(seed).hexdigest()[:16]).write_bytes(seed)
    findings, mutator = Findings(folder / "found"), Mutator(seeds)

    def once(data: bytes) -> None:
        try:
            promises.keep_promises(data)
        except Exception as error:  # noqa: BLE001 - noted; the run goes on
            findings.add(data, error)

    def mutate(data: bytes, most: int, seed: int) -> bytes:
        made = mutator.broken(data, seed) if seed % 16 else None
        return made if made is not None and len(made) <= most else atheris.Mutate(data, most)

    limits = [f"-max_len={MAX_BYTES}", "-timeout=120", "-rss_limit_mb=3000", "-len_control=0"]
    limits.append(f"-artifact_prefix={folder}/")
    command = [sys.argv[0], *limits, *options, str(corpus), str(start)]
    atheris.Setup(command, once, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
