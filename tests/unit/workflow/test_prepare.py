"""The one door: every format in, a prompt and problems out."""

import json
from pathlib import Path
from typing import Any

import pytest
from tests.unit.workflow.catalogs import entry
from tests.unit.workflow.test_convert import chain, with_subgraph
from tests.unit.workflow.ui import Ui, catalog

from comfyserve.workflow import Format, NodeCatalog, prepare, prepare_file
from comfyserve.workflow.metadata import Container
from comfyserve.workflow.problems import Code, Severity

MEDIA = Path(__file__).parents[2] / "data" / "media"
NUMBER = ["INT", {"default": 1, "min": 0, "max": 16777216}]
PICTURES = NodeCatalog.from_object_info(
    {
        "EmptyImage": entry(
            {"width": NUMBER, "height": NUMBER, "batch_size": NUMBER, "color": NUMBER},
            output=["IMAGE"],
        ),
        "SaveImage": entry(
            {"images": ["IMAGE"], "filename_prefix": ["STRING", {"default": "x"}]}, is_output=True
        ),
    }
)


def ready() -> dict[str, Any]:
    """Return a UI workflow that is valid."""
    return chain(("Invert", 0)).json()


def test_a_ui_workflow_becomes_a_valid_prompt() -> None:
    prepared = prepare(ready(), catalog())
    assert prepared.ok
    assert prepared.problems == ()
    assert prepared.format is Format.UI_0_4
    assert prepared.source == ready()
    assert prepared.prompt["3"]["inputs"]["images"] == ["2", 0]


def test_all_wrappings_give_the_same_prompt() -> None:
    prompt = prepare(ready(), catalog()).prompt
    bodies: list[tuple[Any, Format]] = [
        (prompt, Format.API),
        ({"prompt": prompt}, Format.API_PROMPT),
        (
            {"prompt": prompt, "extra_data": {"extra_pnginfo": {"workflow": ready()}}},
            Format.API_PROMPT,
        ),
        ({"extra_data": {"prompt": prompt}}, Format.API_EXTRA_DATA),
        ({"prompt": ready()}, Format.UI_0_4),
        ({"workflow": ready()}, Format.UI_0_4),
    ]
    for body, expected in bodies:
        prepared = prepare(body, catalog())
        assert (prepared.prompt, prepared.format, prepared.ok) == (prompt, expected, True)


def test_the_source_is_the_ui_workflow_if_there_is_one() -> None:
    body = {"prompt": {"1": {}}, "extra_data": {"extra_pnginfo": {"workflow": ready()}}}
    assert prepare(body, catalog()).source == ready()
    assert prepare({"1": {"class_type": "Load"}}, catalog()).source is None


def test_problems_of_the_conversion_come_before_the_verdict() -> None:
    ui = chain(("Invert", 0))
    ui.node(2)["type"] = "Unheard"
    prepared = prepare(ui.json(), catalog())
    assert prepared.problems[0].code is Code.UNKNOWN_CLASS
    assert prepared.verdict is not None
    assert prepared.problems[1:] == prepared.verdict.problems + prepared.verdict.warnings
    assert not prepared.ok
    assert [p.severity for p in prepared.errors] == [Severity.ERROR] * len(prepared.errors)


def test_a_workflow_that_cannot_be_converted_has_no_verdict() -> None:
    ui = with_subgraph()
    ui.definitions[0]["nodes"].append({"id": 7, "type": "scaler"})
    prepared = prepare(ui.json(), catalog())
    assert (prepared.ok, prepared.verdict, prepared.prompt) == (False, None, {})
    assert prepared.errors[0].code is Code.SUBGRAPH_CIRCLE


@pytest.mark.parametrize("body", [None, 3, "hello", [], {}, [1, 2], {"a": {"b": 1}}])
def test_what_is_no_workflow_is_one_clear_problem(body: Any) -> None:
    prepared = prepare(body, catalog())
    assert [problem.code for problem in prepared.problems] == [Code.NOT_A_WORKFLOW]
    assert prepared.problems[0].hint
    assert (prepared.ok, prepared.format, prepared.verdict) == (False, None, None)


