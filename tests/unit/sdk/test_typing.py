"""The public API is typed: a sample program passes, and each planted mistake in it is found."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

SAMPLE = Path(__file__).with_name("typed_sample.txt")
"""Not a module: the checks of this repository would find its mistakes too."""


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_mypy_finds_the_planted_mistakes_and_no_others(tmp_path: Path) -> None:
    text = SAMPLE.read_text("utf-8")
    (tmp_path / "sample.py").write_text(text)
    argv = [sys.executable, "-m", "mypy", "--strict", "--config-file", "/dev/null", "sample.py"]
    done = subprocess.run(argv, capture_output=True, text=True, cwd=tmp_path)
    found = set(re.findall(r"sample\.py:(\d+): error: .*\[([\w-]+)\]", done.stdout))
    planted = {
        (str(number), code)
        for number, line in enumerate(text.splitlines(), 1)
        for code in re.findall(r"# expect: ([\w-]+)", line)
    }
    assert found == planted, done.stdout + done.stderr
