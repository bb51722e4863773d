"""From a spec to a process: the command line, what is refused, what a log tells."""

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.spec import DeploymentSpec, EngineKind, EngineSpec, Resources
from comfyserve.runtime.engines import (
    check_engine,
    explain_failure,
    failed_imports,
    find_python,
    launch_spec,
)
from comfyserve.runtime.launchers.base import Confine, LaunchSpec
from comfyserve.settings import Settings

Installation = Callable[..., Path]
PYTHON = "#!/bin/sh\n"


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """What looks like a ComfyUI."""
    directory = tmp_path / "ComfyUI"
    (directory / "comfy").mkdir(parents=True)
    (directory / "main.py").touch()
    (directory / "nodes.py").touch()
    (directory / "comfy" / "cli_args.py").write_text('parser.add_argument("--cpu")')
    return directory


def of(directory: Path, **engine: object) -> DeploymentSpec:
    spec = EngineSpec(EngineKind.COMFYUI, str(directory))
    return DeploymentSpec(engine=replace(spec, **engine))  # type: ignore[arg-type] # fields of EngineSpec


def a_python(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(PYTHON)
    path.chmod(0o755)
    return path


def launched(spec: DeploymentSpec, tmp_path: Path, **settings: object) -> LaunchSpec:
    home = replace(Settings(home=str(tmp_path / "home")), **settings)  # type: ignore[arg-type] # fields of Settings
    return launch_spec("rv_1", spec, directory=tmp_path / "deployment", settings=home)


def option(launch: LaunchSpec, name: str) -> str:
    return launch.argv[launch.argv.index(name) + 1]


def test_the_embedded_engine_runs_in_our_own_python(tmp_path: Path) -> None:
    launch = launched(DeploymentSpec(engine=EngineSpec(args=("--cache-none",))), tmp_path)
    assert launch.argv[:3] == (sys.executable, "-m", "comfyserve.engine")
    assert launch.argv[-1] == "--cache-none"
    assert (option(launch, "--listen"), option(launch, "--port")) == ("127.0.0.1", "{port}")
    assert option(launch, "--input-directory") == str(tmp_path / "deployment" / "input")
    assert option(launch, "--output-directory") == "{replica_dir}/output"
    assert (tmp_path / "deployment" / "input").is_dir()
    assert launch.pool == "rv_1"
    assert (launch.gpus, launch.gpu_type) == (0, None)


def test_a_replica_sees_its_own_files_and_not_the_home(tmp_path: Path) -> None:
    launch = launched(DeploymentSpec(), tmp_path, confine="on", lease_s=7.0, log_limit_bytes=1000)
    assert launch.hidden == (str(tmp_path / "home"),)
    assert str(tmp_path / "deployment" / "input") in launch.writable
    assert "{replica_dir}/output" in launch.writable
    assert (launch.confine, launch.lease_s, launch.log_limit_bytes) == (Confine.ON, 7.0, 1000)


def test_comfyui_runs_in_its_own_directory_and_python(tmp_path: Path, comfyui: Path) -> None:
    python = a_python(tmp_path / "bin" / "python")
    launch = launched(of(comfyui, python=str(python), args=("--lowvram",)), tmp_path)
    assert launch.argv[:3] == (str(python), "-u", "main.py")
    assert launch.argv[-1] == "--lowvram"
    assert launch.cwd == str(comfyui)
    assert str(comfyui) in launch.writable
    assert "--disable-auto-launch" in launch.argv
    assert "--cpu" in launch.argv


def test_without_a_gpu_comfyui_is_told_so_once(tmp_path: Path, comfyui: Path) -> None:
    assert launched(of(comfyui, args=("--cpu",)), tmp_path).argv.count("--cpu") == 1
    on_gpu = replace(of(comfyui), resources=Resources("H100", 2))
    launch = launched(on_gpu, tmp_path)
    assert "--cpu" not in launch.argv
    assert (launch.gpus, launch.gpu_type) == (2, "H100")


def test_replicas_do_not_fight_over_one_database(tmp_path: Path, comfyui: Path) -> None:
    assert "--database-url" not in launched(of(comfyui), tmp_path).argv
    (comfyui / "comfy" / "cli_args.py").write_text('parser.add_argument("--database-url")')
    launch = launched(of(comfyui), tmp_path)
    assert option(launch, "--database-url") == "sqlite:///{replica_dir}/user/comfyui.db"
    own = launched(of(comfyui, args=("--database-url", "sqlite:///:memory:")), tmp_path)
    assert own.argv.count("--database-url") == 1


def test_the_environment_is_what_the_spec_says(tmp_path: Path) -> None:
    engine = EngineSpec(env={"HF_TOKEN": "t", "PYTHONUNBUFFERED": "0"})
    launch = launched(DeploymentSpec(engine=engine), tmp_path)
    assert launch.env["HF_TOKEN"] == "t"
    assert launch.env["PYTHONUNBUFFERED"] == "0"


@pytest.mark.parametrize("place", ["venv", ".venv", "../venv", "../.venv"])
def test_a_virtual_environment_at_hand_is_found(comfyui: Path, place: str) -> None:
    python = a_python(comfyui / place / "bin" / "python")
    found = Path(find_python(of(comfyui)))
    assert found == python.parent.resolve() / "python"


def test_the_link_of_a_virtual_environment_is_not_followed(tmp_path: Path, comfyui: Path) -> None:
    real = a_python(tmp_path / "usr" / "python3.11")
    link = comfyui / "venv" / "bin" / "python"
    link.parent.mkdir(parents=True)
    link.symlink_to(real)
    assert find_python(of(comfyui)) == str(link)


def test_else_it_is_what_was_said_or_python3(comfyui: Path) -> None:
    assert find_python(of(comfyui)) == "python3"
    a_python(comfyui / "venv" / "bin" / "python")
    assert find_python(of(comfyui, python="/opt/python")) == "/opt/python"


def test_a_comfyui_that_can_be_started_passes(comfyui: Path) -> None:
    a_python(comfyui / "venv" / "bin" / "python")
    check_engine(of(comfyui))
    check_engine(DeploymentSpec())


def test_what_is_not_there_is_named(tmp_path: Path, comfyui: Path) -> None:
    a_python(comfyui / "venv" / "bin" / "python")
    with pytest.raises(InvalidInput, match="there is no directory") as refusal:
        check_engine(of(tmp_path / "nowhere"))
    assert refusal.value.code == "comfyui_dir_not_found"
    (comfyui / "nodes.py").unlink()
    with pytest.raises(InvalidInput, match=r"it has no nodes\.py") as refusal:
        check_engine(of(comfyui))
    assert refusal.value.code == "not_comfyui"
    with pytest.raises(InvalidInput, match=r"it has no main\.py, nodes\.py, comfy"):
        check_engine(of(tmp_path))


def test_a_python_that_cannot_be_run_is_named(comfyui: Path) -> None:
    with pytest.raises(InvalidInput, match="/nowhere/python") as refusal:
        check_engine(of(comfyui, python="/nowhere/python"))
    assert refusal.value.code == "python_not_found"


def test_a_spec_that_makes_no_sense_is_refused_first(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="port"):
        check_engine(replace(of(tmp_path / "nowhere"), port=-1))


@pytest.mark.parametrize(
    ("log", "words"),
    [
        (["ModuleNotFoundError: No module named 'torch'"], "has no module 'torch'"),
        (["ImportError: No module named 'yaml.x'", "more"], "has no module 'yaml.x'"),
        (["RuntimeError: CUDA is not available"], "CUDA is not usable"),
        (["CUDA error: no kernel image is available"], "CUDA is not usable"),
        (["CUDA 12.4 found", "Killed"], "the end of its log says why"),
        ([], "the end of its log says why"),
        (
            [
                "ModuleNotFoundError: No module named 'a'",
                "ModuleNotFoundError: No module named 'b'",
            ],
            "has no module 'b'",
        ),
    ],
)
def test_the_end_of_a_log_explains_a_failure(log: list[str], words: str) -> None:
    explanation = explain_failure(log, "/opt/python")
    assert words in explanation
    assert ("/opt/python" in explanation) == ("has no module" in words)


def test_custom_nodes_that_did_not_load_are_named_once() -> None:
    log = [
        "Import times for custom nodes:",
        "   0.0 seconds: /opt/ComfyUI/custom_nodes/fine",
        "   0.1 seconds (IMPORT FAILED): /opt/ComfyUI/custom_nodes/broken",
        "   0.1 seconds (IMPORT FAILED): /opt/ComfyUI/custom_nodes/a b ",
        "   0.1 seconds (IMPORT FAILED): /opt/ComfyUI/custom_nodes/broken",
    ]
    assert failed_imports(log) == (
        "/opt/ComfyUI/custom_nodes/a b",
        "/opt/ComfyUI/custom_nodes/broken",
    )
