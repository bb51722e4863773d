"""Our verdicts against those that real ComfyUIs gave: recorded ones, and fresh ones where there is an engine."""

import gzip
import json
from pathlib import Path
from random import Random
from typing import Any

import pytest
from tests.tools.agreement import Score, compare
from tests.tools.engine import Installation, engine, find_installations, known_files
from tests.tools.mutants import mutants, prompts_of_classes
from tests.tools.verdict_cases import DATA, load, real_prompts

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.validate import validate

_RECORDED = sorted(DATA.glob("verdicts-*.json.gz"))


@pytest.mark.parametrize("path", _RECORDED, ids=lambda path: path.name.removesuffix(".json.gz"))
@pytest.mark.parametrize("is_version_known", [True, False], ids=["version", "guessed"])
def test_agrees_with_every_recorded_verdict(
    path: Path, is_version_known: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    recording = load(path)
    catalog = NodeCatalog.from_object_info(
        recording.object_info,
        version=recording.version if is_version_known else None,
        validators=recording.validators,
    ).with_input_files(recording.files)
    score = Score()
    for case in recording.cases:
        ours = validate(case.prompt, catalog, partial_execution_targets=case.targets)
        is_old = not catalog.rules.finds_cycles
        score.add(case.name, case.prompt, ours, case.verdict, is_old=is_old)
    with capsys.disabled():
        print(f"\nComfyUI {recording.version}: {score}")  # noqa: T201 - the score is the point
    assert score.total > 1000
    assert score.differences == []
    assert score.undecided < score.total / 50


@pytest.mark.comfyui
@pytest.mark.corpora
@pytest.mark.timeout(300)
@pytest.mark.parametrize("installation", find_installations(), ids=lambda each: each.directory.name)
def test_agrees_with_a_live_engine(
    installation: Installation, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rng = Random(1_122)
    score = Score()
    with engine(installation, tmp_path) as worker:
        facts = worker.catalog()
        info = facts["object_info"]
        catalog = NodeCatalog.from_object_info(
            info,
            version=facts["version"],
            validators=facts["validators"],
            replacements=facts["replacements"],
        ).with_input_files(known_files())
        bases = [*real_prompts(info, most_nodes=100), *prompts_of_classes(info, rng)]
        for name, base in bases:
            for mutant in mutants(base, info, rng, 2):
                prompt = mutant.prompt(base)
                ours = validate(prompt, catalog, partial_execution_targets=mutant.targets)
                theirs = worker.verdict(prompt, mutant.targets)
                is_old = not catalog.rules.finds_cycles
                score.add(f"{name}/{mutant.kind}", prompt, ours, theirs, is_old=is_old)
    with capsys.disabled():
        print(f"\nComfyUI {facts['version']}, live: {score}")  # noqa: T201 - the score is the point
    assert score.total > 2000
    assert score.differences == []


def _samples(corpora: Path, version: str) -> list[Path]:
    return sorted((corpora / "protocol-samples" / version).glob("http_prompt_*.json"))


@pytest.mark.corpora
@pytest.mark.parametrize("version", ["0.3.64", "0.33.0"])
def test_agrees_with_captured_answers(version: str, corpora: Path) -> None:
    """The HTTP exchanges of real servers, 0.33.0 among them."""
    catalog = _corpus_catalog(corpora, version)
    judged = 0
    for path in _samples(corpora, version):
        exchange = json.loads(path.read_text())
        body, answer = exchange["request"].get("json"), exchange["response"]
        if not isinstance(body, dict) or "prompt" not in body:
            continue
        if answer["status"] == 403 or _is_about_the_id(answer) or "number" in path.name:
            continue
        if "Oracle" in json.dumps(body["prompt"]):
            continue  # a class that was made for the capture
        ours = validate(
            body["prompt"],
            catalog,
            partial_execution_targets=body.get("partial_execution_targets"),
        )
        judged += 1
        assert ours.ok == (answer["status"] == 200), path.name
        if answer["status"] == 500:
            assert ours.error is not None, path.name
            continue
        real = answer["json"]
        theirs = {
            "ok": ours.ok,
            "error": real.get("error"),
            "nodes": real["node_errors"],
            "outputs": list(ours.outputs),
            "prompt": ours.prompt,
        }
        is_old = not catalog.rules.finds_cycles
        difference = compare(body["prompt"], ours, theirs, is_old=is_old, is_ordered=False)
        assert difference is None, path.name
    assert judged > 20


def _is_about_the_id(answer: dict[str, Any]) -> bool:
    error = answer.get("json", {}).get("error") or {}
    return bool(error.get("type") == "invalid_prompt_id")


def _corpus_catalog(corpora: Path, version: str) -> NodeCatalog:
    info = json.loads(gzip.decompress((corpora / f"object_info-{version}.json.gz").read_bytes()))
    return NodeCatalog.from_object_info(info)
