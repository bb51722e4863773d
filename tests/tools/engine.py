"""A real ComfyUI asked for verdicts from a test: finds one, makes its directories, talks to the worker."""

import json
import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, TypeAlias

Json: TypeAlias = Any

INPUT_FILES = (
    *("cat.png", "dog.png", "bird (1).jpg", "sub/fish.png", "clip.mp4", "song.mp3"),
    *("3d/cube.glb", "3d/deep/ball.obj", "some.latent", "notes.txt"),
)
OUTPUT_FILES = ("made_00001_.png", "sub/made.png", "made.latent")
MODELS = ("alpha.safetensors", "beta.safetensors", "sub/gamma.safetensors")


@dataclass(frozen=True, slots=True)
class Installation:
    """Where a ComfyUI is, and the Python that runs it."""

    directory: Path
    python: Path


def find_installations() -> list[Installation]:
    """Return the one named by the environment, else those in the test cache."""
    if "COMFYUI_DIR" in os.environ and "COMFYUI_PYTHON" in os.environ:
        return [Installation(Path(os.environ["COMFYUI_DIR"]), Path(os.environ["COMFYUI_PYTHON"]))]
    cache = Path.home() / ".cache/comfyserve-test"
    pairs = (("comfyui", "venv"), ("comfyui-new", "venv-new"))
    candidates = [
        Installation(cache / directory, cache / venv / "bin/python") for directory, venv in pairs
    ]
    return [each for each in candidates if each.directory.is_dir() and each.python.exists()]


def known_files() -> list[str]:
    """Return the input files as `with_input_files` takes them."""
    return [*INPUT_FILES, *(f"{name} [output]" for name in OUTPUT_FILES)]


class Engine:
    """One worker process."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        self._in: IO[str] = process.stdin
        self._out: IO[str] = process.stdout

    def ask(self, line: object) -> Json:
        """Send one line, return the answer."""
        self._in.write(json.dumps(line) + "\n")
        self._in.flush()
        answer = self._out.readline()
        if not answer:
            raise RuntimeError("the ComfyUI worker ended")
        return json.loads(answer)

    def catalog(self) -> dict[str, Json]:
        """Return version and object_info."""
        answer = self.ask("catalog")
        assert isinstance(answer, dict)
        return answer

    def verdict(self, prompt: object, targets: object = None) -> dict[str, Json]:
        """Return ComfyUI's verdict."""
        answer = self.ask({"prompt": prompt, "targets": targets})
        assert isinstance(answer, dict)
        return answer


@contextmanager
def engine(installation: Installation, base: Path) -> Iterator[Engine]:
    """Start a worker with its own directories under `base`; end it afterwards."""
    _make_directories(installation.directory, base)
    worker = Path(__file__).with_name("comfy_worker.py")
    with (base / "engine.log").open("w") as log:
        process = subprocess.Popen(
            [installation.python, worker, installation.directory, base],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            encoding="utf-8",
        )
    try:
        yield Engine(process)
    finally:
        process.kill()
        process.communicate()


def _make_directories(comfyui: Path, base: Path) -> None:
    folders = [folder.name for folder in (comfyui / "models").iterdir() if folder.is_dir()]
    files: Sequence[str] = (
        *(f"input/{name}" for name in INPUT_FILES),
        *(f"output/{name}" for name in OUTPUT_FILES),
        *(f"models/{folder}/{name}" for folder in folders for name in MODELS),
    )
    for name in files:
        path = base / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (base / "custom_nodes").mkdir(exist_ok=True)
    odd = Path(__file__).with_name("odd_nodes.py")
    (base / "custom_nodes/odd_nodes.py").write_bytes(odd.read_bytes())
