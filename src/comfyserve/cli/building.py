"""Have an image built and show how, for `build` and for `deploy --image`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from comfyserve.cli import render
from comfyserve.cli.build_follow import follow_build
from comfyserve.cli.image_file import read_image_file
from comfyserve.cli.units import duration_text, size_text
from comfyserve.sdk.building import submit
from comfyserve.sdk.client import connect
from comfyserve.sdk.errors import ServerFailed


@dataclass(frozen=True, slots=True)
class Wish:
    """Which image, and how it is to be built."""

    image: str
    no_cache: bool = False
    detach: bool = False
    quiet: bool = False


def build_now(wish: Wish, server: Mapping[str, str | None]) -> Mapping[str, Any]:
    """Build; return what the server says of it. `server`: its url and token.

    Raises ServerFailed with the end of the log of what failed.
    """
    compiled = read_image_file(wish.image)
    client = connect(server.get("url"), server.get("token"))
    asked = submit(client, compiled, is_fresh=wish.no_cache)
    if wish.detach:
        return asked
    path = f"/builds/{quote(str(asked['id']), safe='')}"
    built = follow_build(client.stream(f"{path}/events"), quiet=wish.quiet)
    if built.state != "succeeded":
        raise ServerFailed(
            f"the image was not built: {built.message or built.state}. `comfyserve build logs "
            f"{built.id}` shows all of its log",
            evidence=built.log_tail,
        )
    for warning in built.warnings:
        render.warn(warning)
    took = "" if built.duration_s is None else f" in {duration_text(built.duration_s)}"
    size = f", {size_text(built.size_bytes)}" if built.size_bytes else ""
    render.say(f"image {built.digest[:12]} is built{took}{size}", style="bold green")
    for name, seconds in sorted(built.import_times.items(), key=lambda pair: -pair[1]):
        render.say(f"  {duration_text(seconds)} to import {name}", style="dim")
    return client.get(path)
