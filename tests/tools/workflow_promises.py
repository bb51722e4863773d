"""What `comfyserve.workflow` promises about anything that strangers hand in, and inputs to try it with."""

import copy
import functools
import gzip
import json
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from tests.tools.json_faults import ODD
from tests.unit.workflow.pairs import DATA, committed

from comfyserve.workflow import Flavour, NodeCatalog, prepare, prepare_file
from comfyserve.workflow.check import check_prepared
from comfyserve.workflow.draw import draw, draw_prompt
from comfyserve.workflow.interface import apply, read_interface, to_json
from comfyserve.workflow.validate import validate

MAX_BYTES: Final = 200_000
_SECONDS: Final = 8.0
"""What one input may take, in a process that is slowed down by its instruments."""
_LARGE_SEED: Final = 60_000


class Slow(AssertionError):
    """An input took longer than its size explains."""


@functools.cache
def _catalogs() -> tuple[NodeCatalog, ...]:
    found = [committed(flavour)[0].entries for flavour in (Flavour.NEW, Flavour.OLD)]
    versions = ((0, None), (1, None), (0, "0.26.0"), (0, "0.12.0"))
    return tuple(
        NodeCatalog.from_object_info(found[index], version=version).with_input_files(
            ["cat.png", "sub/dog.png", "song.mp3 [output]"]
        )
        for index, version in versions
    )


def keep_promises(data: bytes) -> None:
    """Do with an input all that can be done, and see that what the package promises holds.

    Its first byte says how it is looked at; a JSON object with `object_info` brings its own node catalog.
    """
    if not data:
        return
    how, content = data[0], data[1:]
    catalog, content = _own_catalog(content) or (_catalogs()[how >> 1 & 3], content)
    flavour = Flavour.OLD if how & 1 else Flavour.NEW
    started = time.process_time()
    _look(content, catalog, flavour)
    spent = time.process_time() - started
    if spent > _SECONDS:
        raise Slow(f"{spent:.1f} s for {len(content)} bytes")


def _own_catalog(content: bytes) -> tuple[NodeCatalog, bytes] | None:
    if not content.startswith(b'{"object_info"'):
        return None
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        return None
    info = body["object_info"]
    if not isinstance(info, dict):
        return None
    return NodeCatalog.from_object_info(info), json.dumps(body.get("workflow")).encode()


def _look(content: bytes, catalog: NodeCatalog, flavour: Flavour) -> None:
    prepared = prepare_file(content, catalog, flavour=flavour)
    if prepared.verdict is not None:
        assert prepared.verdict.ok is bool(prepared.verdict.outputs)
        json.dumps(prepared.verdict.to_comfy())
    else:
        assert prepared.errors, "no verdict, and no word why"
    for problem in prepared.problems:
        assert problem.message
        assert problem.code
    looked = check_prepared(prepared, catalog)
    json.dumps(looked.to_json(), allow_nan=False).encode()
    for label in prepared.labels():
        assert label.text
    for picture in (draw(prepared), draw_prompt(prepared.prompt, prepared.problems)):
        ElementTree.fromstring(picture.encode())
    shape = to_json(looked.interface)
    again = read_interface(json.loads(json.dumps(shape)))
    assert [each.name for each in again.inputs] == [each.name for each in looked.interface.inputs]
    _set_values(prepared.prompt, looked.interface, catalog)
    if prepared.format is not None and prepared.format.is_ui and prepared.prompt:
        before = json.dumps(prepared.prompt)
        once_more = prepare(copy.deepcopy(prepared.prompt), catalog, flavour=flavour)
        assert once_more.verdict is not None
        if prepared.verdict is not None:
            assert once_more.verdict.to_comfy() == prepared.verdict.to_comfy() or _has_nan(before)
        assert json.dumps(prepared.prompt) == before, "looking changes nothing"


def _has_nan(text: str) -> bool:
    return "NaN" in text


def _set_values(prompt: Any, interface: Any, catalog: NodeCatalog) -> None:
    """Hand in values that fit, those that do not, and ask for single outputs."""
    given = {each.name: each.default for each in interface.inputs if each.default is not None}
    applied = apply(prompt, given, interface)
    validate(applied.prompt, catalog, partial_execution_targets=[*applied.prompt][:3])
    for index, each in enumerate(interface.inputs[:8]):
        odd = {each.name: ODD[(index * 7 + len(prompt)) % len(ODD)], "no such": 1}
        for problem in apply(prompt, odd, interface).problems:
            assert problem.hint
            json.dumps(problem.to_json())


def seeds() -> Iterator[bytes]:
    """Go through inputs to start from: workflows, prompts, files, and a few that bring their catalog."""
    for flavour, how in ((Flavour.NEW, 0), (Flavour.OLD, 3)):
        catalog, pairs = committed(flavour)
        for pair in pairs:
            for document in (pair.ui, {"prompt": pair.api, "extra_data": {}}):
                text = json.dumps(document).encode()
                if len(text) < _LARGE_SEED:
                    yield bytes([how]) + text
        for pair in pairs[:40]:
            used = {node["class_type"] for node in pair.api.values() if "class_type" in node}
            info = {name: catalog.entries[name] for name in used if name in catalog.entries}
            text = json.dumps({"object_info": info, "workflow": pair.ui}).encode()
            if len(text) < _LARGE_SEED:
                yield bytes([how]) + text
    for path in sorted((DATA / "media").iterdir()):
        if path.stat().st_size < MAX_BYTES:
            yield b"\0" + path.read_bytes()
    for path in saved_findings():
        yield gzip.decompress(path.read_bytes())


def saved_findings() -> list[Path]:
    """Return the inputs that once broke a promise."""
    return sorted((DATA / "fuzz").glob("*.gz"))
