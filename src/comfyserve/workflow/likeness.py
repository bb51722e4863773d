"""How alike two prompts are in what they cost: digests over what decides how long a graph runs."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfyserve.workflow.catalog import NodeCatalog

_SEEDS = frozenset({"seed", "noise_seed"})


@dataclass(frozen=True, slots=True)
class Likeness:
    """Two prompts with the same `settings` do the same work on other texts and seeds.

    With the same `shape` they are the same graph with the same models, but sizes, steps and other
    numbers may differ.
    """

    settings: str
    shape: str


def likeness(prompt: Mapping[str, Any], catalog: NodeCatalog) -> Likeness:
    """Digest a prompt. Any graph that was accepted will do; node ids matter, titles do not."""
    settings, shape = {}, {}
    for node_id, node in prompt.items():
        if not isinstance(node, Mapping):
            continue
        kind, inputs = node.get("class_type"), node.get("inputs")
        found = catalog.get(kind)
        texts = {spec.name for spec in found.inputs if spec.type == "STRING"} if found else set()
        kept = {
            name: value
            for name, value in (inputs.items() if isinstance(inputs, Mapping) else ())
            if name not in _SEEDS and not (name in texts and isinstance(value, str))
        }
        settings[node_id] = [kind, kept]
        shape[node_id] = [kind, {k: v for k, v in kept.items() if not isinstance(v, int | float)}]
    return Likeness(_digest(settings), _digest(shape))


def _digest(document: Mapping[str, Any]) -> str:
    text = json.dumps(document, sort_keys=True, separators=(",", ":"))
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
