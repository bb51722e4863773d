"""`volume cp`: what goes where, then one file after the other, with progress."""

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import click
from rich.progress import (
    BarColumn,
    DownloadColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)

from comfyserve.cli import render
from comfyserve.cli.errors import CommandError, Refused
from comfyserve.cli.volume_files import Entry, Place, Told, VolumeFiles, read_place
from comfyserve.domain.errors import NotFound


@dataclass(frozen=True, slots=True)
class Sending:
    """A local file, and where it goes."""

    source: Path
    target: Place
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Fetching:
    """A file on a volume, and where it goes."""

    source: Place
    target: Path
    entry: Entry

    @property
    def size_bytes(self) -> int:
        """How large it is."""
        return self.entry.size_bytes


@dataclass(frozen=True, slots=True)
class Done:
    """What was copied."""

    files: int
    size_bytes: int


def copy(
    files: VolumeFiles, sources: Sequence[str], target: str, *, recursive: bool, force: bool
) -> Done:
    """Copy between here and a volume; all paths are looked at before the first byte goes."""
    places = [read_place(source) for source in sources]
    wanted = read_place(target)
    plan: Sequence[Sending | Fetching]
    if wanted is not None and not any(places):
        plan = list(_sendings(files, sources, wanted, target, recursive=recursive))
    elif wanted is None and all(places):
        found = [item for place in places if place for item in files.expand(place)]
        plan = list(_fetchings(files, found, target, recursive=recursive))
    else:
        raise click.UsageError(
            "one side is here and the other on a volume, as in `volume cp a.safetensors "
            "weights:/loras/`; inside a volume use `volume mv`"
        )
    _check_clashes(plan, force=force)
    with _progress(sum(item.size_bytes for item in plan)) as told:
        for item in plan:
            if isinstance(item, Sending):
                files.upload(item.source, item.target, told, overwrite=force)
            else:
                item.target.parent.mkdir(parents=True, exist_ok=True)
                files.download(item.source, item.entry, item.target, told)
    return Done(len(plan), sum(item.size_bytes for item in plan))


def _sendings(
    files: VolumeFiles, sources: Sequence[str], wanted: Place, target: str, *, recursive: bool
) -> Iterator[Sending]:
    into = target.endswith((":", "/")) or files.is_directory(wanted)
    if len(sources) > 1 and not into:
        raise click.UsageError(f"{wanted} is no directory, and there are several sources")
    for text in sources:
        source = Path(text)
        # Resolved for its name: `.` and `dir/..` have none of their own.
        place = wanted.below(source.resolve().name) if into else wanted
        if not source.exists():
            raise NotFound(f"there is no file '{source}'")
        if not source.is_dir():
            yield Sending(source, place, _size_of(source))
            continue
        _need_recursive(text, recursive=recursive)
        for path in _files_of(source):
            relative = path.relative_to(source).as_posix()
            yield Sending(path, place.below(relative), _size_of(path))


def _fetchings(
    files: VolumeFiles, found: Sequence[Place], target: str, *, recursive: bool
) -> Iterator[Fetching]:
    directory = Path(target)
    into = target.endswith("/") or directory.is_dir()
    if len(found) > 1 and not into:
        raise click.UsageError(f"'{target}' is no directory, and there are several sources")
    for place in found:
        page = files.look(place)
        local = directory / (place.name or place.volume) if into else directory
        if page.kind == "file":
            yield Fetching(place, local, page.entries[0])
        elif page.kind == "directory":
            _need_recursive(str(place), recursive=recursive)
            for path, entry in files.files_below(place):
                yield Fetching(place.below(path), local / _safe(path), entry)
        else:
            raise Refused(f"{place} is a {page.kind}, which is not followed")


def _need_recursive(what: str, *, recursive: bool) -> None:
    if not recursive:
        raise click.UsageError(f"'{what}' is a directory: copy it with --recursive")


def _files_of(directory: Path) -> Iterator[Path]:
    """All files beneath a directory; links to files are what they lead to, to directories not."""
    for parent, names, leaves in os.walk(directory):
        names.sort()
        for leaf in sorted(leaves):
            path = Path(parent, leaf)
            if path.is_file():
                yield path


def _size_of(path: Path) -> int:
    if not path.is_file():
        raise Refused(f"'{path}' is no file that can be sent")
    return path.stat().st_size


def _safe(path: str) -> PurePosixPath:
    """A path that a server gave, for use below a directory of ours. Raises CommandError."""
    parts = PurePosixPath(path)
    if parts.is_absolute() or ".." in parts.parts:
        raise CommandError(f"the server named a file '{path}', which leads out of the target")
    return parts


def _check_clashes(plan: Sequence[Sending | Fetching], *, force: bool) -> None:
    targets: set[object] = set()
    for item in plan:
        if item.target in targets:
            raise click.UsageError(f"two sources would become {item.target}")
        targets.add(item.target)
        if isinstance(item, Fetching) and item.target.exists() and not force:
            raise Refused(f"'{item.target}' is there already; replace it with --force")


@contextmanager
def _progress(total: int) -> Iterator[Told]:
    """A bar on stderr where somebody watches."""
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(binary_units=True),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        console=render.talk(),
        disable=not render.talk().is_terminal,
        transient=True,
    )
    with bar:
        task = bar.add_task("copying", total=total)
        yield lambda more: bar.advance(task, more)
