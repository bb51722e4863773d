"""Asset references: found anywhere in an input, replaced there and nowhere else."""

import copy
from typing import Any

from comfyserve.workflow.asset_references import (
    find_asset_references,
    replace_asset_references,
)
from comfyserve.workflow.catalog import NodeCatalog

CATALOG = NodeCatalog.from_object_info(
    {
        "LoadImage": {
            "input": {"required": {"image": [["a.png"], {"image_upload": True}]}},
            "output": ["IMAGE"],
            "output_node": False,
        },
        "Text": {
            "input": {"required": {"text": ["STRING", {}], "choice": [["a.png", "b.png"], {}]}},
            "output": [],
            "output_node": True,
        },
    }
)


def reference(asset_id: Any) -> dict[str, Any]:
    return {"__type": "core/ASSET", "info": {"id": asset_id, "hash": "blake3:x"}}


PROMPT: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": reference("A")}},
    "2": {"class_type": "LoadImage", "inputs": {"image": "photo.png [input]"}},
    "3": {"class_type": "LoadImage", "inputs": {"image": "photo.png [output]"}},
    "4": {"class_type": "Text", "inputs": {"text": "photo.png", "choice": "b.png", "x": ["1", 0]}},
    "5": {"class_type": "Unknown", "inputs": {"deep": [{"files": [reference("B"), "photo.png"]}]}},
    "6": {"class_type": "Text", "inputs": {"text": reference(7)}},
    "7": {"class_type": "Text", "inputs": {"text": {"__type": "core/ASSET", "info": 5}}},
    "8": {"class_type": "Text", "inputs": "nonsense"},
    "9": None,
}


def test_finds_what_is_there() -> None:
    found = find_asset_references(PROMPT, CATALOG)
    assert found.ids == {"A", "B"}
    assert found.file_paths == {"photo.png"}
    assert found.malformed == (("6", "text"), ("7", "text"))
    assert found
    assert not find_asset_references({"8": PROMPT["8"], "9": None}, CATALOG)


def test_replaces_what_is_known_and_leaves_the_rest() -> None:
    before = copy.deepcopy(PROMPT)
    replaced = replace_asset_references(PROMPT, CATALOG, {"A": "a1.png"}, {"photo.png": "p.png"})
    assert before == PROMPT
    changed = copy.deepcopy(PROMPT)
    changed["1"]["inputs"]["image"] = "a1.png"
    changed["2"]["inputs"]["image"] = "p.png"
    assert replaced == changed
    second = replace_asset_references(PROMPT, CATALOG, {"B": "b1.png"}, {})
    assert second["5"]["inputs"]["deep"] == [{"files": ["b1.png", "photo.png"]}]


def test_stops_at_a_depth_that_no_workflow_has() -> None:
    value: Any = reference("A")
    for _ in range(400):
        value = [value]
    prompt = {"1": {"class_type": "LoadImage", "inputs": {"image": value}}}
    assert find_asset_references(prompt, CATALOG).ids == frozenset()
    assert replace_asset_references(prompt, CATALOG, {"A": "a"}, {}) == prompt
