"""The converter against what ComfyUI's own frontend made of the same workflows in a browser."""

import sys
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

import pytest
from tests.unit.workflow.pairs import Pair, committed, corpus, differences

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.flavours import Flavour

OFFICIAL = ("tnew", "t095", "bp")
DEPENDS_ON_SERVER = {"hand__remote_combo"}
"""The editor put what its server answered in place of what the file says."""


class Score:
    """How many workflows of each kind came out equal, and what differs in the others."""

    def __init__(self, catalog: NodeCatalog, pairs: Iterable[Pair], flavour: Flavour) -> None:
        self.all: Counter[str] = Counter()
        self.equal: Counter[str] = Counter()
        self.different: dict[str, list[str]] = {}
        for pair in pairs:
            kind = pair.name.partition("__")[0]
            self.all[kind] += 1
            found = differences(pair, catalog, flavour)
            if found:
                self.different[pair.name] = found
            else:
                self.equal[kind] += 1

    def __str__(self) -> str:
        kinds = ", ".join(f"{kind} {self.equal[kind]}/{self.all[kind]}" for kind in self.all)
        lines = [f"{self.equal.total()}/{self.all.total()} equal ({kinds})"]
        for name, found in self.different.items():
            lines += [f"  {name}", *(f"    {line[:300]}" for line in found[:10])]
        return "\n".join(lines)


@pytest.mark.parametrize("flavour", Flavour)
def test_the_committed_selection_is_equal(flavour: Flavour) -> None:
    catalog, pairs = committed(flavour)
    score = Score(catalog, pairs, flavour)
    assert len(pairs) > 70
    assert not score.different, str(score)


@pytest.mark.corpora
@pytest.mark.timeout(300)
def test_every_official_template_and_blueprint_is_equal(
    corpora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = Score(*corpus(corpora, Flavour.NEW, "pairs"), Flavour.NEW)
    with capsys.disabled():
        sys.stdout.write(f"\nconversion, frontend 1.49.6: {score}\n")
    assert sum(score.all[kind] for kind in OFFICIAL) > 600
    assert all(score.equal[kind] == score.all[kind] for kind in OFFICIAL)
    assert score.different.keys() <= DEPENDS_ON_SERVER


@pytest.mark.corpora
@pytest.mark.timeout(300)
def test_the_older_frontend_is_followed(corpora: Path, capsys: pytest.CaptureFixture[str]) -> None:
    score = Score(*corpus(corpora, Flavour.OLD, "pairs"), Flavour.OLD)
    with capsys.disabled():
        sys.stdout.write(f"\nconversion, frontend 1.27.10: {score}\n")
    assert all(score.equal[kind] == score.all[kind] for kind in OFFICIAL if score.all[kind])
    assert score.different.keys() <= DEPENDS_ON_SERVER


@pytest.mark.corpora
@pytest.mark.parametrize("flavour", Flavour)
def test_unknown_classes_leave_the_rest_equal(
    flavour: Flavour, corpora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    score = Score(*corpus(corpora, flavour, "unknown-classes"), flavour)
    with capsys.disabled():
        sys.stdout.write(
            f"\nconversion, frontend {flavour}, classes unknown to the catalog: {score}\n"
        )
    assert not score.different
