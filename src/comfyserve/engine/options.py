"""The command line: ComfyUI's own option names where they exist, so that one argv starts either."""

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from comfyserve.engine.faults import Fault, FaultKind, parse_fault


class CacheMode(StrEnum):
    """How long computed outputs are kept. ComfyUI's `--cache-*` options choose one."""

    MEMORY = "memory"
    """Over several prompts, until they take too much memory (the default of newer ComfyUIs)."""
    CLASSIC = "classic"
    """Only what the latest prompt contains."""
    LRU = "lru"
    """At most a given number of node results."""
    NONE = "none"


@dataclass(frozen=True, slots=True)
class Directories:
    """Where files are read and written; all absolute."""

    base: Path
    input: Path
    output: Path
    temp: Path
    user: Path


@dataclass(frozen=True, slots=True)
class Options:
    """What the command line asked for."""

    addresses: tuple[str, ...]
    port: int
    """0 takes a free one; the log says which."""
    directories: Directories
    max_upload_bytes: int
    cache: CacheMode
    cache_entries: int
    """How many node results `CacheMode.LRU` keeps."""
    has_metadata: bool
    """Whether saved images carry the prompt."""
    faults: tuple[Fault, ...]
    ignored: tuple[str, ...]
    """ComfyUI options that mean nothing here, as they were written."""
    argv: tuple[str, ...]


def parse_options(argv: Sequence[str], cwd: Path) -> Options:
    """Read the command line; relative paths start at `cwd`.

    Raises:
        SystemExit: as argparse does, with code 2 for a value that cannot be used, 0 for `--help`.
    """
    known, ignored = _parser().parse_known_args(argv)
    return Options(
        addresses=tuple(part.strip() for part in known.listen.split(",") if part.strip()),
        port=known.port,
        directories=_directories(known, cwd),
        max_upload_bytes=round(known.max_upload_size * 1024 * 1024),
        cache=_cache_mode(known),
        cache_entries=known.cache_lru,
        has_metadata=not known.disable_metadata,
        faults=tuple(known.fault),
        ignored=tuple(ignored),
        argv=tuple(argv),
    )


def _parser() -> argparse.ArgumentParser:
    # No abbreviations: ComfyUI has many options, and `--cache` must not become one of ours.
    parser = argparse.ArgumentParser(prog="comfyserve.engine", allow_abbrev=False)
    add = parser.add_argument
    add("--listen", default="127.0.0.1", nargs="?", const="0.0.0.0,::", metavar="IP[,IP]")
    add("--port", type=int, default=8188, help="0 takes a free one")
    add("--base-directory", type=Path, help="holds input, output, temp, user and models")
    add("--input-directory", type=Path)
    add("--output-directory", type=Path)
    add("--temp-directory", type=Path, help="a folder `temp` is made in it, and emptied")
    add("--user-directory", type=Path)
    add("--max-upload-size", type=float, default=100.0, metavar="MB")
    add("--disable-metadata", action="store_true", help="do not write the prompt into images")
    cache = parser.add_mutually_exclusive_group()
    cache.add_argument("--cache-classic", action="store_true")
    cache.add_argument("--cache-lru", type=int, default=0, metavar="N")
    cache.add_argument("--cache-none", action="store_true")
    add(
        "--fault",
        type=parse_fault,
        action="append",
        default=[],
        metavar="KIND[=ARG]",
        help="misbehave, for tests: " + ", ".join(FaultKind),
    )
    return parser


def _cache_mode(known: argparse.Namespace) -> CacheMode:
    if known.cache_none:
        return CacheMode.NONE
    if known.cache_lru > 0:
        return CacheMode.LRU
    return CacheMode.CLASSIC if known.cache_classic else CacheMode.MEMORY


def _directories(known: argparse.Namespace, cwd: Path) -> Directories:
    base = (cwd / (known.base_directory or "")).resolve()

    def place(option: Path | None, default: str) -> Path:
        return base / default if option is None else (cwd / option).resolve()

    return Directories(
        base=base,
        input=place(known.input_directory, "input"),
        output=place(known.output_directory, "output"),
        # ComfyUI never empties the folder that it is given, only a `temp` inside of it.
        temp=base / "temp"
        if known.temp_directory is None
        else (cwd / known.temp_directory).resolve() / "temp",
        user=place(known.user_directory, "user"),
    )
