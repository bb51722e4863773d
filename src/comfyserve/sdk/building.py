"""Images on their way to a server: built before what needs them is deployed."""

import json
import tempfile
from collections.abc import Iterator, Mapping
from typing import IO, TYPE_CHECKING, Any
from urllib.parse import quote

from comfyserve.sdk.errors import ServerFailed
from comfyserve.sdk.lines import lines_of
from comfyserve.sdk.talk import say

if TYPE_CHECKING:
    from comfyserve.sdk.client import Client
    from comfyserve.sdk.image import CompiledImage, Image

_CHUNK_BYTES = 1 << 20
_SHOWN_LINES = 40


def built(client: "Client", image: "Image | None") -> str | None:
    """The digest of an image that is built on the server; None where none is asked for.

    Its log is shown while it is built. Raises ServerFailed with the end of it.
    """
    if image is None:
        return None
    compiled = image.compile()
    build = submit(client, compiled)
    path = f"/builds/{quote(str(build['id']), safe='')}"
    last: list[str] = []
    if build["state"] not in _ENDED:
        say(f"building the image {compiled.spec.digest[:12]}")
        for line in lines_of(client.stream(f"{path}/logs", {"follow": "true"})):
            say(line)
            last = [*last[1 - _SHOWN_LINES :], line]
        build = client.get(path)
    if build["state"] != "succeeded":
        raise ServerFailed(
            f"the image was not built: {build.get('message') or build['state']}", evidence=last
        )
    return compiled.spec.digest


def submit(
    client: "Client", compiled: "CompiledImage", *, is_fresh: bool = False
) -> Mapping[str, Any]:
    """Upload the local files of an image and ask for its build; return what the server says of it."""
    for archive in compiled.archives.values():
        with tempfile.TemporaryFile() as file:
            archive.write_to(file)
            file.seek(0)
            client.upload_source(_pieces(file))
    path = "/builds?no_cache=true" if is_fresh else "/builds"
    return client.post(path, json.dumps(compiled.spec.to_json()).encode())


_ENDED = frozenset({"succeeded", "failed", "canceled"})


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
