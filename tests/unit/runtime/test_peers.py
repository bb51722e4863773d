"""Who holds the other end of a connection."""

import os
import socket

import pytest

from comfyserve.runtime import peers


def test_a_file_that_is_closed_meanwhile_hides_no_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    read = os.readlink
    closed: list[str] = []

    def racing(path: str) -> str:
        if not closed:  # The first that is asked for is gone by then.
            closed.append(path)
            raise FileNotFoundError(path)
        return read(path)

    with socket.socket() as held:
        sought = {read(f"/proc/self/fd/{held.fileno()}")}
        monkeypatch.setattr(os, "readlink", racing)
        assert peers._holds(os.getpid(), sought)
    assert closed


def test_a_process_that_has_ended_holds_nothing() -> None:
    assert not peers._holds(2**22 + 1, {"socket:[1]"})
