"""The only printing beside `serve`'s: data on stdout, talk on stderr."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

_UNLIMITED = 10_000
"""Columns of a stdout that is not a terminal: nothing is cut that a program may read."""


def emit_json(document: Any) -> None:  # noqa: ANN401 - the JSON border
    """Print JSON on stdout, indented."""
    print(json.dumps(document, indent=2, ensure_ascii=False))


def emit(text: str) -> None:
    """Print a line of data on stdout."""
    print(text, flush=True)


def emit_bytes(chunks: Iterable[bytes]) -> None:
    """Copy bytes to stdout as they come."""
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()


def show(renderable: RenderableType) -> None:
    """Print a table or text on stdout."""
    _print(Console(highlight=False), renderable)


def show_line(text: Text) -> None:
    """Print a line on stdout that stays one, however long: it may be a command to copy."""
    Console(highlight=False, soft_wrap=True).print(text)


def say(text: str | Text = "", style: str = "") -> None:
    """Print a line of talk on stderr."""
    talk().print(text, style=style, markup=False)


def say_table(table: Table) -> None:
    """Print a table on stderr, beside data that is on stdout."""
    _print(talk(), table)


def warn(message: str) -> None:
    """Print a warning on stderr."""
    talk().print(Text.assemble(("warning: ", "bold yellow"), message))


def fail(message: str, evidence: Sequence[str] = ()) -> None:
    """Print an error on stderr: one line, then its evidence, indented."""
    screen = talk()
    screen.print(Text.assemble(("error: ", "bold red"), message))
    for line in evidence:
        screen.print(Text.assemble("  ", Text.from_ansi(line)))


def talk() -> Console:
    """The console of stderr."""
    return Console(stderr=True, highlight=False, soft_wrap=True)


def is_interactive() -> bool:
    """Whether a person watches stderr and can answer on stdin."""
    return talk().is_terminal and sys.stdin.isatty()


@contextmanager
def busy(text: str) -> Iterator[None]:
    """Show that something takes its time; a line where nobody watches."""
    screen = talk()
    if screen.is_terminal:
        with screen.status(text):
            yield
    else:
        screen.print(f"{text} ...", markup=False)
        yield


def columns(*names: str, right: Sequence[str] = ()) -> Table:
    """Return an empty table with these columns; those in `right` hold numbers."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for name in names:
        table.add_column(name, justify="right" if name in right else "left", overflow="fold")
    return table


def facts(rows: Iterable[tuple[str, str | Text]]) -> Table:
    """Return a table of names and values, without those that are empty."""
    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(style="dim", no_wrap=True)
    table.add_column(overflow="fold")
    for name, value in rows:
        if value:
            table.add_row(name, value if isinstance(value, Text) else Text(value))
    return table


def _print(console: Console, renderable: RenderableType) -> None:
    """Print; where no person watches, at full length and without the padding of columns."""
    if console.is_terminal:
        console.print(renderable)
        return
    console.width = _UNLIMITED
    with console.capture() as captured:
        console.print(renderable)
    for line in captured.get().splitlines():
        print(line.rstrip(), file=console.file)
