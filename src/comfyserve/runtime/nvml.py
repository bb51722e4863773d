"""What NVIDIA's management library (NVML) says of this host: `python -m comfyserve.runtime.nvml`."""

import sys
from typing import Protocol

import msgspec
import pynvml

from comfyserve.runtime.gpus import Gpu, Inventory, short_type


class Memory(Protocol):
    """NVML's answer about memory, in bytes."""

    total: int


class Nvml(Protocol):
    """What is used of the module `pynvml`."""

    def nvmlInit(self) -> None: ...  # noqa: N802 - NVML's own name, as below
    def nvmlShutdown(self) -> None: ...  # noqa: N802
    def nvmlDeviceGetCount(self) -> int: ...  # noqa: N802
    def nvmlDeviceGetHandleByIndex(self, index: int) -> object: ...  # noqa: N802
    def nvmlDeviceGetUUID(self, handle: object) -> str: ...  # noqa: N802
    def nvmlDeviceGetName(self, handle: object) -> str: ...  # noqa: N802
    def nvmlDeviceGetMemoryInfo(self, handle: object) -> Memory: ...  # noqa: N802


def read_inventory(nvml: Nvml = pynvml) -> Inventory:
    """Ask the driver what there is. Never fails: no driver means no GPU. Takes up to a second."""
    try:
        nvml.nvmlInit()
    except pynvml.NVMLError as error:
        return Inventory(problem=str(error))
    try:
        return _read(nvml)
    except pynvml.NVMLError as error:
        return Inventory(problem=str(error))
    finally:
        nvml.nvmlShutdown()


def _read(nvml: Nvml) -> Inventory:
    gpus: list[Gpu] = []
    problems: list[str] = []
    for index in range(nvml.nvmlDeviceGetCount()):
        try:
            gpus.append(_read_one(nvml, index))
        except pynvml.NVMLError as error:
            problems.append(f"GPU {index}: {error}")  # one that fell off the bus
    return Inventory(tuple(gpus), "; ".join(problems))


def _read_one(nvml: Nvml, index: int) -> Gpu:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    uuid, name = nvml.nvmlDeviceGetUUID(handle), nvml.nvmlDeviceGetName(handle)
    try:
        memory_bytes = int(nvml.nvmlDeviceGetMemoryInfo(handle).total)
    except pynvml.NVMLError_NotSupported:
        memory_bytes = 0
    return Gpu(index, uuid, short_type(name, memory_bytes), name, memory_bytes)


if __name__ == "__main__":
    sys.stdout.buffer.write(msgspec.json.encode(read_inventory()))
