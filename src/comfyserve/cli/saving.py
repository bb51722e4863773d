"""Save a job's outputs: every file, and never over another one."""

from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

from comfyserve.cli.answers import Job, Output
from comfyserve.cli.client import Client
from comfyserve.cli.errors import CommandError, ServerFailed


def save_outputs(client: Client, job: Job, directory: Path) -> list[Path]:
    """Save all outputs of `job` under `directory`, previews under `temp`; return their paths.

    A name that is taken gets a number: `a.png`, `a-2.png`. Raises CommandError if the directory
    cannot be written, ServerFailed if a file does not come whole.
    """
    try:
        return [_save(client, output, _target(output, directory)) for output in job.outputs]
    except OSError as error:
        raise CommandError(
            f"cannot save to {error.filename or directory}: {error.strerror}; the job is done, "
            f"its outputs are listed by `comfyserve job show {job.id}`"
        ) from error


def _save(client: Client, output: Output, target: Path) -> Path:
    target.parent.mkdir(parents=True, exist_ok=True)
    for candidate in _numbered(target):
        try:
            file = candidate.open("xb")
        except FileExistsError:
            continue
        try:
            with file:
                _copy(client, output, file)
        except BaseException:
            candidate.unlink(missing_ok=True)
            raise
        return candidate
    raise AssertionError("there is always a next number")


def _copy(client: Client, output: Output, file: IO[bytes]) -> None:
    for chunk in client.fetch(output.url):
        file.write(chunk)
    if output.size_bytes and file.tell() != output.size_bytes:
        raise ServerFailed(
            f"{output.name} came with {file.tell()} of {output.size_bytes} bytes; try again"
        )


def _target(output: Output, directory: Path) -> Path:
    """Where an output goes; a name from outside may not lead out of the directory."""
    parts = [part for part in PurePosixPath(output.subfolder).parts if part not in {"/", ".."}]
    if output.type != "output":
        parts.insert(0, output.type)
    return directory.joinpath(*parts, PurePosixPath(output.name).name or "output")


def _numbered(path: Path) -> Iterator[Path]:
    yield path
    number = 2
    while True:
        yield path.with_name(f"{path.stem}-{number}{path.suffix}")
        number += 1
