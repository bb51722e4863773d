"""Guards around every test, what the markers need, and the fixtures that everybody uses."""

import asyncio
import gc
import inspect
import os
import signal
import socket
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any

import hypothesis
import pytest
from blockbuster import BlockBuster

from comfyserve.store import Store, open_store
from comfyserve.testing.store_data import furnish

# On a busy machine the wall clock says nothing about the code: neither of an example, nor of drawing one.
_PATIENT = hypothesis.settings(
    deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.register_profile("dev", _PATIENT)
hypothesis.settings.register_profile("ci", _PATIENT, derandomize=True)
hypothesis.settings.load_profile("ci" if os.environ.get("CI") else "dev")

_TEST_CACHE = Path.home() / ".cache" / "comfyserve-test"
_ROOT = Path(__file__).parent.parent
_TESTS = str(Path(__file__).parent)
_COROUTINE_FLAGS = inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


@dataclass(frozen=True, slots=True)
class ComfyUI:
    """A real ComfyUI on this machine and the interpreter that has its requirements."""

    directory: Path
    python: Path


def find_comfyui() -> ComfyUI:
    """Where a ComfyUI would be: named by the environment, else in the test cache."""
    directory, python = os.environ.get("COMFYUI_DIR"), os.environ.get("COMFYUI_PYTHON")
    return ComfyUI(
        Path(directory) if directory else _TEST_CACHE / "comfyui",
        Path(python) if python else _TEST_CACHE / "venv" / "bin" / "python",
    )


def find_corpora() -> Path:
    """Where the shared corpora would be."""
    named = os.environ.get("COMFYSERVE_CORPORA")
    return Path(named) if named else _ROOT.parent / "shared" / "corpora"


def pytest_configure() -> None:
    """A shell that runs the tests in the background has them ignore Ctrl-C; their processes must not."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_IGN:
            is_interrupt = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if is_interrupt else signal.SIG_DFL)


def pytest_collection_finish() -> None:
    """Take what is loaded by now out of the collector's sight: a guard collects after each test."""
    gc.collect()
    gc.freeze()


def pytest_collection_modifyitems(items: Sequence[pytest.Item]) -> None:
    """Skip what this machine cannot run, and say what is missing."""
    missing = {
        "comfyui": _why_no_comfyui(),
        "corpora": _why_no_corpora(),
        "gpu": _why_no_gpu(),
    }
    for item in items:
        for marker, reason in missing.items():
            if reason and item.get_closest_marker(marker):
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_no_comfyui() -> str:
    place = find_comfyui()
    if not (place.directory / "main.py").is_file():
        return f"no ComfyUI in {place.directory}; name one with COMFYUI_DIR"
    if not place.python.exists():
        return f"no Python for ComfyUI at {place.python}; name one with COMFYUI_PYTHON"
    return ""


def _why_no_corpora() -> str:
    if not find_corpora().is_dir():
        return f"no corpora in {find_corpora()}; name their directory with COMFYSERVE_CORPORA"
    return ""


def _why_no_gpu() -> str:
    has_driver = any(Path("/dev").glob("nvidia[0-9]*"))
    return "" if has_driver else "no NVIDIA GPU on this machine (no /dev/nvidia0)"


@pytest.fixture
def comfyui() -> ComfyUI:
    """The real ComfyUI of a test that is marked `comfyui`."""
    return find_comfyui()


@pytest.fixture
def corpora() -> Path:
    """The directory of the shared corpora, for a test that is marked `corpora`."""
    return find_corpora()


@pytest.fixture
def free_port() -> int:
    """A TCP port of the loopback that nobody listened on a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """A directory for the home of a server; it does not exist yet."""
    return tmp_path / "home"


@pytest.fixture
async def store(home: Path) -> AsyncIterator[Store]:
    """An open store with one deployment and one idle replica, `dp_1` and `rp_1`."""
    async with open_store(home) as store:
        await furnish(store)
        yield store


@pytest.fixture(autouse=True)
def _no_child_outlives_its_test() -> Iterator[None]:
    before = _living_children()
    yield
    left: set[int] = set()
    for _ in range(100):  # a killed process takes a moment to end
        left = _living_children() - before
        if not left:
            return
        threading.Event().wait(0.02)
    pytest.fail(f"the test left processes behind: {', '.join(map(_describe, left))}")


@pytest.fixture(autouse=True)
def _async_guards(request: pytest.FixtureRequest) -> None:
    # Only async tests have a loop to guard; a sync one shall not pay for making it.
    if inspect.iscoroutinefunction(getattr(request, "function", None)):
        request.getfixturevalue("_no_lost_task")
        request.getfixturevalue("_no_blocking_call")


@pytest.fixture
async def _no_lost_task() -> AsyncIterator[None]:
    unseen: list[dict[str, Any]] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unseen.append(context))
    before = asyncio.all_tasks()
    yield
    gc.collect()  # an exception that nobody took is told when its task goes
    left = asyncio.all_tasks() - before - {asyncio.current_task()}
    assert not left, f"tasks that nobody awaited: {left}"
    assert not unseen, f"the loop caught what nobody looked at: {unseen}"


@pytest.fixture
async def _no_blocking_call() -> AsyncIterator[None]:
    buster = BlockBuster("comfyserve")
    for function in buster.functions.values():
        function.can_block_predicate = _or_in_a_test(function.can_block_predicate)
    # /proc is not a disk: the kernel answers from memory.
    buster.functions["io.TextIOWrapper.read"].can_block_in("procs.py", {"start_ticks"})
    buster.activate()
    try:
        yield
    finally:
        buster.deactivate()


def _or_in_a_test(can_block: Callable[..., bool]) -> Callable[..., bool]:
    """A test may block its own loop, also through a plain function of ours; our coroutines not.

    A logged trace may: it shows lines of source files.
    """

    def may(*args: object, **kwargs: object) -> bool:
        return can_block(*args, **kwargs) or any(map(_is_exempt, _frames_of_this_step()))

    return may


def _frames_of_this_step() -> Iterator[FrameType]:
    """The calls that led here, up to the coroutine or the callback that the loop runs."""
    frame = inspect.currentframe()
    while frame is not None:
        yield frame
        if frame.f_code.co_flags & _COROUTINE_FLAGS:
            return
        frame = frame.f_back


def _is_exempt(frame: FrameType) -> bool:
    code = frame.f_code
    is_test = code.co_flags & _COROUTINE_FLAGS and code.co_filename.startswith(_TESTS)
    return bool(is_test) or "/structlog/" in code.co_filename


def _living_children() -> set[int]:
    """Children of this process, whichever thread made them, that have not ended."""
    found: set[int] = set()
    for listing in Path("/proc/self/task").glob("*/children"):
        try:
            found.update(map(int, listing.read_text().split()))
        except OSError:
            continue  # the thread has just ended
    return {pid for pid in found if _is_alive(pid)}


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state not in {"Z", "X"}


def _describe(pid: int) -> str:
    try:
        command = Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
    except OSError:
        command = "ended meanwhile"
    return f"{pid} ({command})"
