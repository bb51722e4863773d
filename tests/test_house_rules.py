"""The rules of the house that no linter knows."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "comfyserve"
# Lines of a module, by layer: over it, split by noun.
CEILINGS = {
    "workflow": 350, "domain": 250, "store": 400, "runtime": 400, "gateway": 420, "runner": 350,
    "engine": 400, "build": 300, "sdk": 350, "cli": 350, "testing": 450, "examples": 50, "": 300,
}  # fmt: skip


def _modules() -> Iterator[Path]:
    yield from (p for p in SOURCE.rglob("*.py") if "versions" not in p.parts)


@pytest.mark.parametrize("path", sorted(_modules()), ids=lambda path: str(path.relative_to(SOURCE)))
def test_a_module_fits_its_budget_and_says_its_purpose(path: Path) -> None:
    parts = path.relative_to(SOURCE).parts
    layer = parts[0] if len(parts) > 1 else ""
    text = path.read_text("utf-8")
    assert text.count("\n") <= CEILINGS[layer]
    assert ast.get_docstring(ast.parse(text)), "the first line says what the module is for"


def test_no_todo_is_left_without_an_issue() -> None:
    for path in _modules():
        for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
            assert not re.search(r"\b(TODO|FIXME|XXX)\b(?!.*#\d+)", line), f"{path}:{number}"


def test_nothing_names_a_machine_or_an_index() -> None:
    tracked = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.split()
    hosts = re.compile(
        r"pypi" + r"\.org|files\.python" + r"hosted|registry\.npm" + r"js|deb\.deb" + "ian"
    )
    for name in tracked:
        path = ROOT / name
        if path.suffix in {".py", ".md", ".toml", ".lock", ".json", ".txt", ""} and path.is_file():
            text = path.read_text("utf-8", "replace")
            assert not hosts.search(text), name
            assert "/work/" + "main" not in text, name


def test_the_command_line_starts_light() -> None:
    heavy = ("sqlalchemy", "aiohttp", "fastapi", "starlette", "uvicorn", "numpy", "PIL")
    code = (
        "import sys, comfyserve.cli.main; "
        f"print(*[name for name in {heavy!r} if name in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.strip() == ""
