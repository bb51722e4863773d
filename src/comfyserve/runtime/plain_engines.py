"""From the spec of a command or an application to a process: what is run, and where."""

import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from sysconfig import get_path

from comfyserve.domain.engine_spec import EngineSpec, names_port, takes_any_port
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import DeploymentSpec, EngineKind
from comfyserve.runtime.launchers.base import Confine, LaunchSpec, LaunchStatus
from comfyserve.runtime.surroundings import Image, Surroundings
from comfyserve.runtime.volumes import paths_file, paths_option, volume_directories
from comfyserve.settings import Settings

WORK = "{replica_dir}/work"
_EVERYWHERE = ("0.0.0.0", "[::]", "::")  # noqa: S104 - replaced, not bound
_LOOPBACK = "127.0.0.1"
_EXPOSED = (
    "it listens on every address of this host, so that others on the network reach it past the "
    "gateway, without a token; have it listen on 127.0.0.1 (or on the variable HOST)"
)
_SOCKET_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_PACKAGE = Path(__file__).resolve().parents[1]
# What an image's Python may lack to serve an application, and which Python it is good for.
_LIBRARIES = f"{sys.version_info.major}.{sys.version_info.minor}:{get_path('purelib')}"


def check_command(engine: EngineSpec, image: Image | None) -> None:
    """Raise InvalidInput for a program that is not there. Reads the disk."""
    program = engine.command[0]
    if "/" in program:
        return  # In the working directory, or wherever a build left it: its start will tell.
    in_image = image is not None and shutil.which(program, path=str(image.python.parent))
    if not in_image and shutil.which(program) is None:
        where = "in the image or on this host" if image else "on this host, and no image is used"
        raise InvalidInput(
            f"there is no program '{program[:80]}' {where}", code="command_not_found"
        )


def launch_plain(
    pool: str,
    spec: DeploymentSpec,
    surroundings: Surroundings,
    *,
    directory: Path,
    settings: Settings,
) -> LaunchSpec:
    """What a launcher needs to start one replica of `pool` (a revision id). Reads the disk.

    `directory` is the deployment's, with the input files that a ComfyUI of its replicas shares.
    """
    input_dir, cache_dir = directory / "input", directory / "cache"
    input_dir.mkdir(parents=True, exist_ok=True)
    image, engine = surroundings.image, spec.engine
    volumes = volume_directories(settings.home_path, spec)
    if engine.kind is EngineKind.APP:
        argv: tuple[str, ...] = _runner(engine, surroundings)
    else:
        argv = tuple(_command(engine))
        if runs_comfyui(argv):
            argv = (
                *argv,
                *_comfyui_options(argv, input_dir, has_gpu=bool(spec.resources.gpus)),
                *paths_option(pool, spec, directory, settings.home_path),
            )
    copies = [surroundings.source, image.workspace if image else None]
    return LaunchSpec(
        pool=pool,
        argv=argv,
        cwd=WORK,
        env=_environment(engine, surroundings, cache_dir, settings),
        gpus=spec.resources.gpus or 0,
        gpu_type=spec.resources.gpu,
        cpu=spec.resources.cpu,
        memory_bytes=spec.resources.memory_bytes,
        writable=(
            WORK,
            str(input_dir),
            str(cache_dir),
            *(str(volume) for _, volume in volumes),
        ),
        readable=(
            *_readable(surroundings, settings),
            *((str(paths_file(pool, directory)),) if spec.volumes else ()),
        ),
        hidden=(str(settings.home_path),),
        links=tuple(("/".join((WORK, *parts)), str(volume)) for parts, volume in volumes),
        path=(str(image.python.parent),) if image else (),
        copies=tuple((str(source), WORK) for source in copies if source is not None),
        port=None if takes_any_port(engine) else engine.container_port,
        confine=Confine(settings.confine),
        log_limit_bytes=settings.log_limit_bytes,
        lease_s=settings.lease_s,
    )


def runs_comfyui(argv: Sequence[str]) -> bool:
    """Whether a command looks like ComfyUI's: its `main.py`, or `comfy launch`."""
    names = [Path(argument).name for argument in argv]
    return "main.py" in names or (names[:1] == ["comfy"] and "launch" in names)


def with_comfyui(engine: EngineSpec, argv: Sequence[str], image: Image | None) -> EngineSpec:
    """The engine with where its ComfyUI lies, by the argv that it says it has: for its web page."""
    if image is not None and image.comfyui_dir is not None:
        place, python = image.comfyui_dir, str(image.python)
    else:
        main = Path(argv[0] if argv else "")
        if not (main.is_absolute() and main.name == "main.py" and main.is_file()):
            return engine
        place = main.parent
        is_python = Path(engine.command[0]).name.startswith("python")
        python = engine.command[0] if is_python else "python3"
    return replace(engine, comfyui_dir=str(place), python=python)


