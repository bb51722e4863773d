"""How fast a workflow is understood: validation of a prompt, conversion of a UI workflow."""

import gzip
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from bench.processes import EngineUnderTest
from bench.rows import Row, percentile
from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.convert import convert
from comfyserve.workflow.flavours import Flavour
from comfyserve.workflow.reader import parse_ui
from comfyserve.workflow.validate import validate

# Official templates and workflows made by hand, with the frontend's own prompts.
_SAMPLES = Path(__file__).parents[1] / "tests/data/workflows-1.27.10.json.gz"
_PLAIN = "hand__base_old"
_MODEL = "model.safetensors"
_RUNS = 40
_PROMPT_NODES = 200
_WORKFLOW_NODES = 300
_STEP = 1000  # ids of one copy are below it

Json = Mapping[str, Any]


async def workflows(_engine: EngineUnderTest) -> list[Row]:
    """One core, in this process; no server."""
    with gzip.open(_SAMPLES, "rt", encoding="utf-8") as file:
        samples = json.load(file)
    # The server that the samples come from had no models.
    loader = samples["object_info"]["CheckpointLoaderSimple"]["input"]["required"]
    loader["ckpt_name"][0] = [_MODEL]
    catalog = NodeCatalog.from_object_info(samples["object_info"])
    pairs = [
        pair
        for pair in samples["pairs"]
        if pair["name"].startswith("t095__") and "definitions" not in pair["ui"]
    ]
    prompt = _large_prompt(next(p["api"] for p in samples["pairs"] if p["name"] == _PLAIN))
    workflow = _large_workflow([pair["ui"] for pair in pairs])
    if not validate(prompt, catalog).ok:
        raise RuntimeError("the prompt of the benchmark is not valid")
    converted = convert(parse_ui(workflow), catalog, flavour=Flavour.OLD)
    if len(converted.prompt) < _WORKFLOW_NODES // 2:
        raise RuntimeError(f"only {len(converted.prompt)} nodes were converted")
    return [
        Row(
            f"prompt of {len(prompt)} nodes validated, p50",
            _median_ms(lambda: validate(prompt, catalog)),
            None,
            "ms",
            "< 3",
        ),
        Row(
            f"UI workflow of {len(workflow['nodes'])} nodes converted, p50",
            _median_ms(lambda: convert(parse_ui(workflow), catalog, flavour=Flavour.OLD)),
            None,
            "ms",
            "< 10",
        ),
    ]


def _median_ms(work: Callable[[], object]) -> float:
    times = []
    for _ in range(_RUNS):
        # These only compute: on a quiet machine it is the same, on a shared one it is still theirs.
        began = time.thread_time()
        work()
        times.append(time.thread_time() - began)
    return percentile(times, 50) * 1e3


def _large_prompt(sample: Json) -> dict[str, Any]:
    """Copies of one prompt side by side, with a model that the catalog has."""
    nodes: dict[str, Any] = {}
    while len(nodes) < _PROMPT_NODES:
        copy = f"{len(nodes)}."
        for node_id, node in sample.items():
            inputs = {
                name: [copy + value[0], value[1]] if isinstance(value, list) else value
                for name, value in node["inputs"].items()
            }
            if node["class_type"] == "CheckpointLoaderSimple":
                inputs["ckpt_name"] = _MODEL
            nodes[copy + node_id] = {**node, "inputs": inputs}
    return nodes


def _large_workflow(samples: list[Json]) -> dict[str, Any]:
    """All the workflows side by side in one, again and again, with ids of their own."""
    nodes: list[Json] = []
    links: list[list[Any]] = []
    copies = 0
    while len(nodes) < _WORKFLOW_NODES:
        sample = samples[copies % len(samples)]
        copies += 1
        base = copies * _STEP
        nodes += [_moved(node, base) for node in sample["nodes"]]
        links += [
            [link[0] + base, link[1] + base, link[2], link[3] + base, *link[4:]]
            for link in sample["links"]
        ]
    last = (copies + 1) * _STEP
    return {
        "last_node_id": last,
        "last_link_id": last,
        "nodes": nodes,
        "links": links,
        "version": 0.4,
    }


def _moved(node: Json, base: int) -> Json:
    inputs = [
        {**socket, "link": None if socket.get("link") is None else socket["link"] + base}
        for socket in node.get("inputs") or ()
    ]
    outputs = [
        {**socket, "links": [link + base for link in socket.get("links") or ()]}
        for socket in node.get("outputs") or ()
    ]
    return {**node, "id": node["id"] + base, "inputs": inputs, "outputs": outputs}
