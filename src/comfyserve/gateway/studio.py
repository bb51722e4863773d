"""Where pictures are worked on: a few threads, and Pillow once somebody needs it.

Most servers hand files out as they are, and do without the three megabytes that Pillow takes.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cache, partial
from typing import BinaryIO, ParamSpec, TypeVar

# Decoding is heavy in memory, so few at a time; it never takes the threads that serve files.
_WORKERS = 2

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Picture:
    """An encoded picture."""

    body: bytes
    content_type: str


@dataclass(frozen=True, slots=True)
class Rendering:
    """What `/view` asks for beside the file itself; `preview` is `FORMAT[;QUALITY]`."""

    preview: str | None
    channel: str

    @property
    def is_plain(self) -> bool:
        """Whether the file is sent as it is."""
        return self.preview is None and self.channel not in {"rgb", "a"}


async def in_studio(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run work on pictures in one of the few threads for it."""
    loop = asyncio.get_running_loop()
    return await loop.run_in_executor(_studio(), partial(function, *args, **kwargs))


def render(file: BinaryIO, rendering: Rendering) -> Picture:
    """Encode a picture as asked. Raises InvalidInput for what is no picture, PayloadTooLarge. Blocks."""
    from comfyserve.gateway import pictures  # noqa: PLC0415 - imports Pillow

    return pictures.render(file, rendering)


def compose_mask(original: BinaryIO, mask: BinaryIO, name: str) -> bytes:
    """Put the mask's alpha on the original; see `pictures.compose_mask`. Blocks."""
    from comfyserve.gateway import pictures  # noqa: PLC0415 - imports Pillow

    return pictures.compose_mask(original, mask, name)


@cache
def _studio() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(_WORKERS, thread_name_prefix="pictures")
