"""A directory as a zip that is made while it is read."""

import zipfile
from collections.abc import Iterator
from pathlib import Path

_CHUNK_BYTES = 1 << 18


def zipped(directory: Path) -> Iterator[bytes]:
    """Yield the zip of a directory, by name, in pieces. Raises OSError. Links are followed."""
    sink = _Sink()
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_DEFLATED, strict_timestamps=False) as archive:  # type: ignore[call-overload]  # only `write` is used
        for path in sorted(directory.rglob("*")):
            name = path.relative_to(directory).as_posix()
            if path.is_dir():
                archive.mkdir(name)
                continue
            entry = zipfile.ZipInfo.from_file(path, name, strict_timestamps=False)
            entry.compress_type = zipfile.ZIP_DEFLATED
            with path.open("rb") as source, archive.open(entry, "w") as target:
                while chunk := source.read(_CHUNK_BYTES):
                    target.write(chunk)
                    yield from sink.taken()
            yield from sink.taken()
    yield from sink.taken()


class _Sink:
    """What was written and not taken yet."""

    def __init__(self) -> None:
        self._pieces: list[bytes] = []

    def write(self, data: bytes) -> int:
        """Take bytes."""
        self._pieces.append(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Nothing is held back."""

    def taken(self) -> Iterator[bytes]:
        """Hand out what there is."""
        pieces, self._pieces = self._pieces, []
        yield from (piece for piece in pieces if piece)
