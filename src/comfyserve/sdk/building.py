"""Images on their way to a server: built before what needs them is deployed."""

import json
import tempfile
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING
from urllib.parse import quote

from comfyserve.sdk.errors import ServerFailed
from comfyserve.sdk.lines import lines_of
from comfyserve.sdk.talk import say

if TYPE_CHECKING:
    from comfyserve.sdk.client import Client
    from comfyserve.sdk.image import Image

_CHUNK_BYTES = 1 << 20
_SHOWN_LINES = 40


def built(client: "Client", image: "Image | None") -> str | None:
    """The digest of an image that is built on the server; None where none is asked for.

    Its log is shown while it is built. Raises ServerFailed with the end of it.
    """
    if image is None:
        return None
    compiled = image.compile()
    for archive in compiled.archives.values():
        with tempfile.TemporaryFile() as file:
            archive.write_to(file)
            file.seek(0)
            client.upload_source(_pieces(file))
    build = client.post("/builds", json.dumps(compiled.spec.to_json()).encode())
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


_ENDED = frozenset({"succeeded", "failed", "canceled"})


def _pieces(file: IO[bytes]) -> Iterator[bytes]:
    while chunk := file.read(_CHUNK_BYTES):
        yield chunk
