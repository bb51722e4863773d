"""What crosses between launcher and shim: the order in, the report back."""

import json
import os
import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.runner.order import Order, Report, read_order
from comfyserve.runtime.launchers.base import GoneReason, LaunchSpec, LaunchState
from comfyserve.runtime.launchers.local_files import ReplicaDir
from comfyserve.runtime.launchers.local_spawn import ShimOrder, base_environment

TEXT = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))
NAMES = st.text(st.characters(exclude_characters="\0=", exclude_categories=["Cs"]), min_size=1)


def order_of(spec: LaunchSpec, directory: Path, gpus: tuple[str, ...] = ()) -> ShimOrder:
    return ShimOrder(
        replica_id="rp_a",
        marks={"COMFYSERVE_REPLICA": "rp_a"},
        spec=spec,
        directory=directory,
        notices=directory / "notices",
        gpus=gpus,
        started_at=12.5,
        base_env={"PATH": "/bin", "LANG": "C"},
        bwrap=None,
    )


def transmit(order: ShimOrder) -> Order:
    read_end, write_end = os.pipe()
    with open(write_end, "wb") as pipe:
        pipe.write(order.encode())
    try:
        return read_order(read_end)
    finally:
        os.close(read_end)


@given(st.lists(TEXT, min_size=1, max_size=5), st.dictionaries(NAMES, TEXT, max_size=5))
def test_any_command_and_environment_arrive_unchanged(argv: list[str], env: dict[str, str]) -> None:
    received = transmit(order_of(LaunchSpec("rv", tuple(argv), env=env), Path("/r")))
    assert received.argv == [arg.replace("{replica_dir}", "/r") for arg in argv]
    for name, value in env.items():
        if name not in {"CUDA_VISIBLE_DEVICES", "COMFYSERVE_REPLICA"}:
            assert received.env[name] == value.replace("{replica_dir}", "/r")


def test_an_order_says_everything_that_the_spec_does() -> None:
    spec = LaunchSpec(
        "rv",
        ("serve", "{port}", "{replica_dir}/x"),
        cwd="{replica_dir}",
        env={"PATH": "/mine", "CUDA_VISIBLE_DEVICES": "3", "COMFYSERVE_REPLICA": "forged"},
        memory_bytes=5,
        writable=("{replica_dir}/out",),
        readable=("/models",),
        hidden=("/home",),
        log_limit_bytes=7,
    )
    received = transmit(order_of(spec, Path("/home/replicas/rp_a"), ("GPU-1", "GPU-2")))
    assert (received.id, received.pool, received.spec_digest) == ("rp_a", "rv", spec.spec_digest)
    assert received.argv == ["serve", "{port}", "/home/replicas/rp_a/x"]
    assert received.cwd == "/home/replicas/rp_a"
    assert received.env == {
        "PATH": "/mine",
        "LANG": "C",
        "CUDA_VISIBLE_DEVICES": "GPU-1,GPU-2",
        "COMFYSERVE_REPLICA": "rp_a",
    }
    assert received.gpus == ["GPU-1", "GPU-2"]
    assert (received.memory_bytes, received.log_limit_bytes) == (5, 7)
    assert received.writable == ["/home/replicas/rp_a/out"]
    assert received.readable == ["/home/replicas/rp_a", "/models"]
    assert received.hidden == ["/home/replicas", "/home"]
    assert (received.confine, received.bwrap, received.started_at) == ("auto", "", 12.5)


def test_a_nul_is_refused() -> None:
    with pytest.raises(ValueError, match="NUL"):
        order_of(LaunchSpec("rv", ("a\0b",)), Path("/r")).encode()


def test_the_base_environment_holds_no_more_than_is_listed() -> None:
    environ = {"PATH": "/bin", "AWS_SECRET_ACCESS_KEY": "x", "HTTPS_PROXY": "u:p@h", "TZ": "UTC"}
    assert base_environment(environ) == {"PATH": "/bin", "TZ": "UTC"}


@given(TEXT, TEXT)
def test_a_report_is_json_whatever_it_says(message: str, gpu: str) -> None:
    with tempfile.TemporaryDirectory() as directory:
        spec = LaunchSpec("rv", ("serve",))
        order = transmit(order_of(spec, Path(directory), (gpu,)))
        report = Report(order, shim_start=77, boot_id="boot")
        report.port, report.pid = 1234, 42
        report.message = message
        report.publish()
        files = ReplicaDir(Path(directory))
        running = files.read_report("host")
        assert running is not None
        assert running.status.message == message
        assert running.status.gpus == (gpu,)
        assert running.status.endpoint is not None
        assert running.status.started_at == 12.5
        assert running.shim is not None
        assert (running.shim.pid, running.shim.start_ticks) == (os.getpid(), 77)
        report.end("oom", message)
        report.publish()
        gone = files.read_report("host")
        assert gone is not None
        assert (gone.status.state, gone.status.reason) == (LaunchState.GONE, GoneReason.OOM)
        assert gone.status.endpoint is None
        json.loads(Path(directory, "status.json").read_text())


def test_a_report_that_cannot_be_written_ends_nothing(tmp_path: Path) -> None:
    order = transmit(order_of(LaunchSpec("rv", ("serve",)), tmp_path / "missing"))
    Report(order, shim_start=1, boot_id="boot").publish()
    assert ReplicaDir(tmp_path / "missing").read_report("host") is None


def test_a_spec_is_named_by_all_that_is_in_it() -> None:
    spec = LaunchSpec("rv", ("serve",), env={"A": "1", "B": "2"})
    assert spec.spec_digest == LaunchSpec("rv", ("serve",), env={"B": "2", "A": "1"}).spec_digest
    others = (
        LaunchSpec("rv2", ("serve",), env=spec.env),
        LaunchSpec("rv", ("serve", ""), env=spec.env),
        LaunchSpec("rv", ("serve",), env={"A": "1"}),
        LaunchSpec("rv", ("serve",), env=spec.env, gpus=1),
        LaunchSpec("rv", ("serve",), env=spec.env, lease_s=None),
    )
    assert len({spec.spec_digest, *(other.spec_digest for other in others)}) == 6
