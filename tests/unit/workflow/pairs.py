"""Pairs of a UI workflow and the prompt that ComfyUI's own frontend made of it, and how to compare."""

import gzip
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.convert import convert
from comfyserve.workflow.flavours import Flavour
from comfyserve.workflow.reader import parse_ui

DATA = Path(__file__).parents[2] / "data"

MADE_IN_BROWSER = {("Load3D", "image")}
"""Inputs whose value is a picture that the browser renders and names after the time of day."""


@dataclass(frozen=True, slots=True)
class Pair:
    """One workflow with the frontend's prompt."""

    name: str
    ui: Mapping[str, Any]
    api: Mapping[str, Any]


def committed(flavour: Flavour) -> tuple[NodeCatalog, list[Pair]]:
    """Return the pairs of this repository: official templates (MIT) and ones made by hand."""
    name = {Flavour.NEW: "workflows-1.49.6", Flavour.OLD: "workflows-1.27.10"}[flavour]
    with gzip.open(DATA / f"{name}.json.gz", "rt", encoding="utf-8") as file:
        data = json.load(file)
    pairs = [Pair(entry["name"], entry["ui"], entry["api"]) for entry in data["pairs"]]
    return NodeCatalog.from_object_info(data["object_info"]), pairs


def corpus(folder: Path, flavour: Flavour, kind: str) -> tuple[NodeCatalog, Iterator[Pair]]:
    """Return the pairs of the shared corpora; `kind`: `pairs` or `unknown-classes`."""
    server, frontend = {
        Flavour.NEW: ("0.33.0", "1.49.6"),
        Flavour.OLD: ("0.3.64", "1.27.10"),
    }[flavour]
    with gzip.open(folder / f"object_info-{server}.json.gz", "rt", encoding="utf-8") as file:
        catalog = NodeCatalog.from_object_info(json.load(file))
    path = folder / f"comfyui-{server}-frontend-{frontend}.{kind}.jsonl.gz"
    return catalog, _lines(path)


def _lines(path: Path) -> Iterator[Pair]:
    with gzip.open(path, "rt", encoding="utf-8") as lines:
        for line in lines:
            entry = json.loads(line)
            yield Pair(entry["name"], entry["ui"], entry["api"])


def differences(pair: Pair, catalog: NodeCatalog, flavour: Flavour) -> list[str]:
    """Convert the workflow and say where the prompt differs from the frontend's, `_meta` aside.

    Values that only a browser can make are not compared; numbers are to the last three bits.
    """
    prompt = convert(parse_ui(pair.ui), catalog, flavour=flavour).prompt
    found = [f"{node_id} is missing" for node_id in pair.api.keys() - prompt.keys()]
    found += [f"{node_id} is too many" for node_id in prompt.keys() - pair.api.keys()]
    for node_id in pair.api.keys() & prompt.keys():
        theirs, ours = pair.api[node_id], prompt[node_id]
        if "class_type" not in theirs:  # the frontend knows no class: it keeps connections alone
            found += _compare(node_id, "", _links(ours["inputs"]), _links(theirs["inputs"]))
            continue
        if ours["class_type"] != theirs["class_type"]:
            found.append(f"{node_id} is a {ours['class_type']}, not a {theirs['class_type']}")
        found += _compare(node_id, ours["class_type"], ours["inputs"], theirs["inputs"])
    return found


def _links(inputs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in inputs.items() if isinstance(value, list)}


def _compare(
    node_id: str, class_type: str, ours: Mapping[str, Any], theirs: Mapping[str, Any]
) -> Iterator[str]:
    for name in dict.fromkeys((*theirs, *ours)):
        if (class_type, name) in MADE_IN_BROWSER:
            continue
        if name not in ours:
            yield f"{node_id} {class_type}.{name} is missing, it is {theirs[name]!r}"
        elif name not in theirs:
            yield f"{node_id} {class_type}.{name} is too many, it is {ours[name]!r}"
        elif not is_same(ours[name], theirs[name]):
            yield f"{node_id} {class_type}.{name} is {ours[name]!r}, not {theirs[name]!r}"


def is_same(ours: Any, theirs: Any) -> bool:
    """Whether two JSON values are equal; 1, 1.0 and true are told apart as JSON has them."""
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return ours is theirs
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)):
        return ours == theirs or math.isclose(ours, theirs, rel_tol=2**-50)
    if isinstance(ours, dict) and isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(is_same(ours[k], theirs[k]) for k in ours)
    if isinstance(ours, list) and isinstance(theirs, list):
        return len(ours) == len(theirs) and all(map(is_same, ours, theirs))
    return bool(type(ours) is type(theirs) and ours == theirs)
