"""The Python of an image: which interpreter there is, and a virtual environment of it, by uv."""

import asyncio
import platform
import sys
import sysconfig
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec

from comfyserve.build.executor import Run, run
from comfyserve.build.log import BuildLog
from comfyserve.build.workshop import Workshop
from comfyserve.domain.errors import InvalidInput

_FIND_TIMEOUT_S = 60.0
_BUNDLED_PIP = (
    "import importlib.util, pathlib; found = importlib.util.find_spec('ensurepip'); "
    "wheels = found and pathlib.Path(found.origin).parent.glob('_bundled/pip-*.whl'); "
    "print(*sorted(wheels or ()), sep='\\n', end='')"
)


@dataclass(frozen=True, slots=True)
class Interpreter:
    """A Python on this machine."""

    path: str
    version: str

    @property
    def identity(self) -> str:
        """What the compiled parts of packages depend on."""
        return f"{self.path} {self.version} {sysconfig.get_platform()}"


class _Found(msgspec.Struct):
    path: str
    version: str


def own_interpreter() -> Interpreter:
    """The one that runs this server, outside its virtual environment."""
    major, minor = sys.version_info[:2]
    named = Path(sys.base_prefix) / "bin" / f"python{major}.{minor}"
    path = named if named.exists() else Path(sys.executable).resolve()
    return Interpreter(str(path), platform.python_version())


async def find_interpreter(wanted: str | None, workshop: Workshop, log: BuildLog) -> Interpreter:
    """The interpreter for a version, without downloading any. Raises InvalidInput."""
    own = await asyncio.to_thread(own_interpreter)
    if wanted is None or _matches(own.version, wanted):
        return own
    lines: list[str] = []
    listing = Run(
        [workshop.uv, "python", "list", "--only-installed", "--output-format", "json"],
        workshop.cache,
        workshop.outside_env(),
        _FIND_TIMEOUT_S,
        "uv python list",
        _into(lines),
    )
    await run(listing, log)
    text = next((line for line in lines if line.startswith("[")), "[]")
    found = msgspec.json.decode(text, type=list[_Found])
    for python in found:
        if _matches(python.version, wanted):
            return Interpreter(python.path, python.version)
    versions = sorted({own.version, *(python.version for python in found)})
    raise InvalidInput(
        f"there is no Python {wanted} on this machine, and none is downloaded; there is: "
        f"{', '.join(versions)}. Install it, or ask for one of these with python_version",
        code="python_not_found",
    )


async def make_environment(interpreter: Interpreter, workshop: Workshop, log: BuildLog) -> None:
    """Make the empty environment of a tree, with pip in it, for commands that call it."""
    tree = workshop.tree
    venv = [workshop.uv, "venv", "--python", interpreter.path, "--no-project", str(tree / "venv")]
    await run(Run(venv, tree, workshop.outside_env(), workshop.timeout_s, "uv venv"), log)
    pip: list[str] = []
    found = Run(
        [interpreter.path, "-c", _BUNDLED_PIP],
        tree,
        workshop.outside_env(),
        _FIND_TIMEOUT_S,
        "look for pip",
        _into(pip),
    )
    await run(found, log)
    # Some distributions take the bundled pip out of Python; then it comes from the index.
    wanted = ["--no-deps", "--offline", pip[0]] if pip else ["pip"]
    install = [workshop.uv, "pip", "install", "--python", str(workshop.python), *wanted]
    env = {**workshop.env(), "UV_COMPILE_BYTECODE": "0"}
    await run(Run(install, tree, env, workshop.timeout_s, "uv pip install pip"), log)


def _into(lines: list[str]) -> Callable[[str], bool]:
    def take(line: str) -> bool:
        lines.append(line)
        return True

    return take


def _matches(version: str, wanted: str) -> bool:
    return version == wanted or version.startswith(f"{wanted}.")
