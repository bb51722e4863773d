"""From a command or an application to a process: ports, addresses, files, environment."""

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import (
    AppSpec,
    DeploymentSpec,
    EngineKind,
    EngineSpec,
    Resources,
    VolumeMount,
)
from comfyserve.runner.layout import lay_out
from comfyserve.runner.order import Order
from comfyserve.runtime.engines import check_engine, explain, from_image, launch_spec
from comfyserve.runtime.launchers.base import LaunchSpec
from comfyserve.runtime.plain_engines import listens_everywhere, with_comfyui
from comfyserve.runtime.surroundings import Surroundings
from comfyserve.settings import Settings

WORK = "{replica_dir}/work"
NOTHING = Surroundings()


@dataclass(frozen=True)
class AnImage:
    """A built image."""

    python: Path
    workspace: Path
    env: Mapping[str, str] = field(default_factory=dict)
    comfyui_dir: Path | None = None
    readable: tuple[Path, ...] = ()


def of(*argv: str, **engine: Any) -> DeploymentSpec:
    return DeploymentSpec(engine=EngineSpec(EngineKind.COMMAND, command=argv, **engine))


def launched(
    spec: DeploymentSpec, tmp_path: Path, surroundings: Surroundings = NOTHING
) -> LaunchSpec:
    settings = Settings(home=str(tmp_path / "home"))
    spec.check()
    return launch_spec(
        "rv_1", spec, surroundings, directory=tmp_path / "deployment", settings=settings
    )


@pytest.fixture
def image(tmp_path: Path) -> AnImage:
    tree = tmp_path / "home" / "builds" / "trees" / "t"
    python = tree / "venv" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text("#!/bin/sh\n")
    python.chmod(0o755)
    workspace = tree / "workspace"
    workspace.mkdir()
    return AnImage(python, workspace, {"FROM_IMAGE": "1"}, readable=(tree,))


@pytest.mark.parametrize(
    ("argv", "port", "run"),
    [
        (("serve", "{port}"), None, ("serve", "{port}")),
        (("serve", "--port", "8000"), 8000, ("serve", "--port", "{port}")),
        (("serve", "--port=8000", "18000"), 8000, ("serve", "--port={port}", "18000")),
        (("serve", "0.0.0.0:8000"), 8000, ("serve", "127.0.0.1:{port}")),
        (("serve", "--host=0.0.0.0"), None, ("serve", "--host=127.0.0.1")),
        (("serve", "--bind", "[::]:8000"), 8000, ("serve", "--bind", "127.0.0.1:{port}")),
        (("serve", "--host", "::"), None, ("serve", "--host", "127.0.0.1")),
        (("serve", "a::b", "10.0.0.0"), None, ("serve", "a::b", "10.0.0.0")),
        (("serve", "--listen"), None, ("serve", "--listen")),
    ],
)  # fmt: skip
def test_our_port_and_loopback_take_the_place_of_what_is_named(
    tmp_path: Path, argv: tuple[str, ...], port: int | None, run: tuple[str, ...]
) -> None:
    launch = launched(of(*argv, container_port=port), tmp_path)
    assert (launch.argv, launch.port) == (run, None)
    assert launch.cwd == WORK
    assert (launch.env["PORT"], launch.env["HOME"]) == ("{port}", WORK)


def test_a_port_that_is_nowhere_in_the_command_is_insisted_on(tmp_path: Path) -> None:
    assert launched(of("serve", container_port=7860), tmp_path).port == 7860


def test_a_comfyui_is_told_where_its_files_are(tmp_path: Path) -> None:
    spec = of("python", "ComfyUI/main.py", "--listen", "--port", "8188", container_port=8188)
    argv = launched(spec, tmp_path).argv
    assert argv[2:6] == ("--listen", "127.0.0.1", "--port", "{port}")
    assert argv[argv.index("--input-directory") + 1] == str(tmp_path / "deployment" / "input")
    assert "--cpu" in argv
    pod = of("comfy", "launch", "--", "--listen", "0.0.0.0,::", "--output-directory=/out")
    argv = launched(replace(pod, resources=Resources(gpus=1)), tmp_path).argv
    assert argv[:5] == ("comfy", "launch", "--", "--listen", "127.0.0.1")
    assert ("--cpu" in argv, "--output-directory" in argv) == (False, False)
    assert "--" in launched(of("comfy", "launch"), tmp_path).argv


def test_volumes_appear_and_models_on_them_are_shown_to_comfyui(tmp_path: Path) -> None:
    (tmp_path / "home" / "volumes" / "weights").mkdir(parents=True)
    spec = replace(of("python", "main.py"), volumes=(VolumeMount("weights", "./models"),))
    launch = launched(spec, tmp_path)
    directory = str(tmp_path / "home" / "volumes" / "weights")
    assert launch.links == ((f"{WORK}/models", directory),)
    assert directory in launch.writable
    config = launch.argv[launch.argv.index("--extra-model-paths-config") + 1]
    assert directory in Path(config).read_text()
    assert config in launch.readable


