"""The GPUs of this host: which there are, which are seen, and what they are called."""

import asyncio
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass

import msgspec

ANY = "any"
_ANSWER_TIMEOUT_S = 30.0

_GIB = 1024**3
# One product name, two memory sizes: which one it is decides whether a model fits.
_SOLD_IN_SIZES = {"A100": (40, 80), "A800": (40, 80), "V100": (16, 32)}
_NOT_THE_TYPE = re.compile(
    r"\b(NVIDIA|TESLA|GEFORCE|QUADRO|GRAPHICS|DEVICE|GPU|GENERATION|BLACKWELL|SERVER|WORKSTATION|EDITION"
    r"|SXM\d?|PCIE|NVL|HBM\d?E?|\d+ ?GB)\b"
)


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `type` is the short name that deployments ask for, `name` the driver's own.

    `memory_bytes` is 0 where the driver does not say (memory shared with the CPU).
    """

    index: int
    uuid: str
    type: str
    name: str
    memory_bytes: int


@dataclass(frozen=True, slots=True)
class Inventory:
    """The GPUs of this host; `problem` says why there may be fewer than expected."""

    gpus: tuple[Gpu, ...] = ()
    problem: str = ""


async def ask_inventory() -> Inventory:
    """Ask the driver what there is. Never fails: no driver means no GPU. Takes up to a second.

    A process of its own does it: the driver's library stays out of this one, with its memory and
    its ways to fail.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "comfyserve.runtime.nvml",
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    try:
        async with asyncio.timeout(_ANSWER_TIMEOUT_S):
            out, complaint = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Inventory(problem=f"the driver did not answer within {_ANSWER_TIMEOUT_S:g} s")
    try:
        return msgspec.json.decode(out, type=Inventory)
    except msgspec.DecodeError:
        last = complaint.decode("utf-8", "replace").strip().splitlines()[-1:]
        return Inventory(problem=last[0] if last else "the driver gave no answer")


def visible(gpus: Sequence[Gpu], setting: str | None) -> tuple[Gpu, ...]:
    """Keep what `setting` (a CUDA_VISIBLE_DEVICES: indices or UUID prefixes) lets through.

    None keeps all. As CUDA does, what follows an entry that names no GPU is ignored.
    """
    if setting is None:
        return tuple(gpus)
    kept: list[Gpu] = []
    for entry in (part.strip() for part in setting.split(",")):
        named = [gpu for gpu in gpus if _is_named(gpu, entry)]
        if len(named) != 1:
            break
        kept += named
    return tuple(kept)


def short_type(name: str, memory_bytes: int) -> str:
    """Return the short type of a product name: H100, A100-80, L40S, RTX4090, A6000."""
    words = _NOT_THE_TYPE.sub(" ", name.upper().replace("-", " ")).split()
    if len(words) > 1 and words[0] == "RTX" and words[1].startswith("A"):
        del words[0]  # RTX A6000 is known as A6000; RTX 6000 is another card
    short = "".join(words) or "GPU"
    if sizes := _SOLD_IN_SIZES.get(short):
        return f"{short}-{min(sizes, key=lambda size: abs(size - memory_bytes / _GIB))}"
    return short


def is_type(gpu: Gpu, wanted: str | None) -> bool:
    """Tell whether a GPU is of a wanted type: None or `any` takes all, A100 takes A100-80."""
    if wanted is None or wanted.lower() == ANY:
        return True
    canonical = re.sub(r"[\s_]", "", wanted.upper()).removesuffix("GB")
    return gpu.type == canonical or gpu.type.startswith(f"{canonical}-")


def _is_named(gpu: Gpu, entry: str) -> bool:
    return entry == str(gpu.index) or (entry.startswith("GPU-") and gpu.uuid.startswith(entry))