def test_whatever_is_called_a_prompt_gets_comfyuis_verdict() -> None:
    prepared = prepare({"prompt": {}}, catalog())
    assert [problem.code for problem in prepared.problems] == [Code.PROMPT_NO_OUTPUTS]


@pytest.mark.parametrize(
    ("name", "container"),
    [
        ("image.png", Container.PNG),
        ("animated.png", Container.PNG),
        ("image.webp", Container.WEBP),
        ("audio.flac", Container.FLAC),
        ("video.mp4", Container.MP4),
        ("video.webm", Container.WEBM),
    ],
)
def test_files_that_comfyui_saved(name: str, container: Container) -> None:
    prepared = prepare_file((MEDIA / name).read_bytes(), PICTURES)
    assert prepared.ok
    assert prepared.container is container
    assert prepared.format is Format.API_PROMPT
    assert prepared.prompt["1"]["inputs"]["width"] == 8
    assert prepared.source is not None, "the UI workflow came along"


def test_a_file_with_only_a_ui_workflow_is_converted() -> None:
    data = (MEDIA / "image.png").read_bytes().replace(b"tEXtprompt", b"tEXtprefix")
    prepared = prepare_file(data, PICTURES)
    assert (prepared.ok, prepared.format) == (True, Format.UI_0_4)
    assert prepared.prompt["2"]["inputs"] == {"filename_prefix": "x", "images": ["1", 0]}


def test_json_files() -> None:
    for text in (json.dumps(ready()), "\ufeff" + json.dumps(ready()), f"\n {json.dumps(ready())}"):
        assert prepare_file(text.encode(), catalog()).ok


@pytest.mark.parametrize(
    "data", [b"", b"hello", b"{", b"\xff\xfe\x00", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"]
)
def test_unreadable_files_are_one_clear_problem(data: bytes) -> None:
    prepared = prepare_file(data, catalog())
    assert [problem.code for problem in prepared.problems] == [Code.UNREADABLE_FILE]
    assert not prepared.ok


def test_a_picture_without_a_workflow_says_so() -> None:
    prepared = prepare_file((MEDIA / "bare.png").read_bytes(), catalog())
    assert prepared.problems[0].code is Code.UNREADABLE_FILE
    assert "PNG" in prepared.problems[0].message
    assert prepared.container is Container.PNG


def test_a_file_that_is_too_long_is_not_parsed() -> None:
    prepared = prepare_file(b"[" + b" " * (33 * 1024 * 1024), catalog())
    assert [problem.code for problem in prepared.problems] == [Code.WORKFLOW_TOO_LARGE]


def test_labels_lead_back_to_the_editor() -> None:
    prepared = prepare(with_subgraph([33], title="Big").json(), catalog())
    label = prepared.labels().get("11:1")
    assert label is not None
    assert (label.title, label.class_type, label.inside) == ("Sample", "Sample", ("Big",))
    assert label.position == (0.0, 0.0)
    assert label.text == "Big / Sample (11:1)"


def test_labels_of_a_bare_prompt_have_no_place() -> None:
    prompt = {"1": {"class_type": "Load", "_meta": {"title": "Mine"}}, "2": {"class_type": "Text"}}
    labels = prepare(prompt, catalog()).labels()
    assert [(each.title, each.position) for each in labels] == [("Mine", None), ("Text", None)]
    assert labels.get("3") is None


def test_labels_know_ids_that_were_given_anew() -> None:
    ui = with_subgraph([33])
    ui.add("Number", [1], node_id=1)
    prepared = prepare(ui.json(), catalog())
    label = prepared.labels().get("11:13")
    assert label is not None
    assert label.class_type == "Sample"
    assert label.inside == ("The scaler",)


def test_an_empty_workflow_has_no_outputs() -> None:
    prepared = prepare(Ui().json(), catalog())
    assert [problem.code for problem in prepared.problems] == [Code.PROMPT_NO_OUTPUTS]
