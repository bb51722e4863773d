"""The engine as a process: it starts, ends, and misbehaves as it is told to."""

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from tests.e2e.engine_process import EngineProcess, running, starting, wait_until

pytestmark = pytest.mark.e2e

TEXT = {"1": {"class_type": "TestingText", "inputs": {"text": "hello"}}}


def crash_prompt(**inputs: object) -> dict[str, object]:
    given = {"exit_code": 3, "by_signal": "none", "once": "", **inputs}
    return {"1": {"class_type": "TestingCrash", "inputs": given}}


def test_it_takes_the_command_line_of_comfyui(tmp_path: Path) -> None:
    places = [
        *("--input-directory", str(tmp_path / "in"), "--output-directory", str(tmp_path / "out")),
        *("--temp-directory", str(tmp_path / "scratch"), "--user-directory", str(tmp_path / "me")),
    ]
    (tmp_path / "scratch" / "temp").mkdir(parents=True)
    (tmp_path / "scratch" / "temp" / "old.png").touch()
    (tmp_path / "scratch" / "kept.png").touch()
    with running(tmp_path, *places, "--cpu", "--database-url", "sqlite:///:memory:") as engine:
        assert engine.run(TEXT)["status"]["completed"] is True
        assert engine.get("/system_stats").json["system"]["argv"][-1] == "sqlite:///:memory:"
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["in", "me", "out", "scratch"]
    assert [path.name for path in (tmp_path / "scratch").iterdir()] == ["kept.png"]
    ignored = [line for line in engine.lines if line.startswith("ignored options")]
    assert ignored == [
        "ignored options, they mean nothing here: --cpu --database-url sqlite:///:memory:"
    ]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_ends_at_once_when_told_to(tmp_path: Path, number: signal.Signals) -> None:
    with running(tmp_path) as engine:
        assert engine.end(number, timeout_s=5) == 0


def test_it_ends_at_once_in_the_middle_of_a_prompt(tmp_path: Path) -> None:
    hang = {"1": {"class_type": "TestingHang", "inputs": {"seconds": 60, "heeds_interrupt": False}}}
    with running(tmp_path) as engine:
        engine.start(hang)
        assert engine.end(timeout_s=5) == 0


def test_it_says_that_the_port_is_taken(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "comfyserve.engine", "--port", str(port)],
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    assert done.returncode == 1
    assert f"Port {port} is already in use" in done.stderr
    assert "Traceback" not in done.stderr


