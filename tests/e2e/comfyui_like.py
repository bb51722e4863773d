"""A repository that is ComfyUI to a build: its `main.py` runs the embedded engine."""

import sys
from collections.abc import Mapping

_MAIN = """
import pathlib, runpy, sys
sys.path[:0] = {paths!r}
here = pathlib.Path(__file__).parent
print("Import times for custom nodes:")
for pack in sorted(p for p in (here / "custom_nodes").iterdir() if p.is_dir() and p.name != "__pycache__"):
    text = (pack / "__init__.py").read_text() if (pack / "__init__.py").exists() else ""
    broken = " (IMPORT FAILED)" if "raise" in text else ""
    print(f"   0.4 seconds{{broken}}: {{pack}}")
sys.stdout.flush()
if (here / "broken").exists():
    raise SystemExit("this one does not start")
sys.argv = ["engine", *sys.argv[1:]]
runpy.run_module("comfyserve.engine", run_name="__main__", alter_sys=True)
"""


def comfyui_like() -> Mapping[str, str]:
    """The files of the repository."""
    return {
        "main.py": _MAIN.format(paths=[path for path in sys.path if path]),
        "nodes.py": "",
        "comfy/__init__.py": "",
        "custom_nodes/example.py": "",
        "models/checkpoints/put_checkpoints_here": "",
    }
