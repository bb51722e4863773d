"""The shim's smaller parts, and what it costs to start."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from comfyserve.runner import linux
from comfyserve.runner.confine import confine
from comfyserve.runner.memory import MemoryGroup, is_out_of_memory, limit_memory
from comfyserve.runner.order import Order
from comfyserve.runner.ports import Port, find_listeners, holds_one, read_listeners
from comfyserve.runtime.launchers.local_spawn import SHIM
from comfyserve.runtime.launchers.procs import ProcessName, boot_id, open_process, start_ticks


def test_the_shim_imports_nothing_that_is_slow() -> None:
    code = (
        "import sys; sys.path.append(sys.argv[1]); import comfyserve.runner.shim;"
        "print(*sys.modules)"
    )
    argv = [sys.executable, "-I", "-S", "-c", code, str(SHIM.parents[2])]
    loaded = subprocess.run(argv, capture_output=True, text=True, check=True).stdout.split()
    slow = {"asyncio", "collections", "dataclasses", "enum", "json", "re", "signal", "socket"}
    assert slow.isdisjoint(loaded), slow.intersection(loaded)
    assert {name for name in loaded if name.startswith("comfyserve")} == {
        "comfyserve",
        "comfyserve.runner",
        *(
            f"comfyserve.runner.{name}"
            for name in (
                "confine",
                "layout",
                "linux",
                "memory",
                "order",
                "ports",
                "ringlog",
                "server",
            )
        ),
        "comfyserve.runner.shim",
    }


def test_a_kept_port_is_given_to_nobody_else_but_can_be_listened_on() -> None:
    port = Port("127.0.0.1", is_held=True)
    with socket.socket() as rude, pytest.raises(OSError, match="in use"):
        rude.bind(("127.0.0.1", port.number))
    with socket.socket() as server:
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        server.bind(("127.0.0.1", port.number))
        assert find_listeners(port.number) == read_listeners(port.number) == set()
        server.listen()
        inodes = {os.fstat(server.fileno()).st_ino}
        assert find_listeners(port.number) == read_listeners(port.number) == inodes
        assert holds_one(os.getpid(), inodes)
        with subprocess.Popen(["sleep", "60"]) as stranger:
            assert not holds_one(stranger.pid, inodes)
            stranger.kill()
        assert not holds_one(stranger.pid, inodes)
    port.release()
    port.release()


def test_a_listener_is_found_on_every_address() -> None:
    for family, address in ((socket.AF_INET, "0.0.0.0"), (socket.AF_INET6, "::")):
        try:
            server = socket.create_server((address, 0), family=family)
        except OSError:
            pytest.skip(f"this host has no {family.name}")
        with server:
            port = server.getsockname()[1]
            inodes = {os.fstat(server.fileno()).st_ino}
            assert find_listeners(port) == read_listeners(port) == inodes


def test_a_port_that_is_not_kept_suits_every_server() -> None:
    port = Port("127.0.0.1", is_held=False)
    with socket.socket() as rude:
        rude.bind(("127.0.0.1", port.number))


def test_descendants_are_found_parents_first() -> None:
    argv = ["sh", "-c", "sh -c 'sleep 60 & echo up; wait' & wait"]
    with subprocess.Popen(argv, stdout=subprocess.PIPE) as top:
        assert top.stdout is not None
        assert top.stdout.readline() == b"up\n"
        below = linux.descendants(top.pid)
        assert len(below) == 2
        assert linux.descendants(below[0]) == below[1:]
        for pid in (top.pid, *below):
            os.kill(pid, linux.SIGKILL)


def test_a_process_is_found_again_only_by_its_whole_name() -> None:
    own = ProcessName(os.getpid(), start_ticks(os.getpid()), boot_id())
    assert own.start_ticks == linux.start_ticks(os.getpid())
    assert own.boot_id == linux.boot_id()
    pidfd = open_process(own)
    assert pidfd is not None
    os.close(pidfd)
    assert open_process(ProcessName(own.pid, own.start_ticks + 1, own.boot_id)) is None
    assert open_process(ProcessName(own.pid, own.start_ticks, "another boot")) is None
    with subprocess.Popen(["true"]) as child:
        name = ProcessName(child.pid, start_ticks(child.pid), boot_id())
    assert open_process(name) is None


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2 GiB", True),
        (b"terminate called after throwing an instance of 'std::bad_alloc'", True),
        (b"MemoryError", True),
        (b"OSError: [Errno 12] Cannot allocate memory", True),
        (b"KeyError: 'memory'", False),
        (b"", False),
    ],
)
def test_a_log_tells_that_memory_ran_out(text: bytes, expected: bool) -> None:
    assert is_out_of_memory(text) is expected


def test_a_memory_group_leaves_nothing_behind() -> None:
    group = limit_memory("comfyserve-unit-test", 64 << 20)
    if not group.path:
        pytest.skip("this host lets us make no control group")
    assert Path(group.path).is_dir()
    assert group.oom_kills() == 0
    path = group.path
    group.remove()
    group.remove()
    assert not Path(path).exists()


def test_without_a_group_the_host_is_asked_for_oom_kills() -> None:
    assert MemoryGroup().oom_kills() >= 0


def test_confinement_hides_before_it_shows(tmp_path: Path) -> None:
    home, inside = tmp_path / "home", tmp_path / "home" / "input"
    inside.mkdir(parents=True)
    order = Order(
        {
            "bwrap": ["/usr/bin/bwrap"],
            "cwd": ["/"],
            "hidden": [str(home), str(tmp_path / "missing")],
            "writable": [str(inside)],
            "gpu": ["GPU-1"],
        }
    )
    argv = confine(order, ["serve", "1"], 9)
    assert argv[0] == "/usr/bin/bwrap"
    assert argv[-3:] == ["--", "serve", "1"]
    assert argv.index(str(home)) < argv.index(str(inside))
    assert str(tmp_path / "missing") not in argv
    devices = {name for name in os.listdir("/dev") if name.startswith("nvidia")}
    assert devices <= {Path(arg).name for arg in argv}