def test_an_app_runs_in_the_images_python_with_our_package(tmp_path: Path, image: AnImage) -> None:
    engine = EngineSpec(EngineKind.APP, app=AppSpec("5" * 64, "api:handler", 2), image="i")
    source = tmp_path / "source"
    surroundings = Surroundings(image, source, {"COMFYSERVE_DEPLOYMENT": "demo"})
    launch = launched(DeploymentSpec(engine=engine), tmp_path, surroundings)
    assert launch.argv == (
        str(image.python), "-u", "-m", "comfyserve.runner", "--app", WORK, "api:handler",
        "--host", "127.0.0.1", "--port", "{port}", "--workers", "2",
    )  # fmt: skip
    assert launch.copies == ((str(source), WORK), (str(image.workspace), WORK))
    assert launch.path == (str(image.python.parent),)
    assert launch.env["FROM_IMAGE"] == "1"
    assert launch.env["COMFYSERVE_DEPLOYMENT"] == "demo"
    package = Path(launch.env["PYTHONPATH"])
    assert [path.name for path in package.iterdir()] == ["comfyserve"]
    assert {str(package), str(image.readable[0])} <= set(launch.readable)
    bare = launched(DeploymentSpec(engine=replace(engine, image=None)), tmp_path)
    assert bare.argv[0] == sys.executable
    assert "PYTHONPATH" not in bare.env


def test_a_comfyui_of_an_image_runs_in_a_copy(tmp_path: Path, image: AnImage) -> None:
    comfyui = image.workspace / "ComfyUI"
    (comfyui / "comfy").mkdir(parents=True)
    for name in ("main.py", "nodes.py"):
        (comfyui / name).touch()
    spec = DeploymentSpec(engine=EngineSpec(EngineKind.COMFYUI, image="i"))
    with pytest.raises(InvalidInput, match="holds no ComfyUI"):
        from_image(spec, image)
    image = replace(image, comfyui_dir=comfyui)
    spec = from_image(spec, image)
    check_engine(spec, image)
    launch = launched(spec, tmp_path, Surroundings(image))
    assert launch.cwd == f"{WORK}/ComfyUI"
    assert launch.copies == ((str(image.workspace), WORK),)
    assert str(comfyui) not in launch.writable


def test_a_program_that_is_not_there_is_named(image: AnImage) -> None:
    with pytest.raises(InvalidInput, match="no program 'no-such-thing' on this host"):
        check_engine(of("no-such-thing"))
    with pytest.raises(InvalidInput, match="in the image or on this host"):
        check_engine(of("no-such-thing"), image)
    check_engine(of("./run.sh"))
    check_engine(of("python"), image)


def test_a_missing_module_is_a_case_for_the_image() -> None:
    log = ("Traceback", "ModuleNotFoundError: No module named 'fastapi'")
    assert "'fastapi'" in explain(log, of("python3"))
    assert "add_python_packages" in explain(log, of("python3"))
    assert explain(("?",), of("python3")) == "the end of its log says why"


def test_where_a_commands_comfyui_lies_is_what_it_says(tmp_path: Path, image: AnImage) -> None:
    main = tmp_path / "main.py"
    main.touch()
    engine = of("python3", str(main)).engine
    assert with_comfyui(engine, (), None) == engine
    assert with_comfyui(engine, ("main.py",), None) == engine
    found = with_comfyui(engine, (str(main),), None)
    assert (found.comfyui_dir, found.python) == (str(tmp_path), "python3")
    image = replace(image, comfyui_dir=tmp_path / "C")
    assert with_comfyui(engine, (), image).comfyui_dir == str(tmp_path / "C")


def test_an_open_port_is_seen_in_the_kernels_table() -> None:
    head = "  sl  local_address rem_address   st\n"
    everywhere = f"{head}   0: 00000000:1F90 00000000:0000 0A 0\n"
    loopback = f"{head}   0: 0100007F:1F90 00000000:0000 0A 0\n"
    connected = f"{head}   0: 00000000:1F90 00000000:0000 01 0\n"
    six = f"{head}   0: {'0' * 32}:1F90 {'0' * 32}:0000 0A 0\n"
    assert listens_everywhere(8080, (loopback, everywhere))
    assert listens_everywhere(8080, (six,))
    assert not listens_everywhere(8080, (loopback, connected))
    assert not listens_everywhere(8081, (everywhere,))


def test_a_replica_has_its_own_copy_of_what_its_image_brings(tmp_path: Path) -> None:
    image, code, work, volume = (tmp_path / name for name in ("image", "code", "work", "volume"))
    for directory in (image / "models", image / "sub", code, volume):
        directory.mkdir(parents=True)
    (image / "sub" / "small.txt").write_text("image")
    (image / "sub" / "run.sh").write_text("#!/bin/sh")
    (image / "sub" / "run.sh").chmod(0o555)
    (image / "models" / "hidden.bin").write_text("below a volume")
    (image / "api.py").write_text("the image's")
    (code / "api.py").write_text("the code's")
    with (image / "weights.bin").open("wb") as weights:
        weights.truncate(2 << 20)
    (image / "link").symlink_to("sub/small.txt")
    order = Order(
        {
            "link": [str(work / "models")],
            "link_to": [str(volume)],
            "copy": [str(code), str(image)],
            "copy_to": [str(work), str(work)],
        }
    )
    lay_out(order)
    lay_out(order)
    assert (work / "api.py").read_text() == "the code's"
    assert (work / "models").resolve() == volume
    assert not list(volume.iterdir())
    assert (work / "weights.bin").stat().st_ino == (image / "weights.bin").stat().st_ino
    assert (work / "link").read_text() == "image"
    assert os.access(work / "sub" / "run.sh", os.X_OK)
    (work / "sub" / "small.txt").write_text("mine")
    (work / "sub" / "new.txt").touch()
    assert (image / "sub" / "small.txt").read_text() == "image"
    assert not (image / "sub" / "new.txt").exists()
