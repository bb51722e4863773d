"""The guide to the playground does what it says: its shell block runs as it stands."""

from pathlib import Path

import pytest
from tests.e2e.guide import run_guide


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_the_playground_guide(tmp_path: Path, free_port: int) -> None:
    result = run_guide("playground.md", tmp_path, free_port)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "<title>Playground</title>" in result.stdout
    assert '"inputs":[{"name":"width"' in result.stdout.replace(" ", "")
