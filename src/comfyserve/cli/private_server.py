"""A server of our own for a while: a child process on a free port with a home that vanishes."""

import os
import select
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from comfyserve.cli.errors import CommandError, TimedOut
from comfyserve.settings import ENV_PREFIX

_START_S = 60.0
_STOP_S = 20.0
_SHOWN_LINES = 20


@dataclass(frozen=True, slots=True)
class PrivateServer:
    """A server that runs. `url` is where it listens."""

    url: str
    home: Path
    process: subprocess.Popen[bytes]

    def wait(self) -> None:
        """Wait until it ends by itself, which it should not. Raises CommandError."""
        code = self.process.wait()
        raise CommandError(f"the server ended with exit code {code}")


@contextmanager
def private_server() -> Iterator[PrivateServer]:
    """Start a server, stop it and remove its home at the end.

    The user's own settings do not reach it. Raises CommandError with the end of its log.
    """
    with tempfile.TemporaryDirectory(prefix="comfyserve-") as name:
        directory = Path(name)
        log_path, config_path = directory / "server.log", directory / "config.toml"
        config_path.touch()
        home = directory / "home"
        with log_path.open("wb") as log_file:
            process = subprocess.Popen(  # noqa: S603 - our own module
                [
                    sys.executable,
                    "-m",
                    "comfyserve.cli.main",
                    "serve",
                    "--port=0",
                    f"--home={home}",
                ],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log_file,
                env=_environment(os.environ, config_path),
            )
        try:
            yield PrivateServer(_read_url(process, log_path), home, process)
        finally:
            _stop(process)


def _environment(environ: Mapping[str, str], config_path: Path) -> dict[str, str]:
    kept = {key: value for key, value in environ.items() if not key.startswith(ENV_PREFIX)}
    return {**kept, f"{ENV_PREFIX}CONFIG": str(config_path)}


def _read_url(process: subprocess.Popen[bytes], log_path: Path) -> str:
    """Wait for the first line on its stdout, which is its URL."""
    assert process.stdout is not None  # noqa: S101 - a pipe was asked for
    is_readable, _, _ = select.select([process.stdout], [], [], _START_S)
    if not is_readable:
        raise TimedOut(f"the server did not start within {_START_S:g} s", evidence=_tail(log_path))
    url = process.stdout.readline().decode().strip()
    if not url:
        raise CommandError("the server did not start", evidence=_tail(log_path))
    return url


def _tail(log_path: Path) -> list[str]:
    return log_path.read_text("utf-8", "replace").splitlines()[-_SHOWN_LINES:]


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End it in peace, so that its replicas end with it; then by force."""
    process.terminate()
    try:
        process.wait(_STOP_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    if process.stdout is not None:
        process.stdout.close()
