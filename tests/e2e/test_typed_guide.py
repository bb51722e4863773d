"""The guide to typed endpoints does what it says: each shell block runs as it stands."""

import json
import zipfile
from pathlib import Path

import pytest
from tests.e2e.guide import run_guide


@pytest.mark.e2e
@pytest.mark.timeout(180)
def test_the_shell_blocks(tmp_path: Path, free_port: int) -> None:
    result = run_guide("typed-endpoints.md", tmp_path, free_port)
    assert result.returncode == 0, result.stdout + result.stderr
    told = result.stdout
    for name in ("inverted.png", "first.png"):
        assert (tmp_path / name).read_bytes().startswith(b"\x89PNG")
    refused = json.loads((tmp_path / "refused.json").read_text())
    assert refused["error"]["code"] == "invalid_inputs"
    assert "Did you mean 'image'?" in refused["error"]["message"]
    assert told.index("event: output") < told.index("event: end")
    job = json.loads((tmp_path / "done.json").read_text())
    assert (job["state"], job["labels"]) == ("succeeded", {"customer": "42"})
    with zipfile.ZipFile(tmp_path / "outputs.zip") as archive:
        assert len(archive.namelist()) == 3
    assert json.loads((tmp_path / "openapi.json").read_text())["openapi"] == "3.1.0"
