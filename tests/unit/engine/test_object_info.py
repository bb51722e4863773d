"""The classes say of themselves what ComfyUI's say."""

import gzip
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.engine.running import folders_in

from comfyserve.engine.nodes.registry import NODE_CLASSES
from comfyserve.workflow.catalog import NodeCatalog

OURS = "comfyserve/testing"
NOT_COPIED = {"tooltip", "description", "search_aliases", "essentials_category"}
"""ComfyUI's prose, and what only its editor uses."""


def plain(value: Any) -> Any:
    """The value without prose; options that held nothing else are gone."""
    if isinstance(value, dict):
        return {key: plain(each) for key, each in value.items() if key not in NOT_COPIED}
    if isinstance(value, list):
        items = [plain(each) for each in value]
        return items[:-1] if len(items) == 2 and items[1] == {} else items
    return value


@pytest.mark.corpora
def test_same_specs_as_comfyui(corpora: Path, tmp_path: Path) -> None:
    theirs = json.loads(gzip.decompress((corpora / "object_info-0.33.0.json.gz").read_bytes()))
    folders = folders_in(tmp_path)
    (tmp_path / "input" / "example.png").touch()
    compared = 0
    for name, node_class in NODE_CLASSES.items():
        if node_class.category != OURS:
            assert plain(node_class.describe(folders)) == plain(theirs[name]), name
            compared += 1
    assert compared == 34


def test_own_classes_are_known_by_name_and_category() -> None:
    for name, node_class in NODE_CLASSES.items():
        assert name.startswith("Testing") == (node_class.category == OURS)


def test_the_catalog_takes_every_class(tmp_path: Path) -> None:
    folders = folders_in(tmp_path)
    info = {name: each.describe(folders) for name, each in NODE_CLASSES.items()}
    catalog = NodeCatalog.from_object_info(json.loads(json.dumps(info)), version="0.33.0")
    assert {each.name for each in catalog} == set(NODE_CLASSES)


@given(st.sampled_from(sorted(NODE_CLASSES)))
def test_every_declared_input_is_one_that_the_function_takes(name: str) -> None:
    node_class = NODE_CLASSES[name]
    code = node_class.run.__code__
    taken = set(code.co_varnames[: code.co_argcount + code.co_kwonlyargcount])
    given_ = {each.name for each in node_class.inputs} | {each.value for each in node_class.hidden}
    assert given_ == taken
