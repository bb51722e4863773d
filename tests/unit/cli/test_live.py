"""The two views of a story: on a terminal and elsewhere."""

import io

from rich.console import Console

from comfyserve.cli.live import LiveView, PlainView
from comfyserve.cli.story import Doing, Line, Mark
from comfyserve.clock import Clock


class HandClock:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.time = 100.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


def a_console(*, is_terminal: bool) -> tuple[Console, io.StringIO]:
    out = io.StringIO()
    console = Console(file=out, force_terminal=is_terminal, width=100, highlight=False)
    return console, out


def test_elsewhere_each_stage_begins_once_and_steps_are_rationed() -> None:
    clock = HandClock()
    typed: Clock = clock
    console, out = a_console(is_terminal=False)
    with PlainView(console, typed) as view:
        view.update(Doing("starting rp", "waking rp", 100.0))
        view.update(Doing("starting rp", "waking rp", 100.0))
        view.line(Line(Mark.DONE, "waking rp", 0.5))
        for second in range(12):
            clock.time = 101.0 + second
            view.update(Doing("node 2", "2 Sampler", 101.0, "2", value=second + 1, maximum=12))
        view.note("the connection was lost")
        view.line(Line(Mark.CACHED, "3 [b]Decode[/b]"))
        view.update(None)
    assert out.getvalue().splitlines() == [
        "… waking rp",
        "✔ waking rp  0.50 s",
        "… 2 Sampler 5/12",
        "… 2 Sampler 10/12",
        "the connection was lost",
        "• 3 [b]Decode[/b] cached",
    ]


def test_on_a_terminal_lines_stay_and_the_bar_goes() -> None:
    clock = HandClock()
    console, out = a_console(is_terminal=True)
    with LiveView(console, clock) as view:
        view.line(Line(Mark.DONE, "waking rp", 0.5))
        clock.time = 103.0
        view.update(Doing("node 2", "2 Sampler", 101.0, "2", value=3, maximum=12))
        console.print(view.current())
        view.line(Line(Mark.FAILED, "2 Sampler: no"))
    text = out.getvalue()
    assert "waking rp" in text
    assert "3/12" in text
    assert "2.00 s" in text
    assert "━" in text
    assert "2 Sampler: no" in text
