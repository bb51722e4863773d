"""The runner: a process that loads user code and serves it, or says why it cannot."""

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import uvicorn
from tests.e2e.ports import two_free_ports
from tests.e2e.server_process import wait_until

CODE = """
import os
from comfyserve import asgi, context

def on_start():
    print("starting", flush=True)
    return "loaded"

@asgi(name="hello", on_start=on_start)
def handler():
    from fastapi import FastAPI
    app = FastAPI()
    @app.get("/")
    def hello():
        return {"pid": os.getpid(), "value": context.on_start_value, "id": context.request_id}
    return app

async def plain(scope, receive, send):
    assert scope["type"] == "http"
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"{}"})

number = 3

@asgi(name="bad", on_start=lambda: 1 / 0)
def fails():
    pass
"""


@pytest.fixture(scope="module")
def code(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with an application."""
    directory = tmp_path_factory.mktemp("code")
    (directory / "api.py").write_text(CODE)
    (directory / "broken.py").write_text("import nothing_of_the_kind\n")
    return directory


def argv(code: Path, handler: str, port: int, *more: str) -> list[str]:
    runner = [sys.executable, "-m", "comfyserve.runner", "--app", str(code), handler]
    return [*runner, "--port", str(port), *more]


@contextmanager
def running(code: Path, handler: str, *more: str) -> Iterator[str]:
    port, _ = two_free_ports()
    with subprocess.Popen(argv(code, handler, port, *more)) as process:
        url = f"http://127.0.0.1:{port}"
        try:
            wait_until(lambda: _is_ready(process, url), 30, "the application serves")
            yield url
            process.send_signal(signal.SIGTERM)
            assert process.wait(30) in {0, -signal.SIGTERM}
        finally:
            process.kill()


def _is_ready(process: subprocess.Popen[bytes], url: str) -> bool:
    assert process.poll() is None, "the runner ended"
    try:
        with urllib.request.urlopen(f"{url}/.comfyserve/ready", timeout=10) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, ConnectionError):
        return False


def get(url: str, **headers: str) -> dict[str, object]:
    request = urllib.request.Request(url, headers=headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, object] = json.loads(answer.read())
        return found


def test_an_application_is_served_with_what_its_start_gave(code: Path) -> None:
    with running(code, "api:handler") as url:
        told = get(url, **{"X-Request-Id": "r-1"})
        assert (told["value"], told["id"]) == ("loaded", "r-1")


def test_any_asgi_object_is_served(code: Path) -> None:
    with running(code, "api:plain") as url:
        assert get(url) == {}


def test_several_workers_share_one_port(code: Path) -> None:
    with running(code, "api:handler", "--workers", "2") as url:
        pids: set[object] = set()

        def both() -> bool:
            told = get(url)
            pids.add(told["pid"])
            assert told["value"] == "loaded"
            return len(pids) == 2

        wait_until(both, 30, "both workers served")


@pytest.mark.parametrize(
    ("handler", "says"),
    [
        ("api:missing", "api has no 'missing'; it has: "),
        ("api:number", "'api:number' is no ASGI application but int"),
        ("api:fails", "ZeroDivisionError"),
        ("broken:handler", "No module named 'nothing_of_the_kind'"),
    ],
)
def test_what_cannot_be_served_says_why(code: Path, handler: str, says: str) -> None:
    port, _ = two_free_ports()
    done = subprocess.run(argv(code, handler, port), capture_output=True, text=True)
    assert done.returncode > 0
    assert says in done.stderr
    assert "comfyserve/runner" not in done.stderr


def test_a_worker_that_cannot_start_ends_the_others(code: Path) -> None:
    port, _ = two_free_ports()
    done = subprocess.run(
        argv(code, "api:fails", port, "--workers", "2"), capture_output=True, text=True
    )
    assert done.returncode > 0
    assert "ZeroDivisionError" in done.stderr


def test_a_python_without_the_server_takes_it_from_ours(code: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(bare)], check=True)
    package = tmp_path / "package"
    package.mkdir()
    (package / "comfyserve").symlink_to(Path(sys.modules["comfyserve"].__file__ or "").parent)
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    libraries = Path(uvicorn.__file__).parents[1]
    run = [str(bare / "bin" / "python"), *argv(code, "api:missing", 0)[1:]]
    env = {**os.environ, "PYTHONPATH": str(package)}
    alone = subprocess.run(run, capture_output=True, text=True, env=env)
    assert 'add_python_packages(["uvicorn"])' in alone.stderr
    env["COMFYSERVE_LIBRARIES"] = f"{version}:{libraries}"
    helped = subprocess.run(run, capture_output=True, text=True, env=env)
    assert "api has no 'missing'" in helped.stderr
