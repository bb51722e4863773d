"""The workflow of the demo: complete, and the same in both formats."""

import json
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from tests.unit.engine.running import Bench

from comfyserve.engine.nodes.registry import NODE_CLASSES
from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.prepare import prepare
from comfyserve.workflow.validate import validate

EXAMPLES = files("comfyserve.examples")


def read(name: str) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(EXAMPLES.joinpath(name).read_text("utf-8"))
    return content


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    bench = Bench(tmp_path)
    photograph = EXAMPLES.joinpath("postcard.jpg").read_bytes()
    (tmp_path / "input" / "postcard.jpg").write_bytes(photograph)
    return bench


@pytest.fixture
def catalog(bench: Bench) -> NodeCatalog:
    info = {name: each.describe(bench.around.folders) for name, each in NODE_CLASSES.items()}
    return NodeCatalog.from_object_info(info, version="0.33.0")


def test_the_photograph_is_small_enough_to_ship() -> None:
    with EXAMPLES.joinpath("postcard.jpg").open("rb") as file, Image.open(file) as image:
        assert image.size == (768, 512)
        assert file.seek(0, 2) < 120_000


def test_the_workflow_is_valid(catalog: NodeCatalog) -> None:
    prompt = read("postcard_api.json")
    verdict = validate(prompt, catalog)
    assert verdict.ok
    assert not verdict.problems
    assert set(verdict.outputs) == {"16", "17"}
    assert len(prompt) == 17


def test_both_formats_are_the_same_workflow(catalog: NodeCatalog) -> None:
    prepared = prepare(read("postcard.json"), catalog)
    assert prepared.ok
    assert prepared.problems == ()
    assert prepared.prompt == read("postcard_api.json")


def test_the_postcard(bench: Bench) -> None:
    report = bench.run(read("postcard_api.json"))
    assert report.status.is_completed, report.status.messages[-1]
    with Image.open(bench.root / "output" / "postcard_00001_.png") as card:
        assert card.size == (960, 656)
        assert card.getpixel((5, 5)) == (0xF7, 0xF1, 0xE3)
        assert card.getpixel((755, 70)) == (255, 255, 255)
        sun = card.getpixel((632, 308))
        assert isinstance(sun, tuple)
        assert min(sun) > 240
