"""A ComfyUI in the background of a replica: one for all its workers, found again by each of them."""

import atexit
import fcntl
import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from urllib.request import urlopen

from comfyserve.clock import SystemClock
from comfyserve.domain.errors import NotFound
from comfyserve.sdk.comfy_process import BackgroundComfyUI, Engine
from comfyserve.sdk.errors import ServerFailed, TimedOut

URL_VARIABLE = "COMFYSERVE_COMFYUI_URL"
"""Where a ComfyUI is that is not ours to start."""
_IN_REPLICA = "COMFYSERVE_REPLICA"
_PLACES = ("ComfyUI", "comfy/ComfyUI", ".")
_PYTHONS = ("venv/bin/python", ".venv/bin/python", "../venv/bin/python", "../.venv/bin/python")
_PARTS = ("main.py", "nodes.py", "comfy")
_LOOK_EACH_S = 0.05
_ASK_S = 5.0
_GRACE_S = 10.0


def start(
    engine: Engine,
    comfyui_dir: str | os.PathLike[str] | None,
    args: Sequence[str],
    timeout: float,
) -> BackgroundComfyUI:
    """See `comfyserve.sdk.comfy_process.start_comfyui`."""
    if url := os.environ.get(URL_VARIABLE):
        return BackgroundComfyUI(url.rstrip("/"))
    directory = _state_directory()
    with _alone(directory):
        running = _find(directory, engine)
        if running is not None:
            return running
        argv, cwd = _command(engine, comfyui_dir)
        port = _free_port()
        argv += ["--listen", "127.0.0.1", "--port", str(port), *_directories(directory)]
        argv += [*_database(cwd, directory), *args]
        # Its output goes where ours goes. Whoever ends the replica ends it too.
        process = subprocess.Popen(argv, cwd=cwd, stdin=subprocess.DEVNULL)  # noqa: S603 - as told
        _STARTED.append(process)
        found = BackgroundComfyUI(f"http://127.0.0.1:{port}", process.pid)
        _await_answer(process, found.url, timeout)
        state = {"url": found.url, "pid": found.pid, "engine": engine}
        (directory / "running.json").write_text(json.dumps(state))
        return found


def stop() -> None:
    """End what this process started. Twice is fine."""
    while _STARTED:
        process = _STARTED.pop()
        process.terminate()
        try:
            process.wait(_GRACE_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


_STARTED: list[subprocess.Popen[bytes]] = []
_OWN_DIRECTORY: list[Path] = []
_LOCK = threading.Lock()
atexit.register(stop)


def _state_directory() -> Path:
    """Shared by all workers of a replica; elsewhere this process's own."""
    if os.environ.get(_IN_REPLICA):
        directory = Path.cwd() / "comfyui"
        directory.mkdir(exist_ok=True)
        return directory
    with _LOCK:
        if not _OWN_DIRECTORY:
            _OWN_DIRECTORY.append(Path(tempfile.mkdtemp(prefix="comfyserve-comfyui-")))
            atexit.register(shutil.rmtree, _OWN_DIRECTORY[0], ignore_errors=True)
        return _OWN_DIRECTORY[0]


@contextmanager
def _alone(directory: Path) -> Iterator[None]:
    """Be the only one who starts it, among threads and processes. Waits for who is at it."""
    handle = os.open(directory / "start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def _find(directory: Path, engine: Engine) -> BackgroundComfyUI | None:
    try:
        told = json.loads((directory / "running.json").read_bytes())
    except (OSError, ValueError):
        return None
    is_right = told["engine"] == engine and _answers(told["url"])
    return BackgroundComfyUI(told["url"], told["pid"]) if is_right else None


def _command(
    engine: Engine, comfyui_dir: str | os.PathLike[str] | None
) -> tuple[list[str], Path | None]:
    if engine == "embedded":
        return [sys.executable, "-m", "comfyserve.engine"], None
    directory = _comfyui_dir(comfyui_dir)
    found = (directory / place for place in _PYTHONS)
    python = next((str(path) for path in found if path.exists()), sys.executable)
    argv = [python, "-u", "main.py", "--disable-auto-launch"]
    # Empty, not missing: the replica was given no GPU.
    return ([*argv, "--cpu"] if os.environ.get("CUDA_VISIBLE_DEVICES") == "" else argv), directory


def _comfyui_dir(given: str | os.PathLike[str] | None) -> Path:
    asked = [Path(given).expanduser()] if given is not None else [Path.cwd() / p for p in _PLACES]
    for directory in asked:
        if all((directory / part).exists() for part in _PARTS):
            return directory.resolve()
    raise NotFound(
        f"there is no ComfyUI in {', '.join(map(str, asked))}: build it into the image "
        "(Image.comfyui(...)), give comfyui_dir, or for tests engine='embedded'",
        code="comfyui_not_found",
    )


def _directories(directory: Path) -> list[str]:
    options = []
    for name in ("input", "output", "user"):
        (directory / name).mkdir(exist_ok=True)
        options += [f"--{name}-directory", str(directory / name)]
    return [*options, "--temp-directory", str(directory)]


def _database(comfyui_dir: Path | None, directory: Path) -> list[str]:
    """A database of its own, where it has one: the default is one file in the installation."""
    options = comfyui_dir / "comfy" / "cli_args.py" if comfyui_dir is not None else None
    if options is None or "--database-url" not in options.read_text("utf-8", "replace"):
        return []
    return ["--database-url", f"sqlite:///{directory / 'user' / 'comfyui.db'}"]


def _await_answer(process: subprocess.Popen[bytes], url: str, timeout_s: float) -> None:
    clock = SystemClock()
    deadline = clock.monotonic() + timeout_s
    while not _answers(url):
        if (code := process.poll()) is not None:
            _STARTED.remove(process)
            raise ServerFailed(f"ComfyUI ended with code {code} before it answered; see its log")
        if clock.monotonic() > deadline:
            _STARTED.remove(process)
            process.kill()
            process.wait()
            raise TimedOut(f"ComfyUI did not answer within {timeout_s:g} s; see its log")
        threading.Event().wait(_LOOK_EACH_S)


def _answers(url: str) -> bool:
    try:
        with urlopen(f"{url}/prompt", timeout=_ASK_S) as answer:  # noqa: S310 - ours
            return bool(answer.status == 200)
    except (OSError, ValueError):
        return False


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
