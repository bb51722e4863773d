"""What `doctor` looks at in a ComfyUI installation: its files, its Python, its requirements."""

import json
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from comfyserve.cli.checks import Finding, Level
from comfyserve.cli.units import count_text
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import DeploymentSpec, EngineKind, EngineSpec
from comfyserve.runtime.engines import check_engine, find_python

_IMPORT_S = 180.0
# Runs in ComfyUI's own Python: no code of ours is there, and it may be older than ours.
_QUESTION = """
import importlib.metadata, json, re, sys
answer = {"python": sys.version.split()[0], "torch": None, "cuda": 0, "missing": [], "problem": ""}
try:
    lines = open(sys.argv[1], encoding="utf-8").read().splitlines()
except OSError:
    lines = []
for line in lines:
    name = re.match(r"[A-Za-z0-9._-]+", line.split("#")[0].split(";")[0].strip())
    if name:
        try:
            importlib.metadata.version(name.group())
        except importlib.metadata.PackageNotFoundError:
            answer["missing"].append(name.group())
try:
    import torch
    answer["torch"] = torch.__version__
    answer["cuda"] = torch.cuda.device_count() if torch.cuda.is_available() else 0
except Exception as error:
    answer["problem"] = f"{type(error).__name__}: {error}"
print(json.dumps(answer))
"""


@dataclass(frozen=True, slots=True)
class _Python:
    """What ComfyUI's Python says about itself."""

    python: str
    torch: str | None
    cuda: int
    missing: list[str]
    problem: str


def check_comfyui(directory: Path, python: str | None, *, gpus: int) -> Iterator[Finding]:
    """Yield findings about an installation; `gpus` is how many this machine has."""
    directory = directory.expanduser().absolute()
    engine = EngineSpec(EngineKind.COMFYUI, comfyui_dir=str(directory), python=python)
    spec = DeploymentSpec(engine=engine)
    try:
        check_engine(spec)
    except InvalidInput as error:
        mend = "give the directory that holds ComfyUI's main.py, and its Python with --python"
        yield Finding("comfyui", Level.PROBLEM, error.message, mend)
        return
    yield Finding("comfyui", Level.OK, str(directory))
    interpreter = shutil.which(find_python(spec)) or find_python(spec)
    try:
        answer = _ask(interpreter, directory)
    except (OSError, subprocess.SubprocessError, ValueError, TypeError) as error:
        mend = "name the Python that ComfyUI runs with: --python PATH"
        yield Finding("comfyui python", Level.PROBLEM, f"{interpreter}: {error}", mend)
        return
    yield Finding("comfyui python", Level.OK, f"{answer.python} at {interpreter}")
    install = f"{interpreter} -m pip install -r {directory / 'requirements.txt'}"
    yield _torch(answer, install, gpus)
    yield _requirements(answer, install)


def _ask(interpreter: str, directory: Path) -> _Python:
    done = subprocess.run(  # noqa: S603 - the user named it
        [interpreter, "-c", _QUESTION, str(directory / "requirements.txt")],
        capture_output=True,
        timeout=_IMPORT_S,
        check=True,
        text=True,
    )
    return _Python(**json.loads(done.stdout.splitlines()[-1]))


def _torch(answer: _Python, install: str, gpus: int) -> Finding:
    if answer.torch is None:
        return Finding("torch", Level.PROBLEM, f"cannot be imported: {answer.problem}", install)
    if answer.cuda:
        return Finding(
            "torch", Level.OK, f"{answer.torch}, {count_text(answer.cuda, 'CUDA device')}"
        )
    if gpus:
        mend = "install a build of torch for this driver's CUDA, or deploy with --cpu"
        return Finding("torch", Level.PROBLEM, f"{answer.torch} does not see the GPU", mend)
    return Finding("torch", Level.OK, f"{answer.torch}, on the CPU (deploy with --cpu)")


def _requirements(answer: _Python, install: str) -> Finding:
    if not answer.missing:
        return Finding("requirements", Level.OK, "all installed")
    return Finding("requirements", Level.PROBLEM, f"missing: {', '.join(answer.missing)}", install)
