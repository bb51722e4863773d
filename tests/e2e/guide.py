"""Run a guide: its shell blocks as they stand, in order, in one shell, with a home of its own."""

import os
import re
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

ROOT = Path(__file__).parent.parent.parent
BLOCK = re.compile(r"^```sh\n(.*?)^```", re.MULTILINE | re.DOTALL)


def run_guide(
    name: str,
    directory: Path,
    port: int,
    *,
    ports: Mapping[str, str] = MappingProxyType({}),
    env: Mapping[str, str] = MappingProxyType({}),
) -> subprocess.CompletedProcess[str]:
    """Run `docs/guides/NAME`; its server is the first job of the shell, and listens on `port`.

    `ports` are other ports that it names, and what to take instead.
    """
    text = (ROOT / "docs" / "guides" / name).read_text("utf-8")
    script = "\n".join(
        ["set -euo pipefail", "trap 'kill %1; wait' EXIT", *BLOCK.findall(text)]
    ).replace("127.0.0.1:8000", f"127.0.0.1:{port}")
    for named, taken in ports.items():
        script = script.replace(named, taken)
    return subprocess.run(
        ["bash", "-c", script],
        cwd=directory,
        capture_output=True,
        text=True,
        env={
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "HOME": str(directory),
            "COMFYSERVE_PORT": str(port),
            "LANG": "C.UTF-8",
            **env,
        },
    )