def test_an_option_that_cannot_be_used_is_explained(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "comfyserve.engine", "--fault", "cosmic-ray"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert done.returncode == 2
    assert "no fault is called 'cosmic-ray'" in done.stderr


@pytest.mark.parametrize(
    ("fault", "code", "words"),
    [
        ("start-crash=7", 7, "ModuleNotFoundError"),
        ("port-busy", 1, "is already in use"),
    ],
)
def test_faults_that_end_it_before_it_listens(
    tmp_path: Path, fault: str, code: int, words: str
) -> None:
    with starting(tmp_path, "--fault", fault) as engine:
        with pytest.raises(RuntimeError, match=words):
            engine.wait_ready()
        assert engine.process.wait(10) == code


def test_fault_never_ready(tmp_path: Path) -> None:
    with starting(tmp_path, "--fault", "never-ready") as engine:
        assert engine.process.stderr is not None
        lines = [engine.process.stderr.readline() for _ in range(2)]
        assert lines[1] == "fault: never listening\n"
        assert engine.process.poll() is None


def test_fault_slow_start(tmp_path: Path) -> None:
    with running(tmp_path, "--fault", "slow-start=0.2") as engine:
        assert "fault: waiting 0.2 seconds before listening" in engine.lines
        assert engine.get("/prompt").status == 200


def test_fault_mute(tmp_path: Path) -> None:
    with running(tmp_path, "--fault", "mute=0") as engine:
        with socket.create_connection(("127.0.0.1", engine.port), timeout=0.5) as connection:
            connection.sendall(b"GET /prompt HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(TimeoutError):
                connection.recv(1)
        assert engine.process.poll() is None
        engine.process.kill()


@pytest.mark.parametrize(
    ("fault", "do"),
    [
        ("crash-after=0.05", lambda engine: None),
        ("crash-at-prompt=2", lambda engine: (engine.run(TEXT), engine.submit(TEXT))),
        ("crash-at-class=TestingText", lambda engine: engine.submit(TEXT)),
    ],
)
def test_faults_that_kill_it(
    tmp_path: Path, fault: str, do: Callable[[EngineProcess], object]
) -> None:
    with running(tmp_path, "--fault", fault) as engine:
        with suppress(ConnectionError):
            do(engine)
        assert engine.process.wait(10) == -signal.SIGKILL


def test_fault_hang_at_class(tmp_path: Path) -> None:
    with running(tmp_path, "--fault", "hang-at-class=TestingText") as engine:
        prompt_id = engine.submit(TEXT)
        log = "fault: hanging at a node of class TestingText"
        wait_until(lambda: log in engine.lines)
        engine.post("/interrupt", {"prompt_id": prompt_id})
        assert engine.get("/queue").json["queue_running"][0][1] == prompt_id


def test_fault_ignore_sigterm(tmp_path: Path) -> None:
    with running(tmp_path, "--fault", "ignore-sigterm") as engine:
        engine.process.terminate()
        wait_until(lambda: "fault: ignoring SIGTERM" in engine.lines)
        assert engine.get("/prompt").status == 200
        assert engine.end(signal.SIGKILL) == -signal.SIGKILL


def test_fault_slow_stop(tmp_path: Path) -> None:
    with running(tmp_path, "--fault", "slow-stop=0.2") as engine:
        assert engine.end() == 0
        assert "fault: ending in 0.2 seconds" in engine.lines


def test_fault_fork_grandchild(tmp_path: Path) -> None:
    with running(tmp_path, "--fault", "fork-grandchild") as engine:
        line = next(line for line in engine.lines if line.startswith("fault: left a grandchild"))
        pid = int(line.rpartition(" ")[2])
        try:
            assert engine.end() == 0
            assert os.getsid(pid) == pid
        finally:
            os.kill(pid, signal.SIGKILL)


def test_faults_of_answers(tmp_path: Path) -> None:
    faults = ("--fault", "refuse-prompts", "--fault", "forget-history")
    with running(tmp_path, *faults) as engine:
        assert engine.post("/prompt", {"prompt": TEXT}).status == 500
    with running(tmp_path, "--fault", "forget-history") as engine:
        engine.submit(TEXT)
        wait_until(lambda: any(line.startswith("Prompt executed") for line in engine.lines))
        assert engine.get("/history").json == {}


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[EngineProcess]:
    with running(tmp_path) as engine:
        yield engine


def test_a_node_that_crashes_with_a_code(engine: EngineProcess) -> None:
    with suppress(ConnectionError):
        engine.submit(crash_prompt(exit_code=42))
    assert engine.process.wait(10) == 42


def test_a_node_that_crashes_by_a_signal(engine: EngineProcess) -> None:
    with suppress(ConnectionError):
        engine.submit(crash_prompt(by_signal="SIGSEGV"))
    assert engine.process.wait(10) == -signal.SIGSEGV


def test_a_node_that_crashes_once(tmp_path: Path) -> None:
    with running(tmp_path) as first:
        with suppress(ConnectionError):
            first.submit(crash_prompt(once="crashed.txt"))
        assert first.process.wait(10) == 3
    with running(tmp_path) as second:
        assert second.run(crash_prompt(once="crashed.txt"))["outputs"] == {
            "1": {"text": ["survived"]}
        }


def test_memory_is_allocated_for_a_while(engine: EngineProcess) -> None:
    status = Path(f"/proc/{engine.process.pid}/status")
    engine.run(TEXT)
    before = resident_kb(status)
    inputs = {"megabytes": 200, "seconds": 5.0}
    prompt = {
        "1": {"class_type": "TestingAllocate", "inputs": inputs},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    }
    engine.submit(prompt)
    wait_until(lambda: resident_kb(status) > before + 190 * 1024)
    engine.post("/interrupt", {})


def resident_kb(status: Path) -> int:
    line = next(line for line in status.read_text().splitlines() if line.startswith("VmRSS"))
    return int(line.split()[1])
