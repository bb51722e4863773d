"""From a revision's spec to a process: what is run, where, and what its log tells of a failure."""

import re
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path

from comfyserve.domain.engine_spec import PLAIN_KINDS
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import DeploymentSpec, EngineKind
from comfyserve.runtime.launchers.base import Confine, LaunchSpec
from comfyserve.runtime.volumes import extra_model_paths, volume_directories
from comfyserve.settings import Settings

_IMPORT_FAILED = re.compile(r"\(IMPORT FAILED\):?\s*(?P<path>.+)$")
_NO_MODULE = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '(?P<name>[\w.]+)'")
_VENV_PYTHONS = ("venv/bin/python", ".venv/bin/python", "../venv/bin/python", "../.venv/bin/python")


def check_engine(spec: DeploymentSpec) -> None:
    """Raise InvalidInput if the engine cannot be what the spec says, before anything starts."""
    spec.check()
    engine = spec.engine
    if engine.kind in PLAIN_KINDS or engine.image is not None:
        raise InvalidInput(
            f"this server cannot run engine {engine.kind} with an image or command yet",
            code="engine_unavailable",
        )
    if engine.kind is not EngineKind.COMFYUI:
        return
    directory = Path(engine.comfyui_dir or "")
    if not directory.is_dir():
        raise InvalidInput(f"there is no directory '{directory}'", code="comfyui_dir_not_found")
    missing = [name for name in ("main.py", "nodes.py", "comfy") if not (directory / name).exists()]
    if missing:
        raise InvalidInput(
            f"'{directory}' is not a ComfyUI directory: it has no {', '.join(missing)}. "
            "Give the directory that holds ComfyUI's main.py",
            code="not_comfyui",
        )
    python = find_python(spec)
    if shutil.which(python) is None:
        raise InvalidInput(
            f"'{python}' is not a Python that can be run; give --python", code="python_not_found"
        )


def find_python(spec: DeploymentSpec) -> str:
    """The interpreter for ComfyUI: as told, else a virtual environment at hand, else python3."""
    if spec.engine.python:
        return spec.engine.python
    directory = Path(spec.engine.comfyui_dir or ".")
    for relative in _VENV_PYTHONS:
        if (candidate := directory / relative).exists():
            # Not resolved: a virtual environment is found by the path of its own link.
            return str(candidate.parent.parent.resolve() / "bin" / candidate.name)
    return "python3"


def launch_spec(
    pool: str, spec: DeploymentSpec, *, directory: Path, settings: Settings
) -> LaunchSpec:
    """What a launcher needs to start one replica of `pool` (a revision id). Reads the disk.

    `directory` is the deployment's: its replicas share the input files and the caches there.
    """
    engine, input_dir, cache_dir = spec.engine, directory / "input", directory / "cache"
    input_dir.mkdir(parents=True, exist_ok=True)
    directories = (
        "--listen", "127.0.0.1", "--port", "{port}",
        "--input-directory", str(input_dir),
        "--output-directory", "{replica_dir}/output",
        "--temp-directory", "{replica_dir}",
        "--user-directory", "{replica_dir}/user",
    )  # fmt: skip
    extra: tuple[str, ...] = ()
    if engine.kind is EngineKind.EMBEDDED:
        command = (sys.executable, "-m", "comfyserve.engine")
        cwd = str(input_dir)
    else:
        command = (find_python(spec), "-u", "main.py")
        cwd = str(Path(engine.comfyui_dir or "").absolute())
        extra = (*_comfyui_options(spec), *_volume_options(pool, spec, directory, settings))
    return LaunchSpec(
        pool=pool,
        argv=(*command, *directories, *extra, *engine.args),
        cwd=cwd,
        env={"PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": str(cache_dir), **engine.env},
        gpus=spec.resources.gpus or 0,
        gpu_type=spec.resources.gpu,
        writable=(
            *(f"{{replica_dir}}/{name}" for name in ("output", "temp", "user")),
            str(input_dir),
            str(cache_dir),
            *_writable_of(spec),
            *(str(path) for _, path in volume_directories(settings.home_path, spec)),
        ),
        readable=(str(_paths_file(pool, directory)),) if spec.volumes else (),
        hidden=(str(settings.home_path),),
        confine=Confine(settings.confine),
        log_limit_bytes=settings.log_limit_bytes,
        lease_s=settings.lease_s,
    )


def _comfyui_options(spec: DeploymentSpec) -> tuple[str, ...]:
    options = ["--disable-auto-launch"]
    if not spec.resources.gpus and "--cpu" not in spec.engine.args:
        options.append("--cpu")
    cli_args = Path(spec.engine.comfyui_dir or "") / "comfy" / "cli_args.py"
    if "--database-url" not in spec.engine.args and (
        cli_args.is_file() and "--database-url" in cli_args.read_text("utf-8", "replace")
    ):
        # Its default is one file in the installation, which replicas would fight over.
        options += ["--database-url", "sqlite:///{replica_dir}/user/comfyui.db"]
    return tuple(options)


def _volume_options(
    pool: str, spec: DeploymentSpec, directory: Path, settings: Settings
) -> tuple[str, ...]:
    """Models on volumes are shown by a file of paths: the installation stays untouched."""
    if not spec.volumes:
        return ()
    path = _paths_file(pool, directory)
    fresh = path.with_suffix(".new")
    fresh.write_text(extra_model_paths(settings.home_path, spec), "utf-8")
    fresh.replace(path)
    return ("--extra-model-paths-config", str(path))


def _paths_file(pool: str, directory: Path) -> Path:
    return directory / f"model-paths-{pool}.json"


def _writable_of(spec: DeploymentSpec) -> tuple[str, ...]:
    """A ComfyUI installation downloads models and writes caches beside its code."""
    return (spec.engine.comfyui_dir,) if spec.engine.comfyui_dir else ()


def explain_failure(log_tail: Sequence[str], python: str) -> str:
    """One sentence on why an engine did not start, read from the end of its log."""
    for line in reversed(log_tail):
        if found := _NO_MODULE.search(line):
            name = found["name"]
            return (
                f"its Python ({python}) has no module '{name}': install ComfyUI's requirements "
                "into it, or name another with --python"
            )
        if "CUDA" in line and ("not available" in line or "no kernel image" in line):
            return "CUDA is not usable there; check the driver, or deploy with --cpu"
    return "the end of its log says why"


def failed_imports(log: Sequence[str]) -> tuple[str, ...]:
    """Custom nodes that ComfyUI could not import, by its own report at start."""
    found = (_IMPORT_FAILED.search(line) for line in log)
    return tuple(sorted({match["path"].strip() for match in found if match}))
