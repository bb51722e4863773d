"""`Output`: a file that an application gives to its caller, by a link that needs no token."""

import os
import weakref
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Protocol, Self

from comfyserve.domain.errors import InvalidInput, NotFound
from comfyserve.sdk.request_context import context

if TYPE_CHECKING:
    from comfyserve.sdk.transport import Transport

_API = "/api/v1/outputs"
_CHUNK_BYTES = 1 << 20
_UPLOAD_S = 600.0
_MOST_EXPIRES_S = 366 * 24 * 3600


class PilImage(Protocol):
    """What is used of a Pillow image."""

    def save(self, fp: Any, format: str | None = None) -> None:  # noqa: A002, ANN401 - Pillow's own
        """Write the picture."""
        ...


@dataclass(frozen=True, slots=True)
class OutputStat:
    """What is known of an output; `id` is empty until it is saved."""

    name: str
    size_bytes: int
    content_type: str
    id: str = ""


class Output:
    """A file or directory (given as a zip), by path or from memory.

    Example:
        return {"image": Output(path="picture.png").public_url(expires=600)}

    Inside a replica it is kept by the server, beyond the replica's life, under the request that is
    served. Elsewhere (tests, scripts) it stays a local file, and its link is a `file:` URL.
    """

    def __init__(self, *, path: str | os.PathLike[str], name: str | None = None) -> None:
        self.path = Path(path)
        self.name = name or self.path.name
        self._stat: OutputStat | None = None
        self._cleanup: weakref.finalize[..., Self] | None = None

    @classmethod
    def from_bytes(cls, data: bytes, name: str) -> Self:
        """Bytes, under a name whose ending says what they are: `from_bytes(png, "picture.png")`."""
        return cls._written(name, lambda target: target.write(data))

    @classmethod
    def from_file(cls, file: "str | os.PathLike[str] | IO[bytes]", name: str | None = None) -> Self:
        """An open binary file, from where it stands to its end, or a path."""
        if isinstance(file, str | os.PathLike):
            return cls(path=file, name=name)
        given = getattr(file, "name", None)
        chosen = name or (Path(given).name if isinstance(given, str) else "output.bin")
        from shutil import copyfileobj

        return cls._written(chosen, lambda target: copyfileobj(file, target))

    @classmethod
    def from_pil_image(
        cls,
        image: PilImage,
        format: str = "png",  # noqa: A002 - Pillow's own word
        name: str | None = None,
    ) -> Self:
        """A Pillow picture: `Output.from_pil_image(picture, format="webp")`."""
        ending = "jpg" if format.lower() == "jpeg" else format.lower()
        kind = "JPEG" if ending == "jpg" else format
        return cls._written(name or f"image.{ending}", lambda target: image.save(target, kind))

    def exists(self) -> bool:
        """Whether it is saved, or there is a file that can be."""
        return self._stat is not None or self.path.exists()

    def stat(self) -> OutputStat:
        """Name, size, type. Raises NotFound."""
        if self._stat is not None:
            return self._stat
        self._require()
        size = sum(p.stat().st_size for p in self.path.rglob("*") if p.is_file())
        is_directory = self.path.is_dir()
        return OutputStat(
            name=self._sent_name,
            size_bytes=size if is_directory else self.path.stat().st_size,
            content_type="application/zip" if is_directory else _guess(self.name),
        )

    def save(self) -> Self:
        """Hand it to the server, once. Raises NotFound if there is no such file."""
        if self._stat is not None:
            return self
        self._require()
        server = _server()
        if server is not None:
            self._stat = self._uploaded(server)
            if self._cleanup is not None:
                self._cleanup()  # the server has it now
        return self

    def public_url(self, expires: float = 3600) -> str:
        """A link for `expires` seconds, to show or download the file without a token.

        It is saved if it was not yet. Raises InvalidInput for a link that would never expire.
        """
        _check_expiry(expires)
        self.save()
        server = _server()
        if server is None or self._stat is None:
            return self._local_file().as_uri()
        wish = {"expires_s": expires, "base_url": context.base_url or None}
        return str(_call(server, "POST", f"{_API}/{self._stat.id}/url", wish)["url"])

    def revoke(self) -> None:
        """Make all links to it worthless; new ones can be made."""
        server = _server()
        if server is not None and self._stat is not None:
            _call(server, "POST", f"{_API}/{self._stat.id}/revoke", {})

    @classmethod
    def _written(cls, name: str, write: Callable[[IO[bytes]], object]) -> Self:
        """An output of our own making: its file goes with it."""
        directory = _own_directory()
        output = cls(path=directory / Path(name).name)
        output._cleanup = weakref.finalize(output, _remove_aside, directory)
        with output.path.open("wb") as target:
            write(target)
        return output

    @property
    def _sent_name(self) -> str:
        return f"{self.name}.zip" if self.path.is_dir() else self.name

    def _require(self) -> None:
        if not self.path.exists():
            raise NotFound(f"there is no file '{self.path}' to give", code="output_not_found")

    def _uploaded(self, server: "Transport") -> OutputStat:
        import json

        from comfyserve.sdk.transport import Request

        request = Request(
            "POST",
            _API,
            {"name": self._sent_name, "request_id": context.request_id or None},
            body=self._pieces(),
            headers={"Content-Type": "application/octet-stream"},
            timeout_s=_UPLOAD_S,
        )
        kept = json.loads(server.send(request))
        return OutputStat(kept["name"], kept["size_bytes"], kept["content_type"], kept["id"])

    def _pieces(self) -> Iterable[bytes]:
        from comfyserve.sdk.zipping import zipped

        return zipped(self.path) if self.path.is_dir() else _read(self.path)

    def _local_file(self) -> Path:
        """A file that stays at least as long as this process, for a link to it."""
        if not self.path.is_dir():
            if self._cleanup is not None and self._cleanup.detach():
                _remove_at_exit(self.path.parent)
            return self.path.absolute()
        directory = _own_directory()
        _remove_at_exit(directory)
        path = directory / self._sent_name
        with path.open("wb") as target:
            target.writelines(self._pieces())
        return path

    def __repr__(self) -> str:
        return f"Output(path={str(self.path)!r})"


