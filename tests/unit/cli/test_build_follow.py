"""A build's event stream, as the command line shows it."""

import json
from collections.abc import Iterator
from typing import Any

import pytest

from comfyserve.cli.build_follow import follow_build
from comfyserve.sdk.errors import ConnectionLost

_BUILD = {"id": "bd_x", "digest": "d", "state": "running", "created_at": "2026-01-01T00:00:00Z"}


def _event(name: str, data: dict[str, Any]) -> bytes:
    return f"event: {name}\ndata: {json.dumps(data)}\n\n".encode()


def _story() -> Iterator[bytes]:
    progress = {"step": 1, "steps": 2, "title": "fetch [a]", "done_bytes": 5, "total_bytes": 10}
    yield _event("build", {**_BUILD, "progress": progress})
    yield b": still here\n\n"
    told = _event("log", {"lines": ["==> step 1/2: fetch [a]", "[red]as it is"]})
    yield told[:20]
    yield told[20:]


def test_the_log_is_shown_as_it_is_and_the_end_returned(capsys: pytest.CaptureFixture[str]) -> None:
    def whole() -> Iterator[bytes]:
        yield from _story()
        yield _event("end", {**_BUILD, "state": "failed", "message": "why", "log_tail": ["x"]})

    built = follow_build(whole())
    assert (built.state, built.message, built.log_tail) == ("failed", "why", ("x",))
    shown = capsys.readouterr()
    assert shown.err == "==> step 1/2: fetch [a]\n[red]as it is\n"
    assert shown.out == ""


def test_quiet_shows_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(ConnectionLost, match="ended the stream before the build had ended"):
        follow_build(_story(), quiet=True)
    assert capsys.readouterr().err == ""
