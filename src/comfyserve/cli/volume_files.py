"""Files on a volume as the command line sees them: paths, patterns, and the way there and back."""

import fnmatch
import hashlib
import os
import posixpath
import re
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from types import NoneType
from typing import Any, BinaryIO
from urllib.parse import quote

import click
import msgspec

from comfyserve.cli.client import Client
from comfyserve.cli.errors import CommandError
from comfyserve.domain.errors import NotFound
from comfyserve.domain.volume import check_volume_name
from comfyserve.sdk.errors import ClientError
from comfyserve.sdk.transport import Request

_BLOCK_BYTES = 1024 * 1024
_WAIT_S = 120.0
_STILL_ENDING = frozenset({"upload_offset", "upload_in_progress"})
_PAUSES_S = (0.1, 0.2, 0.5, 1.0, 2.0)
_PLACE = re.compile(r"([A-Za-z0-9][A-Za-z0-9._-]*):(/.*|)", re.DOTALL)
_MAGIC = re.compile(r"[*?[]")

Told = Callable[[int], None]
"""Is told how many bytes more are done."""


@dataclass(frozen=True, slots=True)
class Place:
    """A path on a volume, from its root: `/checkpoints/a.safetensors`."""

    volume: str
    path: str

    def __str__(self) -> str:
        return f"{self.volume}:{self.path}"

    @property
    def name(self) -> str:
        """The last piece of the path."""
        return posixpath.basename(self.path.rstrip("/"))

    def below(self, relative: str) -> "Place":
        """A path inside this directory."""
        return Place(self.volume, posixpath.join(self.path, relative))


@dataclass(frozen=True, slots=True)
class Entry:
    """What lies under a name."""

    name: str
    kind: str
    size_bytes: int
    modified_at: datetime


@dataclass(frozen=True, slots=True)
class Page:
    """Some entries of a directory; `kind` is that of the path itself."""

    kind: str
    entries: tuple[Entry, ...]
    next_after: str | None = None


@dataclass(frozen=True, slots=True)
class Received:
    """How much of an upload is there."""

    received_bytes: int
    is_complete: bool = False


def read_place(text: str) -> Place | None:
    """`NAME:/path` as a place, `NAME` and `NAME:` as its root; None for what has no colon."""
    found = _PLACE.fullmatch(text)
    return Place(found[1], posixpath.normpath(found[2] or "/")) if found else None


def need_place(text: str) -> Place:
    """The same where only a volume is meant. Raises click.BadParameter."""
    place = read_place(text) or read_place(f"{text}:")
    if place is None:
        raise click.BadParameter(f"'{text}' is not NAME:/path")
    check_volume_name(place.volume)
    return place