def _server() -> "Transport | None":
    from comfyserve.sdk.inside import inside

    return inside()


def _call(server: "Transport", method: str, path: str, body: object) -> Any:  # noqa: ANN401 - JSON
    import json
    from urllib.parse import quote

    from comfyserve.sdk.transport import Request

    headers = {"Content-Type": "application/json"}
    sent = Request(method, quote(path), body=json.dumps(body).encode(), headers=headers)
    return json.loads(server.send(sent))


def _read(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            yield chunk


def _guess(name: str) -> str:
    import mimetypes

    return mimetypes.guess_type(name)[0] or "application/octet-stream"


def _own_directory() -> Path:
    """A new directory for one file, which nobody else names."""
    from tempfile import mkdtemp

    return Path(mkdtemp(prefix="comfyserve-output-"))


def _remove(directory: Path) -> None:
    from shutil import rmtree

    rmtree(directory, ignore_errors=True)


def _remove_aside(directory: Path) -> None:
    """Remove it in a thread: the garbage collector may be at work in somebody's event loop."""
    from threading import Thread

    try:
        Thread(target=_remove, args=(directory,), name="comfyserve-output").start()
    except RuntimeError:  # the interpreter ends and takes no more threads
        _remove(directory)


def _remove_at_exit(directory: Path) -> None:
    import atexit

    atexit.register(_remove, directory)


def _check_expiry(expires: object) -> None:
    from comfyserve.sdk.amounts import read_seconds

    try:
        is_usable = 0 < read_seconds("expires", expires) <= _MOST_EXPIRES_S
    except InvalidInput:
        is_usable = False
    if not is_usable:
        raise InvalidInput(
            f"expires {expires!r} must be a number of seconds above 0, and {_MOST_EXPIRES_S} (a "
            "year) at most; a link that never expires cannot be made",
            code="invalid_expiry",
        )
