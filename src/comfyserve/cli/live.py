"""A story while it happens: bars on a terminal, plain lines anywhere else."""

from types import TracebackType
from typing import Protocol, Self

from rich.console import Console
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from comfyserve.cli.render import is_interactive, talk
from comfyserve.cli.story import Doing, Line, Mark
from comfyserve.cli.units import duration_text
from comfyserve.clock import Clock

_MARKS = {
    Mark.DONE: Text("✔", "green"),
    Mark.CACHED: Text("•", "dim"),
    Mark.FAILED: Text("✘", "bold red"),
}
_PLAIN_EVERY_S = 5.0


class View(Protocol):
    """What a follower shows to."""

    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...
    def line(self, line: Line) -> None:
        """Something is over."""
        ...

    def note(self, text: str) -> None:
        """Something to know that belongs to no stage."""
        ...

    def update(self, doing: Doing | None) -> None:
        """This is being done now."""
        ...


class LiveView:
    """Lines that stay, and below them a spinner with the clock of what is being done."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._clock = clock
        self._doing: Doing | None = None
        self._live = Live(
            console=console, get_renderable=self.current, refresh_per_second=10, transient=True
        )
        self._spinner = Spinner("dots", style="cyan")

    def __enter__(self) -> Self:
        self._live.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._doing = None
        self._live.__exit__(kind, error, trace)

    def line(self, line: Line) -> None:
        """Print above what is being done."""
        self._live.console.print(_styled(line))

    def note(self, text: str) -> None:
        """Print above what is being done."""
        self._live.console.print(Text(f"  {text}", "yellow"))

    def update(self, doing: Doing | None) -> None:
        """Show this until the next update."""
        self._doing = doing

    def current(self) -> Table | Text:
        """What is being done, with its clock and bar."""
        doing = self._doing
        if doing is None:
            return Text("")
        row = Table.grid(padding=(0, 1))
        cells: list[Spinner | Text | ProgressBar] = [self._spinner, Text(doing.text)]
        if doing.maximum > 1:
            cells.append(ProgressBar(doing.maximum, doing.value, width=28, complete_style="cyan"))
            cells.append(Text(f"{doing.value:g}/{doing.maximum:g}", "cyan"))
        cells.append(Text(duration_text(self._clock.monotonic() - doing.since), "dim"))
        row.add_row(*cells)
        return row


class PlainView:
    """One line for each stage that begins and each thing that is over; steps now and then."""

    def __init__(self, console: Console, clock: Clock) -> None:
        self._console = console
        self._clock = clock
        self._stage = ""
        self._printed_at = clock.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass

    def line(self, line: Line) -> None:
        """Print it."""
        self._print(_styled(line))

    def note(self, text: str) -> None:
        """Print it."""
        self._print(Text(text))

    def update(self, doing: Doing | None) -> None:
        """Print a stage that is new, and the steps of a slow node every few seconds."""
        if doing is None:
            return
        if doing.node_id is None:
            if doing.text != self._stage:
                self._print(Text(f"… {doing.text}"))
            self._stage = doing.text
        elif doing.maximum > 1 and self._clock.monotonic() - self._printed_at >= _PLAIN_EVERY_S:
            self._print(Text(f"… {doing.text} {doing.value:g}/{doing.maximum:g}"))

    def _print(self, text: Text) -> None:
        self._console.print(text)
        self._printed_at = self._clock.monotonic()


def choose_view(clock: Clock) -> View:
    """Bars where a person watches, lines elsewhere."""
    console = talk()
    return LiveView(console, clock) if is_interactive() else PlainView(console, clock)


def _styled(line: Line) -> Text:
    text = Text.assemble(
        _MARKS[line.mark], " ", (line.text, "dim" if line.mark is Mark.CACHED else "")
    )
    if line.mark is Mark.CACHED:
        text.append(" cached", "dim")
    if line.seconds is not None:
        text.append(f"  {duration_text(line.seconds)}", "dim")
    return text
