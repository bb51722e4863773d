"""Files that are not prompts yet: the editor's export, pictures, and what is no workflow at all."""

import io
import json
from collections.abc import Callable, Mapping
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfyserve.cli.conversion import convert_file
from comfyserve.cli.errors import Refused
from comfyserve.domain.errors import InvalidInput
from comfyserve.engine.folders import Folders
from comfyserve.engine.library import Library
from comfyserve.engine.options import Directories

EXAMPLES = files("comfyserve") / "examples"
UI = json.loads((EXAMPLES / "postcard.json").read_text())
API = json.loads((EXAMPLES / "postcard_api.json").read_text())


Catalog = Callable[[], Mapping[str, Any]]


@pytest.fixture
def object_info(tmp_path: Path) -> Catalog:
    """What the embedded engine offers."""
    folders = Folders(
        Directories(*(tmp_path / name for name in ("", "input", "output", "temp", "user")))
    )
    folders.create()
    return Library(folders).object_info


def never() -> Mapping[str, Any]:
    raise AssertionError("the catalog was asked for")


def a_png(**texts: str) -> bytes:
    info = PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    data = io.BytesIO()
    Image.new("RGB", (2, 2)).save(data, "PNG", pnginfo=info)
    return data.getvalue()


def test_the_editors_export_is_converted_with_the_deployments_catalog(object_info: Catalog) -> None:
    file = convert_file(json.dumps(UI).encode(), "postcard.json", object_info)
    inputs = {node_id: node["inputs"] for node_id, node in file.prompt.items()}
    assert inputs == {node_id: node["inputs"] for node_id, node in API.items()}
    assert file.labels() == {node_id: node["_meta"]["title"] for node_id, node in API.items()}
    assert file.body["prompt"] == file.prompt
    assert file.body["extra_data"]["extra_pnginfo"]["workflow"] == UI


def test_a_picture_gives_the_prompt_that_made_it_without_asking_anybody() -> None:
    data = a_png(prompt=json.dumps(API), workflow=json.dumps(UI))
    file = convert_file(data, "a.png", never)
    assert file.prompt == API
    assert file.body["extra_data"]["extra_pnginfo"]["workflow"] == UI


def test_a_picture_with_an_export_alone_is_converted(object_info: Catalog) -> None:
    data = a_png(workflow=json.dumps(UI))
    assert convert_file(data, "a.png", object_info).prompt.keys() == API.keys()


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "w: The file is neither JSON nor"),
        (b"\x89PNG\r\n\x1a\nbroken", "w: No workflow is embedded in this PNG file"),
        (a_png(), "w: No workflow is embedded in this PNG file"),
        (b"[1, 2]", "w: This is not a workflow"),
        (b"[" * 100_000, "w: The file is neither JSON nor"),
    ],
)
def test_what_is_no_workflow_says_what_to_hand_in(data: bytes, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        convert_file(data, "w", never)


@pytest.mark.parametrize("document", [{"prompt": {}}, {"prompt": {"1": {"inputs": {}}}}])
def test_a_prompt_with_faults_is_sent_for_the_engines_own_verdict(document: object) -> None:
    assert convert_file(json.dumps(document).encode(), "w", never).body == document


def test_an_unknown_class_is_told_and_sent_for_the_servers_verdict(object_info: Catalog) -> None:
    foreign = json.loads(json.dumps(UI).replace('"ImageQuantize"', '"NoSuchNode"'))
    file = convert_file(json.dumps(foreign).encode(), "w", object_info)
    assert "NoSuchNode" in {node["class_type"] for node in file.prompt.values()}
    assert any("NoSuchNode" in remark.line for remark in file.remarks)


def test_an_export_that_cannot_be_converted_is_refused_naming_the_node(
    object_info: Catalog,
) -> None:
    inner = {"id": "loop", "name": "Loop", "nodes": [{"id": 2, "type": "loop"}], "links": []}
    ends = {"inputs": [], "outputs": [], "inputNode": {"id": -10}, "outputNode": {"id": -20}}
    circle = {
        "nodes": [{"id": 1, "type": "loop"}],
        "links": [],
        "definitions": {"subgraphs": [{**inner, **ends}]},
        "version": 0.4,
    }
    with pytest.raises(Refused, match="w cannot be converted") as caught:
        convert_file(json.dumps(circle).encode(), "w", object_info)
    assert any("contains itself" in line for line in caught.value.evidence)
