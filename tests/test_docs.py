"""The papers are true: settings, routes, modules and log lines that they name exist, and back."""

import re
from dataclasses import fields
from pathlib import Path

from comfyserve.settings import ENV_PREFIX, Settings

ROOT = Path(__file__).parent.parent
SOURCE = ROOT / "src" / "comfyserve"
DOCS = ROOT / "docs"


def test_every_module_of_the_walk_exists() -> None:
    text = (DOCS / "architecture.md").read_text("utf-8")
    named = re.findall(r"`((?:\w+/)+\w+\.py)`", text)
    assert len(named) > 20
    for name in named:
        assert (SOURCE / name).is_file(), name


def test_every_setting_is_documented() -> None:
    text = (DOCS / "settings.md").read_text("utf-8")
    for option in fields(Settings):
        row = f"| `{option.name}` | `{ENV_PREFIX}{option.name.upper()}` |"
        assert row in text, f"docs/settings.md lacks {row}"
        assert option.metadata["help"] in text, option.name


def test_every_warning_is_in_the_runbook() -> None:
    text = (DOCS / "runbook.md").read_text("utf-8")
    for path in SOURCE.rglob("*.py"):
        for key in re.findall(r'event_key="(\w+)"', path.read_text("utf-8")):
            assert f"| `{key}` |" in text, f"docs/runbook.md lacks {key} ({path.name})"


def test_every_link_between_the_papers_leads_somewhere() -> None:
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *DOCS.rglob("*.md")):
        for target in re.findall(r"\]\(([^)#]+)\)", path.read_text("utf-8")):
            if "://" not in target:
                assert (path.parent / target).exists(), f"{path.name} -> {target}"


def test_every_make_target_of_the_papers_exists() -> None:
    makefile = (ROOT / "Makefile").read_text("utf-8")
    for path in (ROOT / "README.md", ROOT / "CONTRIBUTING.md"):
        for target in re.findall(r"^make (\w+)", path.read_text("utf-8"), re.MULTILINE):
            assert re.search(rf"^{target}:", makefile, re.MULTILINE), target
