"""A build while it happens: its steps, bytes and time left on a terminal, plain lines elsewhere."""

from collections.abc import Iterable, Iterator
from types import TracebackType
from typing import Self

import msgspec
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from comfyserve.cli import build_answers as a
from comfyserve.cli import render
from comfyserve.sdk.errors import ConnectionLost


def follow_build(stream: Iterable[bytes], *, quiet: bool = False) -> a.Build:
    """Show a build's event stream until it ends; return what it came to. Raises ConnectionLost."""
    with _Screen(quiet=quiet) as screen:
        for name, data in _events(stream):
            match name:
                case "log":
                    screen.lines(msgspec.json.decode(data, type=dict[str, list[str]])["lines"])
                case "build":
                    screen.update(msgspec.json.decode(data, type=a.Build))
                case "end":
                    return msgspec.json.decode(data, type=a.Build)
                case _:
                    continue
    raise ConnectionLost("the server ended the stream before the build had ended")


class _Screen:
    """Bars on a terminal; without one, the log is enough."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        console = render.talk()
        self._steps = Progress(
            SpinnerColumn(),
            TextColumn("[bold]step {task.fields[step]}/{task.fields[steps]}"),
            TextColumn("{task.description}", markup=False),
            TimeElapsedColumn(),
            console=console,
            transient=True,
            disable=quiet or not console.is_terminal,
        )
        self._bytes = (
            BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn()
        )  # fmt: skip
        self._plain = self._steps.columns
        self._step: TaskID | None = None
        self._seen = 0

    def __enter__(self) -> Self:
        self._steps.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._steps.__exit__(kind, error, trace)

    def lines(self, lines: Iterable[str]) -> None:
        """Show what the build wrote."""
        if self._quiet:
            return
        for line in lines:
            style = "bold" if line.startswith("==> ") else "dim"
            self._steps.console.print(line, style=style, markup=False)

    def update(self, build: a.Build) -> None:
        """Show how far it is."""
        progress = build.progress
        if progress is None:
            return
        if self._step is None or progress.step != self._seen:
            if self._step is not None:
                self._steps.remove_task(self._step)
            self._seen = progress.step
            self._step = self._steps.add_task(
                progress.title, total=None, step=progress.step, steps=progress.steps
            )
            self._steps.columns = self._plain
        if progress.done_bytes:
            self._steps.columns = (*self._plain, *self._bytes)
            self._steps.update(
                self._step, completed=progress.done_bytes, total=progress.total_bytes
            )


def _events(stream: Iterable[bytes]) -> Iterator[tuple[str, bytes]]:
    """The events of a server-sent stream: each has one `event:` and one `data:` line."""
    rest, name = b"", ""
    for chunk in stream:
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            if line.startswith(b"event: "):
                name = line.removeprefix(b"event: ").decode()
            elif line.startswith(b"data: "):
                yield name, line.removeprefix(b"data: ")