class VolumeFiles:
    """The files of a server's volumes."""

    def __init__(self, client: Client) -> None:
        self._client = client

    def look(self, place: Place) -> Page:
        """The kind of a path, and all entries of a directory. Raises NotFound."""
        page = self._page(place, "")
        entries = list(page.entries)
        while page.next_after is not None:
            page = self._page(place, page.next_after)
            entries += page.entries
        return Page(page.kind, tuple(entries))

    def is_directory(self, place: Place) -> bool:
        """Whether a directory is there."""
        try:
            return self._page(place, "").kind == "directory"
        except NotFound as error:
            if error.code == "file_not_found":
                return False
            raise

    def expand(self, place: Place) -> Sequence[Place]:
        """The paths that a pattern stands for; one without `*`, `?` and `[` is itself.

        Raises NotFound for a pattern that nothing matches.
        """
        found = [Place(place.volume, "/")]
        for part in filter(None, place.path.split("/")):
            if _MAGIC.search(part):
                found = [
                    parent.below(entry.name)
                    for parent in found
                    if self.is_directory(parent)
                    for entry in self.look(parent).entries
                    if fnmatch.fnmatchcase(entry.name, part)
                    and (part.startswith(".") or not entry.name.startswith("."))
                ]
            else:
                found = [parent.below(part) for parent in found]
        if not found:
            raise NotFound(f"nothing matches '{place}'", code="file_not_found")
        return found

    def files_below(self, place: Place) -> Iterator[tuple[str, Entry]]:
        """All files beneath a directory, with their paths in it. Links are passed over."""
        ahead = [""]
        while ahead:
            directory = ahead.pop()
            for entry in self.look(place.below(directory)).entries:
                path = posixpath.join(directory, entry.name)
                if entry.kind == "directory":
                    ahead.append(path)
                elif entry.kind == "file":
                    yield path, entry

    def upload(self, source: Path, place: Place, told: Told, *, overwrite: bool) -> None:
        """Send a file; an upload that broke goes on where it was. Raises CommandError."""
        with source.open("rb") as file:
            facts = os.fstat(file.fileno())
            # The same content to the same place: whoever breaks and comes again finds its own part.
            identity = (place, source.resolve(), facts.st_size, facts.st_mtime_ns, facts.st_ino)
            key = hashlib.sha256(repr(identity).encode("utf-8", "surrogateescape")).hexdigest()[:40]
            wanted = {
                "path": place.path, "size_bytes": facts.st_size, "key": key, "overwrite": overwrite,
            }  # fmt: skip
            answer = self._send_patiently(file, source, place, wanted, told)
        if not answer.is_complete:
            raise CommandError(f"{source} did not arrive whole; send it again to go on")

    def _send_patiently(
        self, file: BinaryIO, source: Path, place: Place, wanted: Mapping[str, Any], told: Told
    ) -> Received:
        """A request that broke may still be being ended there: then ask again where it got to."""
        told_bytes = 0

        def tell(more: int) -> None:
            nonlocal told_bytes
            told_bytes += more
            told(more)

        for pause_s in _PAUSES_S:
            try:
                return self._send_rest(file, source, place, wanted, tell)
            except ClientError as error:
                if error.code not in _STILL_ENDING:
                    raise
                tell(-told_bytes)  # it is counted anew
                time.sleep(pause_s)
        return self._send_rest(file, source, place, wanted, told)

    def _send_rest(
        self, file: BinaryIO, source: Path, place: Place, wanted: Mapping[str, Any], told: Told
    ) -> Received:
        """Ask how much of a file is there, and send what follows."""
        path = f"/volumes/{place.volume}/uploads"
        offset = self._client.ask("POST", path, Received, body=wanted).value.received_bytes
        told(offset)
        file.seek(offset)
        left = wanted["size_bytes"] - offset
        request = Request(
            "PUT",
            self._file_path(place),
            {
                "size_bytes": wanted["size_bytes"], "key": wanted["key"], "offset": offset,
                "overwrite": str(wanted["overwrite"]).lower(),
            },
            _blocks(file.read, left, source, told),
            {"Content-Length": str(left)},
            _WAIT_S,
        )  # fmt: skip
        return msgspec.json.decode(self._client.transport.send(request), type=Received)

    def download(self, place: Place, entry: Entry, target: Path, told: Told) -> None:
        """Fetch a file; one that broke goes on where it was. Raises CommandError."""
        # Named by what is fetched: another file, or the same one changed, is begun anew.
        identity = (place, entry.size_bytes, entry.modified_at)
        mark = hashlib.sha256(repr(identity).encode()).hexdigest()[:12]
        part = target.with_name(f".{target.name}.{mark}.part")
        with part.open("ab") as file:
            offset = min(file.tell(), entry.size_bytes)
            told(offset)
            headers = {"Range": f"bytes={offset}-"} if offset else {}
            request = Request("GET", self._file_path(place), headers=headers, timeout_s=_WAIT_S)
            if offset < entry.size_bytes:
                for chunk in self._client.transport.chunks(request):
                    file.write(chunk)
                    told(len(chunk))
            if file.tell() != entry.size_bytes:
                raise CommandError(f"{place} did not come whole; fetch it again to go on")
        part.replace(target)

    def make_directory(self, place: Place) -> None:
        """Make a directory with those above it."""
        path = f"/volumes/{place.volume}/directories/{quote(place.path.lstrip('/'))}"
        self._client.ask("PUT", path, NoneType)

    def move(self, source: Place, target: Place, *, overwrite: bool) -> None:
        """Give a file or directory another path."""
        body = {"source": source.path, "destination": target.path, "overwrite": overwrite}
        self._client.ask("POST", f"/volumes/{source.volume}/move", NoneType, body=body)

    def remove(self, place: Place, *, recursive: bool) -> None:
        """Delete a file, or with `recursive` a directory."""
        path = f"/volumes/{place.volume}/files/{quote(place.path.lstrip('/'))}"
        query = {"recursive": "true"} if recursive else None
        self._client.ask("DELETE", path, NoneType, query=query)

    def _page(self, place: Place, after: str) -> Page:
        query = {"path": place.path, "after": after or None}
        return self._client.ask("GET", f"/volumes/{place.volume}/entries", Page, query=query).value

    def _file_path(self, place: Place) -> str:
        return f"/api/v1/volumes/{place.volume}/files/{quote(place.path.lstrip('/'))}"


def _blocks(read: Callable[[int], bytes], size: int, source: Path, told: Told) -> Iterator[bytes]:
    while size > 0:
        block = read(min(_BLOCK_BYTES, size))
        if not block:
            raise CommandError(f"{source} became shorter while it was sent; try again")
        size -= len(block)
        yield block
        told(len(block))
