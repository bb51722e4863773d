"""Programs of a build: bounded in time and output, and ended with all that they started."""

import asyncio
import os
from pathlib import Path

import pytest

from comfyserve.build.executor import MARK, BuildFailed, Run, kill_marked, run
from comfyserve.build.log import BuildLog


def _log(tmp_path: Path, limit_bytes: int = 1_000_000) -> BuildLog:
    return BuildLog(tmp_path / "log", limit_bytes=limit_bytes)


def _shell(tmp_path: Path, command: str, timeout_s: float = 60.0) -> Run:
    env = {"PATH": os.environ["PATH"], MARK: str(tmp_path)}
    return Run(["/bin/sh", "-c", command], tmp_path, env, timeout_s, command)


async def test_what_a_program_says_is_in_the_log(tmp_path: Path) -> None:
    tail = await run(_shell(tmp_path, "echo out; echo err >&2; printf 'no end'"), _log(tmp_path))
    assert tail == ["out", "err", "no end"]
    assert (tmp_path / "log").read_text() == "out\nerr\nno end\n"


async def test_of_a_progress_bar_the_last_state_is_kept(tmp_path: Path) -> None:
    assert await run(_shell(tmp_path, r"printf '10%%\r50%%\r100%%\n'"), _log(tmp_path)) == ["100%"]


async def test_a_failure_tells_command_code_and_last_lines(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="'seq 100; exit 7' failed with exit code 7") as failed:
        await run(_shell(tmp_path, "seq 100; exit 7"), _log(tmp_path))
    assert failed.value.log_tail[-1] == "100"
    assert len(failed.value.log_tail) == 40


async def test_a_program_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildFailed, match="'/no/such' cannot be run: No such file"):
        await run(Run(["/no/such"], tmp_path, {}, 5.0), _log(tmp_path))


async def test_a_hanging_command_is_killed_with_all_that_it_started(tmp_path: Path) -> None:
    command = "sleep 600 & echo $! > plain; setsid sleep 600 & echo $! > apart; echo up; wait"
    with pytest.raises(BuildFailed, match="did not end within 1 s and was killed") as failed:
        await run(_shell(tmp_path, command, 1.0), _log(tmp_path))
    assert failed.value.code == "build_timeout"
    assert failed.value.log_tail == ("up",)
    for name in ("plain", "apart"):
        assert _has_ended(int((tmp_path / name).read_text()))


async def test_a_child_that_keeps_the_output_open_does_not_hold_up_the_step(tmp_path: Path) -> None:
    tail = await run(_shell(tmp_path, "sleep 600 & echo done"), _log(tmp_path))
    assert tail == ["done"]
    assert kill_marked(str(tmp_path)) == 0


async def test_a_canceled_run_leaves_no_process(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "started")
    running = asyncio.ensure_future(
        run(_shell(tmp_path, "echo > started; sleep 600"), _log(tmp_path))
    )
    await asyncio.to_thread((tmp_path / "started").read_text)
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert kill_marked(str(tmp_path)) == 0


async def test_the_end_of_one_program_leaves_those_beside_it(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "go")
    beside = asyncio.ensure_future(run(_shell(tmp_path, "cat go"), _log(tmp_path)))
    await run(_shell(tmp_path, "echo done"), _log(tmp_path))
    await asyncio.to_thread((tmp_path / "go").write_text, "on it went\n")
    assert await beside == ["on it went"]


async def test_secrets_are_masked_in_log_message_and_tail(tmp_path: Path) -> None:
    log = _log(tmp_path)
    log.mask(["s3cr3t-value", "ab"])
    with pytest.raises(BuildFailed) as failed:
        await run(_shell(tmp_path, "echo got s3cr3t-value about; exit 1"), log)
    assert "s3cr3t" not in failed.value.message + (tmp_path / "log").read_text()
    assert failed.value.log_tail == ("got *** about",)


async def test_a_log_is_bounded(tmp_path: Path) -> None:
    await run(_shell(tmp_path, "yes | head -n 100000"), _log(tmp_path, 10_000))
    text = (tmp_path / "log").read_text()
    assert len(text) < 150_000
    assert text.endswith("(the log is full; what follows is not kept)\n")


async def test_lines_that_are_meant_for_us_are_not_logged(tmp_path: Path) -> None:
    taken: list[str] = []

    def take(line: str) -> bool:
        taken.append(line)
        return line.startswith("fact")

    env = {"PATH": os.environ["PATH"]}
    order = Run(["/bin/sh", "-c", "echo fact 1; echo talk"], tmp_path, env, 60.0, takes=take)
    assert await run(order, _log(tmp_path)) == ["talk"]
    assert taken == ["fact 1", "talk"]


def _has_ended(pid: int) -> bool:
    try:
        return "State:\tZ" in Path(f"/proc/{pid}/status").read_text()
    except FileNotFoundError:
        return True
