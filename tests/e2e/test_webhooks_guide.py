"""The guide to webhooks does what it says: each shell block runs as it stands."""

from pathlib import Path

import pytest
from tests.e2e.guide import run_guide


@pytest.mark.e2e
@pytest.mark.timeout(120)
def test_the_webhooks_guide(tmp_path: Path, free_port: int) -> None:
    result = run_guide("webhooks.md", tmp_path, free_port)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "taken: the receiver answered 204" in result.stderr
    assert "succeeded" in result.stdout
    assert "it answered 500" in result.stdout
    assert (tmp_path / "blue.png").read_bytes().startswith(b"\x89PNG")
