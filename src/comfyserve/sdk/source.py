"""User code on its way to a server: where a handler is, and the files around it."""

import inspect
import re
import tarfile
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path

from comfyserve.domain.errors import InvalidInput, NotFound
from comfyserve.sdk.archive import Archive

IGNORE_FILE = ".comfyserveignore"
MOST_BYTES = 64 * 1024 * 1024
_IGNORED = (
    "venv", "node_modules", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".env", ".DS_Store",
    "comfyserve-out",
)  # fmt: skip
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Source:
    """A directory of code, and the handler in it as `module:attribute`."""

    directory: Path
    handler: str

    @property
    def module(self) -> str:
        """The module of the handler."""
        return self.handler.partition(":")[0]

    def archive(self) -> bytes:
        """The code as a tar, the same bytes for the same files.

        Raises InvalidInput if it is too large, or has links that lead out of it.
        """
        ignored = (*_IGNORED, *_read_ignored(self.directory / IGNORE_FILE))
        sink = _Bounded()
        try:
            Archive(self.directory, ignored).write_to(sink)
        except _TooLarge:
            raise InvalidInput(
                f"the code in {self.directory} is larger than {MOST_BYTES >> 20} MiB; name what is "
                f"not needed in {IGNORE_FILE}, such as {_largest(self.directory)}. Weights belong "
                "on a volume or in the image",
                code="source_too_large",
            ) from None
        data = sink.getvalue()
        _refuse_links_out(data, self.directory)
        return data


def locate(text: str) -> Source:
    """The handler that `api.py:handler` or `package.module:handler` names.

    Raises InvalidInput, and NotFound for a file that is not there.
    """
    place, _, attribute = text.rpartition(":")
    if not place or not all(part.isidentifier() for part in attribute.split(".")):
        raise InvalidInput(
            f"'{text}' is no handler: write FILE:NAME, as in api.py:handler", code="invalid_handler"
        )
    if not place.endswith(".py"):
        if not all(part.isidentifier() for part in place.split(".")):
            raise InvalidInput(
                f"'{place}' is neither a file.py nor a module", code="invalid_handler"
            )
        base = Path(*place.split("."))
        place = str(base / "__init__.py" if base.is_dir() else base.with_suffix(".py"))
    path = Path(place).expanduser()
    if not path.is_file():
        raise NotFound(f"there is no file '{path}'", code="handler_not_found")
    return _placed(path.resolve(), attribute)


def source_of(make: Callable[..., object]) -> Source:
    """Where a handler's function is. Raises InvalidInput for one that is in no file."""
    try:
        path = Path(inspect.getfile(make)).resolve()
    except TypeError:
        path = Path()
    if not path.is_file() or "<locals>" in make.__qualname__:
        raise InvalidInput(
            f"{make.__qualname__} cannot be deployed: put the function at the top of a file, and "
            "use `comfyserve deploy FILE.py:NAME`",
            code="handler_not_found",
        )
    return _placed(path, make.__qualname__)


def _placed(path: Path, attribute: str) -> Source:
    """The directory to upload is the one above the outermost package that the file is in."""
    names = [] if path.name == "__init__.py" else [path.stem]
    directory = path.parent
    while (directory / "__init__.py").is_file():
        names.insert(0, directory.name)
        directory = directory.parent
    module = ".".join(names)
    if not re.fullmatch(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*)*", module):
        raise InvalidInput(
            f"'{path.name}' cannot be imported: a module's name has letters, digits and _ only",
            code="invalid_handler",
        )
    return Source(directory, f"{module}:{attribute}")


def _read_ignored(path: Path) -> list[str]:
    try:
        lines = path.read_text("utf-8").splitlines()
    except FileNotFoundError:
        return []
    stripped = (line.strip().removeprefix("./").rstrip("/") for line in lines)
    return [line for line in stripped if line and not line.startswith("#")]


def _refuse_links_out(archive: bytes, directory: Path) -> None:
    with tarfile.open(fileobj=BytesIO(archive)) as tar:
        for member in tar:
            try:
                tarfile.data_filter(member, str(directory))
            except tarfile.FilterError as error:
                raise InvalidInput(
                    f"'{member.name}' in {directory} cannot go along ({error}); name it in "
                    f"{IGNORE_FILE}",
                    code="source_link",
                ) from error


def _largest(directory: Path) -> str:
    files = (
        path
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink() and ".git" not in path.parts
    )
    by_size = sorted(((path.stat().st_size, path) for path in files), reverse=True)
    return ", ".join(
        f"{path.relative_to(directory).as_posix()} ({size >> 20} MiB)"
        for size, path in by_size[:_SHOWN]
    )


class _TooLarge(Exception):
    """Stops the writing of an archive."""


class _Bounded(BytesIO):
    """Bytes in memory, up to the limit."""

    def write(self, data: bytes, /) -> int:  # type: ignore[override]  # tarfile writes bytes
        """Take bytes. Raises _TooLarge."""
        if self.tell() + len(data) > MOST_BYTES:
            raise _TooLarge
        return super().write(data)