def exposure(status: LaunchStatus | None) -> tuple[str, ...]:
    """A warning if a server listens on every address of this host. Reads /proc."""
    if status is None or status.endpoint is None:
        return ()
    tables = [path.read_text("ascii") for path in map(Path, _SOCKET_TABLES) if path.exists()]
    if not listens_everywhere(status.endpoint.port, tables):
        return ()
    return (_EXPOSED,)


def listens_everywhere(port: int, tables: Sequence[str]) -> bool:
    """Whether a socket listens on `port` of every address, by the kernel's tables of TCP sockets."""
    suffix = f":{port:04X}"
    for table in tables:
        for line in table.splitlines()[1:]:
            fields = line.split()
            address, _, _ = fields[1].partition(":")
            if fields[1].endswith(suffix) and fields[3] == "0A" and not address.strip("0"):
                return True
    return False


def _command(engine: EngineSpec) -> Iterator[str]:
    """The argv with our port in place of the one that it names, and loopback of every address."""
    port = engine.container_port
    argv = engine.command
    for number, argument in enumerate(argv):
        if port is not None and names_port(argument, port):
            argument = f"{argument[: -len(str(port))]}{{port}}"
        yield _on_loopback(argument)
        following = argv[number + 1 : number + 2]
        if argument == "--listen" and runs_comfyui(argv) and _is_option_or_end(following):
            yield _LOOPBACK  # ComfyUI's bare `--listen` means every address.


def _is_option_or_end(following: Sequence[str]) -> bool:
    return not following or following[0].startswith("-")


def _on_loopback(argument: str) -> str:
    """An argument that says to listen on every address, saying loopback instead."""
    before, equals, value = argument.rpartition("=")
    for everywhere in _EVERYWHERE:
        rest = value.removeprefix(everywhere)
        if rest != value and (not rest or (rest.startswith(":") and everywhere != "::")):
            return f"{before}{equals}{_LOOPBACK}{rest}"
    if value == "0.0.0.0,::":
        return f"{before}{equals}{_LOOPBACK}"
    return argument


def _comfyui_options(argv: Sequence[str], input_dir: Path, *, has_gpu: bool) -> Iterator[str]:
    """Where a ComfyUI keeps its files, unless the command says so itself."""
    places = {
        "--input-directory": str(input_dir),
        "--output-directory": "{replica_dir}/work/output",
        "--temp-directory": "{replica_dir}/work",
    }
    if Path(argv[0]).name == "comfy" and "--" not in argv:
        yield "--"  # What follows is for ComfyUI, not for comfy-cli.
    for option, place in places.items():
        if not any(argument.partition("=")[0] == option for argument in argv):
            yield from (option, place)
    if "--disable-auto-launch" not in argv:
        yield "--disable-auto-launch"
    if not has_gpu and "--cpu" not in argv:
        yield "--cpu"


def _runner(engine: EngineSpec, surroundings: Surroundings) -> tuple[str, ...]:
    app = engine.app
    if app is None:
        raise ValueError("an app engine without its app")  # the spec's check rules it out
    python = str(surroundings.image.python) if surroundings.image else sys.executable
    workers = ("--workers", str(app.workers)) if app.workers > 1 else ()
    return (
        python, "-u", "-m", "comfyserve.runner", "--app", WORK, app.handler,
        "--host", _LOOPBACK, "--port", "{port}", *workers,
    )  # fmt: skip


def _environment(
    engine: EngineSpec, surroundings: Surroundings, cache_dir: Path, settings: Settings
) -> Mapping[str, str]:
    image = surroundings.image
    env = {"PYTHONUNBUFFERED": "1", "XDG_CACHE_HOME": str(cache_dir)}
    if image is not None:
        env |= {**image.env, "VIRTUAL_ENV": str(image.python.parent.parent)}
        if engine.kind is EngineKind.APP:
            env["PYTHONPATH"] = str(link_package(settings.home_path))
            env["COMFYSERVE_LIBRARIES"] = _LIBRARIES
    own = {"PORT": "{port}", "HOST": _LOOPBACK, "HOME": WORK, "PWD": WORK}
    return {**env, **own, **engine.env, **surroundings.env}


def _readable(surroundings: Surroundings, settings: Settings) -> Iterator[str]:
    """What of the hidden home a replica may see: its image, and our package for its runner."""
    if surroundings.image is not None:
        yield from map(str, surroundings.image.readable)
        yield str(settings.home_path / "package")


def link_package(home: Path) -> Path:
    """A directory that holds our package and nothing else of our Python, for another Python's path."""
    directory = home / "package"
    directory.mkdir(parents=True, exist_ok=True)
    link = directory / _PACKAGE.name
    if not link.is_symlink() or link.readlink() != _PACKAGE:
        link.unlink(missing_ok=True)
        link.symlink_to(_PACKAGE)
    return directory
