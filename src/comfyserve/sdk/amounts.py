"""Amounts as people write them: memory, cores, GPU types. PURE."""

import math
import re

from comfyserve.domain.errors import InvalidInput

_MEMORY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*")
_UNITS = {
    "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12,
    "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40,
}  # fmt: skip
_MIB = 2**20
_GPU = re.compile(r"[A-Z0-9][A-Z0-9 .+-]{0,39}")


def read_memory(memory: int | str) -> int:
    """Bytes in `"32Gi"`, `"32GB"`, or in a number, which counts MiB. Raises InvalidInput."""
    if isinstance(memory, int) and not isinstance(memory, bool):
        if memory > 0:
            return memory * _MIB
    elif isinstance(memory, str) and (found := _MEMORY.fullmatch(memory)):
        unit = found[2].lower().removesuffix("b")
        # As with a bare number, a text without a unit counts MiB.
        factor = _UNITS.get(unit) if found[2] else _MIB
        if factor is not None and (amount := int(float(found[1]) * factor)) > 0:
            return amount
    raise InvalidInput(
        f"memory {memory!r} cannot be read: write a number and a unit, such as '512Mi', '32Gi' or "
        "'32GB', or a whole number of MiB",
        code="invalid_memory",
    )


def read_cpu(cpu: float | str) -> float:
    """Cores in `12`, `0.5` or `"500m"`. Raises InvalidInput."""
    try:
        text = str(cpu).strip()
        cores = float(text[:-1]) / 1000 if text.endswith("m") else float(text)
    except ValueError:
        cores = 0.0
    if isinstance(cpu, bool) or not 0 < cores < math.inf:
        raise InvalidInput(
            f"cpu {cpu!r} cannot be read: write a number of cores, such as 12, 0.5 or '500m'",
            code="invalid_cpu",
        )
    return cores


def read_gpu(gpu: str) -> str:
    """The short name of a GPU type, as the server knows it: `a100-80gb` is `A100-80`.

    Whether a host has one is the server's to say. Raises InvalidInput.
    """
    text = str(gpu).strip().upper()
    if text == "ANY":
        return "any"
    text = re.sub(r"^(NVIDIA|TESLA|GEFORCE|QUADRO)[ -]+", "", text)
    text = re.sub(r"(?<=\d)\s?GB$", "", text)
    if not _GPU.fullmatch(text):
        raise InvalidInput(
            f"gpu {gpu!r} cannot be read: write a type, such as 'L40S', 'A100-80' or 'any'",
            code="invalid_gpu",
        )
    return text


def read_count(what: str, value: object, *, least: int) -> int:
    """A whole number of at least `least`. Raises InvalidInput."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= least:
        return value
    raise InvalidInput(f"{what} {value!r} must be a whole number, {least} or more")


def read_seconds(what: str, value: object) -> float:
    """A duration. Raises InvalidInput."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and 0 <= (seconds := float(str(value))) < math.inf:
        return seconds
    raise InvalidInput(f"{what} {value!r} must be a number of seconds, 0 or more")
