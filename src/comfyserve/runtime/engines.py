"""From a revision's spec to a process: what is run, where, and what its log tells of a failure."""

import re
import shutil
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from comfyserve.domain.engine_spec import PLAIN_KINDS
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import DeploymentSpec, EngineKind
from comfyserve.runtime.launchers.base import Confine, LaunchSpec
from comfyserve.runtime.plain_engines import WORK, check_command, launch_plain
from comfyserve.runtime.surroundings import Image, Surroundings
from comfyserve.runtime.volumes import paths_file, paths_option, volume_directories
from comfyserve.settings import Settings

_IMPORT_FAILED = re.compile(r"\(IMPORT FAILED\):?\s*(?P<path>.+)$")
_IMPORT_TIME = re.compile(
    r"^\s*(?:\[[^\]]*\]\s*)?(?P<seconds>\d+(?:\.\d+)?) seconds(?: \(IMPORT FAILED\))?: (?P<path>\S.*)$"
)
_NO_MODULE = re.compile(r"(?:ModuleNotFoundError|ImportError): No module named '(?P<name>[\w.]+)'")
_NOTHING = Surroundings()
_VENV_PYTHONS = ("venv/bin/python", ".venv/bin/python", "../venv/bin/python", "../.venv/bin/python")


def check_engine(spec: DeploymentSpec, image: Image | None = None) -> None:
    """Raise InvalidInput if the engine cannot be what the spec says, before anything starts."""
    spec.check()
    engine = spec.engine
    if engine.kind is EngineKind.COMMAND:
        check_command(engine, image)
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


def is_any_server(spec: DeploymentSpec) -> bool:
    """Whether a spec may be any server: what it is, is seen when it runs."""
    return spec.engine.kind in PLAIN_KINDS


def from_image(spec: DeploymentSpec, image: Image | None) -> DeploymentSpec:
    """The spec with ComfyUI's directory and Python, where its image holds them."""
    engine = spec.engine
    if engine.kind is not EngineKind.COMFYUI or image is None:
        return spec
    if image.comfyui_dir is None and engine.comfyui_dir is None:
        raise InvalidInput(
            "the image holds no ComfyUI; install it in a build step, or use Image.comfyui()",
            code="comfyui_dir_not_found",
        )
    engine = replace(
        engine,
        comfyui_dir=engine.comfyui_dir or str(image.comfyui_dir),
        python=engine.python or str(image.python),
        env={**image.env, **engine.env},
    )
    return replace(spec, engine=engine)


def launch_spec(
    pool: str,
    spec: DeploymentSpec,
    surroundings: Surroundings = _NOTHING,
    *,
    directory: Path,
    settings: Settings,
) -> LaunchSpec:
    """What a launcher needs to start one replica of `pool` (a revision id). Reads the disk.

    `directory` is the deployment's: its replicas share the input files and the caches there.
    """
    if is_any_server(spec):
        return launch_plain(pool, spec, surroundings, directory=directory, settings=settings)
    engine, input_dir, cache_dir = spec.engine, directory / "input", directory / "cache"
    image = surroundings.image
    # What was built is never written to: a replica has its own copy.
    comfyui_dir = Path(engine.comfyui_dir or "").absolute()
    is_copied = image is not None and comfyui_dir.is_relative_to(image.workspace)
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
        cwd = str(comfyui_dir)
        extra = (*_comfyui_options(spec), *paths_option(pool, spec, directory, settings.home_path))
        if image is not None and is_copied:
            cwd = f"{WORK}/{comfyui_dir.relative_to(image.workspace)}"
    return LaunchSpec(
        pool=pool,
        argv=(*command, *directories, *extra, *engine.args),
        cwd=cwd,
        env={
            "PYTHONUNBUFFERED": "1",
            "XDG_CACHE_HOME": str(cache_dir),
            **engine.env,
            **surroundings.env,
        },
        gpus=spec.resources.gpus or 0,
        gpu_type=spec.resources.gpu,
        cpu=spec.resources.cpu,
        memory_bytes=spec.resources.memory_bytes,
        readable=(
            *(map(str, image.readable) if image else ()),
            *((str(paths_file(pool, directory)),) if spec.volumes else ()),
        ),
        path=(str(image.python.parent),) if image else (),
        copies=((str(image.workspace), WORK),) if image and is_copied else (),
        writable=(
            *(f"{{replica_dir}}/{name}" for name in ("output", "temp", "user")),
            str(input_dir),
            str(cache_dir),
            *((WORK,) if is_copied else _writable_of(spec)),
            *(str(path) for _, path in volume_directories(settings.home_path, spec)),
        ),
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


def _writable_of(spec: DeploymentSpec) -> tuple[str, ...]:
    """A ComfyUI installation downloads models and writes caches beside its code."""
    return (spec.engine.comfyui_dir,) if spec.engine.comfyui_dir else ()


def explain(log_tail: Sequence[str], spec: DeploymentSpec) -> str:
    """One sentence on why a server did not start, read from the end of its log. Reads the disk."""
    if not is_any_server(spec):
        return explain_failure(log_tail, find_python(spec))
    for line in reversed(log_tail):
        if found := _NO_MODULE.search(line):
            return (
                f"its Python has no module '{found['name']}': add it to the image "
                "(add_python_packages), or deploy with an image that has it"
            )
    return "the end of its log says why"


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


def import_times(log: Sequence[str]) -> Mapping[str, float]:
    """Seconds that each custom node pack took to import, by ComfyUI's own report; slowest first."""
    found = filter(None, map(_IMPORT_TIME.match, log))
    times = {Path(match["path"].strip()).name: float(match["seconds"]) for match in found}
    return dict(sorted(times.items(), key=lambda pair: -pair[1]))
