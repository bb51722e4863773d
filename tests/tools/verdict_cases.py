"""Mutants and what a real ComfyUI said of them: how they are chosen, stored and read back."""

import gzip
import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeAlias

from tests.tools.engine import Engine, known_files
from tests.tools.mutants import (
    LONGEST_DEFAULT,
    Mutant,
    Prompt,
    mended,
    mutants,
    prompts_of_classes,
)

Json: TypeAlias = Any

DATA = Path(__file__).parents[1] / "data"


def corpora() -> Path:
    """Return the folder of the shared corpora, which may be absent."""
    default = Path(__file__).parents[3] / "shared/corpora"
    return Path(os.environ.get("COMFYSERVE_CORPORA", default))


def real_prompts(info: Mapping[str, Json], most_nodes: int) -> Iterator[tuple[str, Prompt]]:
    """Go through the corpus' prompts whose classes are all known, their combos mended."""
    for path in sorted(corpora().glob("*.pairs.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as lines:
            for line in lines:
                pair = json.loads(line)
                classes = [node["class_type"] for node in pair["api"].values()]
                if 0 < len(classes) <= most_nodes and all(name in info for name in classes):
                    yield pair["name"], mended(pair["api"], info)


@dataclass(frozen=True, slots=True)
class Case:
    """One mutant with ComfyUI's verdict."""

    name: str
    prompt: Json
    targets: Json
    verdict: Mapping[str, Json]


@dataclass(frozen=True, slots=True)
class Recording:
    """What was recorded of one ComfyUI."""

    version: str
    object_info: Mapping[str, Json]
    validators: Mapping[str, list[str]]
    files: list[str]
    cases: list[Case]


def record(engine: Engine, seed: int, *, prompts: int, each: int) -> dict[str, Json]:
    """Ask an engine about `each` mutants of so many prompts, half of them real; return plain JSON."""
    catalog = engine.catalog()
    info = catalog["object_info"]
    rng = Random(seed)
    real = list(real_prompts(info, most_nodes=16))
    made = list(prompts_of_classes(info, rng))
    odd = [(name, prompt) for name, prompt in made if name.startswith("Odd")]
    chosen = [
        *rng.sample(real, min(len(real), prompts // 2)),
        *odd,
        *rng.sample(made, prompts // 2),
    ]
    bases = {name: prompt for name, prompt in chosen if len(prompt) <= 16}
    cases = [
        _recorded(engine, name, mutant, base)
        for name, base in bases.items()
        for mutant in mutants(base, info, rng, each)
    ]
    used = {node["class_type"] for base in bases.values() for node in base.values()}
    used |= {name for case in cases for name in _classes(case)}
    used |= {rules[0]["new_node_id"] for rules in catalog["replacements"].values()}
    return {
        "version": catalog["version"],
        "object_info": {name: _lean_entry(info[name]) for name in sorted(used & set(info))},
        "validators": {k: v for k, v in catalog["validators"].items() if k in used},
        "files": known_files(),
        "bases": bases,
        "cases": cases,
    }


def _classes(case: Mapping[str, Json]) -> list[str]:
    """Return the classes that the edits of a case put in."""
    return [
        edit[2]
        for edit in case["edits"]
        if edit[0] == "set" and edit[1][-1:] == ["class_type"] and isinstance(edit[2], str)
    ]


def _recorded(engine: Engine, name: str, mutant: Mutant, base: Prompt) -> dict[str, Json]:
    prompt = mutant.prompt(base)
    verdict = engine.verdict(prompt, mutant.targets)
    kept: dict[str, Json] = {
        key: verdict[key] for key in ("crash", "ok", "error") if key in verdict
    }
    if "crash" not in verdict:
        kept["outputs"], kept["nodes"] = verdict["outputs"], _lean(verdict["nodes"])
        kept["changed"] = _changes(prompt, verdict["prompt"]) if verdict["ok"] else []
    return {
        "base": name,
        "kind": mutant.kind,
        "edits": list(mutant.edits),
        "targets": mutant.targets,
        "verdict": kept,
    }


def _changes(before: Json, after: Json) -> list[list[Json]]:
    """Return what ComfyUI changed in a prompt: node id and the whole node."""
    return [
        [node_id, node]
        for node_id, node in after.items()
        if json.dumps(node) != json.dumps(before[node_id])
    ]


def _lean(value: Json) -> Json:
    """Drop tracebacks, and the tooltips and long defaults inside input specs: they are ComfyUI's texts."""
    if isinstance(value, dict):
        return {
            key: _lean(each)
            for key, each in value.items()
            if key not in ("traceback", "tooltip")
            and not (key == "default" and len(str(each)) > LONGEST_DEFAULT)
        }
    return [_lean(each) for each in value] if isinstance(value, list) else value


def _lean_entry(entry: Mapping[str, Json]) -> dict[str, Json]:
    """Keep of a class what validation needs; texts and prices are ComfyUI's."""
    empty: dict[str, Json] = {
        "description": "",
        "output_tooltips": None,
        "price_badge": None,
        "search_aliases": [],
    }
    return {key: empty.get(key, _lean(value)) for key, value in entry.items()}


def save(path: Path, recording: Mapping[str, Json]) -> None:
    """Write a recording; the same bytes for the same content."""
    text = json.dumps(recording, separators=(",", ":"), ensure_ascii=True)
    path.write_bytes(gzip.compress(text.encode(), compresslevel=9, mtime=0))


def load(path: Path) -> Recording:
    """Read a recording."""
    stored = json.loads(gzip.decompress(path.read_bytes()))
    cases = []
    for case in stored["cases"]:
        mutant = Mutant(case["kind"], tuple(case["edits"]))
        base = stored["bases"][case["base"]]
        prompt, verdict = mutant.prompt(base), dict(case["verdict"])
        if verdict.get("ok"):
            verdict["prompt"] = {**prompt, **dict(verdict["changed"])}
        cases.append(Case(f"{case['base']}/{case['kind']}", prompt, case["targets"], verdict))
    return Recording(
        stored["version"], stored["object_info"], stored["validators"], stored["files"], cases
    )
