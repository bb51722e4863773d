"""`workflow` and `catalog` with no server running: everything works by a catalog at hand."""

import io
import json
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from comfyserve.cli.catalogs import bundled_object_info
from comfyserve.cli.errors import ExitCode
from comfyserve.testing.command import Cli

EXAMPLES = files("comfyserve") / "examples"
UI, API = (str(EXAMPLES / name) for name in ("postcard.json", "postcard_api.json"))
PROMPT: dict[str, Any] = json.loads(Path(API).read_text())
BUNDLED = bundled_object_info()

Write = Callable[..., str]


@pytest.fixture(autouse=True)
def _no_server(cli: Cli, monkeypatch: pytest.MonkeyPatch, free_port: int) -> None:
    """After `cli` has set its own."""
    monkeypatch.setenv("COMFYSERVE_URL", f"http://127.0.0.1:{free_port}")


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write JSON to a file; its name."""

    def to_file(name: str, document: object) -> str:
        path = tmp_path / name
        path.write_text(json.dumps(document))
        return str(path)

    return to_file


def changed(**inputs: Any) -> dict[str, Any]:
    """The postcard with other inputs for its nodes, named `n4__blur_radius`."""
    prompt: dict[str, Any] = json.loads(json.dumps(PROMPT))
    for key, value in inputs.items():
        node_id, _, name = key.removeprefix("n").partition("__")
        prompt[node_id]["inputs"][name] = value
    return prompt


def test_convert_prints_the_prompt_and_says_what_it_was_judged_by(cli: Cli) -> None:
    ran = cli("workflow", "convert", UI)
    assert ran.code == ExitCode.OK
    assert ran.json == PROMPT
    assert "node catalog of the embedded engine (bundled; no server answers at" in ran.err


def test_convert_saves_the_prompt(cli: Cli, tmp_path: Path) -> None:
    out = tmp_path / "prompt.json"
    ran = cli("workflow", "convert", UI, "-o", str(out))
    assert ran.out == f"{out}\n"
    assert json.loads(out.read_text()) == PROMPT


def test_convert_as_json_has_the_format_beside_the_prompt(cli: Cli) -> None:
    found = cli("workflow", "convert", UI, "--json", "--flavour=1.27").json
    assert (found["format"], found["flavour"]) == ("ui_0.4", "1.27")
    assert found["problems"] == []
    assert found["prompt"] == PROMPT


def test_a_picture_is_a_workflow_too(cli: Cli, tmp_path: Path) -> None:
    info = PngInfo()
    info.add_text("workflow", Path(UI).read_text())
    data = io.BytesIO()
    Image.new("RGB", (2, 2)).save(data, "PNG", pnginfo=info)
    (tmp_path / "saved.png").write_bytes(data.getvalue())
    ran = cli("workflow", "convert", str(tmp_path / "saved.png"), "--json")
    assert ran.json["container"] == "png"
    assert ran.json["prompt"] == PROMPT


def test_stdin_is_a_file_too(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path(UI).open() as stream:
        monkeypatch.setattr("sys.stdin", stream)
        assert cli("workflow", "convert", "-").json == PROMPT


@pytest.mark.parametrize("command", ["validate", "requirements", "inspect"])
def test_both_formats_are_told_the_same(cli: Cli, command: str) -> None:
    answers = []
    for file in (UI, API):
        ran = cli("workflow", command, file, "--json")
        assert ran.code == ExitCode.OK, ran.err
        answers.append({key: ran.json[key] for key in ran.json if key != "format"})
    assert answers[0] == answers[1]


def test_validate_says_what_would_run(cli: Cli) -> None:
    ran = cli("workflow", "validate", UI)
    assert (ran.code, ran.out) == (ExitCode.OK, "it would run: 2 outputs (node 16, 17)\n")
    assert cli("workflow", "validate", UI, "--json").json["verdict"] == {
        "ok": True, "partial": False, "outputs": ["16", "17"], "undecided": [],
    }  # fmt: skip


def test_validate_names_node_input_value_and_the_way_out(cli: Cli, write: Write) -> None:
    file = write("wrong.json", changed(n4__blur_radius=4000, n2__upscale_method="lancsoz"))
    ran = cli("workflow", "validate", file)
    assert ran.code == ExitCode.FAILED
    lines = ran.out.splitlines()
    scale = lines.index('node 2 "Scale to the width of the card" (ImageScale)')
    assert lines[scale + 1].startswith("  error: upscale_method: Value not in list")
    assert lines[scale + 2] == '    given: "lancsoz"'
    assert any(line.strip().startswith("nearest: lanczos") for line in lines)
    assert any(line.strip().startswith("hint: ") for line in lines)
    assert any("blur_radius" in line and "4000" in line for line in lines)
    assert lines[-1] == "it would be refused"
    assert "error: 2 errors to mend" in ran.err
    codes = [each["code"] for each in cli("workflow", "validate", file, "--json").json["problems"]]
    assert {"value_not_in_list", "value_bigger_than_max"} <= set(codes)


def test_a_part_that_would_run_is_not_fine(cli: Cli, write: Write) -> None:
    ran = cli("workflow", "validate", write("part.json", changed(n16__images=["99", 0])))
    assert ran.code == ExitCode.FAILED
    assert "only a part would run: 1 output (17)" in ran.out


def test_a_title_cannot_write_to_the_terminal(cli: Cli, write: Write) -> None:
    prompt = changed(n4__blur_radius=4000)
    prompt["4"]["_meta"]["title"] = "\x1b[2Jgone\nerror: none"
    ran = cli("workflow", "validate", write("hostile.json", prompt))
    assert "\x1b" not in ran.out
    assert "gone\ufffderror: none" in ran.out


def test_a_catalog_file_decides_without_a_word_to_a_server(cli: Cli, write: Write) -> None:
    without = {name: entry for name, entry in BUNDLED.items() if name != "ImageQuantize"}
    ran = cli("workflow", "validate", UI, "--catalog", write("catalog.json", without))
    assert ran.code == ExitCode.FAILED
    assert "(ImageQuantize)" in ran.out
    assert "catalog.json" in ran.err


def test_requirements_name_the_pack_that_is_missing_and_how_to_get_it(
    cli: Cli, write: Write
) -> None:
    workflow = json.loads(Path(UI).read_text())
    for node in workflow["nodes"]:
        if node["type"] == "ImageQuantize":
            node.update(type="FancyQuantize", properties={"cnr_id": "fancy-pack", "ver": "1.2.0"})
    ran = cli(
        "workflow", "requirements", write("ui.json", workflow),
        "--catalog", write("catalog.json", BUNDLED),
    )  # fmt: skip
    assert ran.code == ExitCode.FAILED
    assert "fancy-pack 1.2.0" in ran.out
    assert "comfy node install fancy-pack@1.2.0" in ran.out
    assert "postcard.jpg" in ran.out


def test_nothing_is_missing_where_no_machine_was_named(cli: Cli) -> None:
    needs = cli("workflow", "requirements", UI, "--json").json
    assert needs["complete"]
    assert [(file["name"], file["present"]) for file in needs["files"]] == [("postcard.jpg", None)]


def test_inspect_shows_everything_and_draws_it(cli: Cli, tmp_path: Path) -> None:
    drawing = tmp_path / "graph.svg"
    ran = cli("workflow", "inspect", UI, "--draw", str(drawing))
    assert ran.code == ExitCode.OK, ran.err
    for shown in (
        "17 nodes",
        "the editor's export",
        "the_photograph",
        "postcard.jpg",
        "The postcard (16)",
    ):
        assert shown in ran.out
    assert "it would run" in ran.out
    svg = drawing.read_text()
    assert svg.startswith("<svg")
    assert "The photograph" in svg
    assert 'class="error' not in svg


def test_the_drawing_marks_nodes_with_problems(cli: Cli, write: Write, tmp_path: Path) -> None:
    file = write("wrong.json", changed(n4__blur_radius=4000))
    ran = cli("workflow", "inspect", file, "--draw", str(tmp_path / "graph.svg"))
    assert ran.code == ExitCode.FAILED
    assert "error" in (tmp_path / "graph.svg").read_text().partition("</style>")[2]


def test_a_png_without_a_converter_is_refused_before_any_work(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    ran = cli("workflow", "inspect", UI, "--draw", "graph.png")
    assert ran.code == ExitCode.USAGE
    assert "rsvg-convert" in ran.err
    assert "draw graph.svg instead" in ran.err


def test_a_converter_makes_the_png(
    cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    converter = tmp_path / "rsvg-convert"
    converter.write_text("#!/bin/sh\nprintf PNG:; exec /bin/cat\n")
    converter.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert cli("workflow", "inspect", UI, "--draw", "graph.png").code == ExitCode.OK
    assert Path("graph.png").read_bytes().startswith(b"PNG:<svg")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("nothing.json",), ExitCode.NOT_FOUND, "there is no file nothing.json"),
        ((".",), ExitCode.USAGE, "cannot be read"),
        ((str(EXAMPLES / "postcard.jpg"),), ExitCode.USAGE, "neither JSON nor"),
        ((UI, "--catalog", "no.json"), ExitCode.NOT_FOUND, "there is no file no.json"),
        ((UI, "--catalog", UI), ExitCode.USAGE, "is no node catalog"),
        ((UI, "--deployment", "demo"), ExitCode.FAILED, "no server at"),
        ((UI, "--deployment", "demo", "--catalog", UI), ExitCode.USAGE, "not both"),
        ((UI, "--flavour", "2"), ExitCode.USAGE, "2"),
    ],
)
@pytest.mark.parametrize("command", ["convert", "validate", "requirements", "inspect"])
def test_an_error_is_one_clear_line(
    cli: Cli, command: str, arguments: tuple[str, ...], code: ExitCode, said: str
) -> None:
    ran = cli("workflow", command, *arguments)
    assert ran.code == code
    assert said in ran.err
    assert "Traceback" not in ran.err
    assert ran.out == ""


def test_the_bundled_catalog_is_exported_without_a_server(cli: Cli) -> None:
    ran = cli("catalog", "export", "--embedded", "-o", "catalog.json")
    assert (ran.code, ran.out) == (ExitCode.OK, "catalog.json\n")
    assert json.loads(Path("catalog.json").read_text()) == BUNDLED
    assert cli("catalog", "export", "--embedded").json == BUNDLED
    assert cli("catalog", "export").code == ExitCode.USAGE
    assert cli("catalog", "export", "demo").code == ExitCode.FAILED


def test_a_document_cannot_be_written(cli: Cli) -> None:
    ran = cli("workflow", "convert", UI, "-o", "no/such/directory.json")
    assert ran.code == ExitCode.FAILED
    assert "directory.json cannot be written" in ran.err
