"""The promises of the package, kept for inputs that once broke one and for some that are broken afresh."""

import gzip
from pathlib import Path
from random import Random

import pytest
from tests.tools.json_faults import Breaker, document
from tests.tools.workflow_promises import keep_promises, saved_findings, seeds

_FRESH = 150


@pytest.mark.parametrize("path", saved_findings(), ids=lambda path: str(path.stem))
def test_what_broke_a_promise_once_does_not_again(path: Path) -> None:
    keep_promises(gzip.decompress(path.read_bytes()))


def test_broken_workflows_keep_the_promises() -> None:
    rng = Random(3)
    texts = [seed for seed in seeds() if len(seed) < 8_000]
    documents = [found for text in texts if (found := document(text[1:])) is not None]
    breaker = Breaker(rng.sample(documents, 40))
    for _ in range(_FRESH):
        text = breaker.broken(rng.choice(documents), rng)
        if text is not None:
            keep_promises(bytes([rng.randrange(8)]) + text)
