"""A picture of what policies cost and how long their jobs wait, by matplotlib (extra `plot`)."""

from collections.abc import Sequence
from pathlib import Path

from comfyserve.cli.errors import CommandError
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.simulation import Outcome


def check_plot(path: Path) -> None:
    """See before any work that the picture can be made. Raises InvalidInput and CommandError."""
    if path.suffix.lower() not in {".svg", ".png"}:
        raise InvalidInput(f"--plot takes a name that ends in .svg or .png, not {path.name}")
    try:
        import matplotlib  # noqa: F401 - only whether it is there
    except ImportError as error:
        raise CommandError(
            "--plot needs matplotlib: install it with `pip install 'comfyserve[plot]'`"
        ) from error


def save_plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw cost and 95th percentile of the wait beside each other. Raises CommandError."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    names = [outcome.policy.name for outcome in outcomes]
    figure = Figure(figsize=(10, 1.6 + 0.42 * len(names)), layout="constrained")
    FigureCanvasAgg(figure)
    cost, wait = figure.subplots(1, 2, sharey=True)
    for axes, values, title, shown in (
        (cost, [outcome.cost for outcome in outcomes], "cost", "{:.2f}"),
        (wait, [outcome.wait_p95_s for outcome in outcomes], "wait of 19 in 20 jobs, s", "{:.1f}"),
    ):
        bars = axes.barh(names, values, color="#4c72b0")
        axes.bar_label(bars, labels=[shown.format(value) for value in values], padding=3)
        axes.set_title(title, loc="left")
        axes.margins(x=0.18)
        axes.spines[["top", "right"]].set_visible(False)
    cost.invert_yaxis()
    try:
        figure.savefig(path)
    except OSError as error:
        raise CommandError(f"{path} cannot be written: {error.strerror}") from error
