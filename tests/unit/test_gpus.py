"""The GPU inventory, and who holds what of it."""

from dataclasses import dataclass, field

import pynvml
import pytest

from comfyserve.runtime.gpus import (
    Gpu,
    Inventory,
    ask_inventory,
    is_type,
    short_type,
    visible,
)
from comfyserve.runtime.launchers.base import LaunchSpec, PendingReason
from comfyserve.runtime.launchers.local_gpus import GpuLedger, NoRoom
from comfyserve.runtime.nvml import read_inventory

GIB = 1024**3


@dataclass
class FakeMemory:
    total: int


@dataclass
class FakeNvml:
    """A driver with some GPUs: name and GiB; None is one that has failed, 0 GiB one that is mute."""

    cards: list[tuple[str, float] | None] = field(default_factory=list)
    shutdowns: int = 0

    def nvmlInit(self) -> None: ...  # noqa: N802

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.shutdowns += 1

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return len(self.cards)

    def nvmlDeviceGetHandleByIndex(self, index: int) -> object:  # noqa: N802
        if self.cards[index] is None:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return index

    def nvmlDeviceGetUUID(self, handle: object) -> str:  # noqa: N802
        return f"GPU-{handle}"

    def nvmlDeviceGetName(self, handle: object) -> str:  # noqa: N802
        return self._card(handle)[0]

    def nvmlDeviceGetMemoryInfo(self, handle: object) -> FakeMemory:  # noqa: N802
        if self._card(handle)[1] == 0:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return FakeMemory(int(self._card(handle)[1] * GIB))

    def _card(self, handle: object) -> tuple[str, float]:
        assert isinstance(handle, int)
        card = self.cards[handle]
        assert card is not None
        return card


@pytest.mark.parametrize(
    ("name", "gib", "expected"),
    [
        ("NVIDIA H100 80GB HBM3", 79.6, "H100"),
        ("NVIDIA H100 PCIe", 79.6, "H100"),
        ("NVIDIA H100 NVL", 93.6, "H100"),
        ("NVIDIA H200", 140.4, "H200"),
        ("NVIDIA GH200 480GB", 94.5, "GH200"),
        ("NVIDIA B200", 178.4, "B200"),
        ("NVIDIA A100-SXM4-80GB", 79.3, "A100-80"),
        ("NVIDIA A100 80GB PCIe", 79.3, "A100-80"),
        ("NVIDIA A100-PCIE-40GB", 39.4, "A100-40"),
        ("A100-SXM4-40GB", 39.4, "A100-40"),
        ("Tesla V100-SXM2-16GB", 15.8, "V100-16"),
        ("Tesla V100-PCIE-32GB", 31.7, "V100-32"),
        ("Tesla T4", 14.6, "T4"),
        ("NVIDIA L4", 22.5, "L4"),
        ("NVIDIA L40S", 44.4, "L40S"),
        ("NVIDIA A10G", 22.3, "A10G"),
        ("NVIDIA GeForce RTX 4090", 24.0, "RTX4090"),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", 16.0, "RTX4070TISUPER"),
        ("NVIDIA GeForce RTX 3080 Laptop GPU", 16.0, "RTX3080LAPTOP"),
        ("NVIDIA GeForce GTX 1080 Ti", 11.0, "GTX1080TI"),
        ("NVIDIA RTX A6000", 47.5, "A6000"),
        ("NVIDIA RTX 6000 Ada Generation", 47.5, "RTX6000ADA"),
        ("NVIDIA RTX PRO 6000 Blackwell Server Edition", 95.0, "RTXPRO6000"),
        ("Quadro RTX 8000", 47.5, "RTX8000"),
        ("NVIDIA TITAN RTX", 23.6, "TITANRTX"),
        ("NVIDIA Graphics Device", 10.0, "GPU"),
    ],
)
def test_products_have_short_types(name: str, gib: float, expected: str) -> None:
    assert short_type(name, int(gib * GIB)) == expected


def test_the_inventory_is_what_the_driver_lists() -> None:
    nvml = FakeNvml([("NVIDIA L4", 22.5), ("NVIDIA A100-SXM4-40GB", 39.4)])
    inventory = read_inventory(nvml)
    assert inventory.problem == ""
    assert [(gpu.index, gpu.uuid, gpu.type) for gpu in inventory.gpus] == [
        (0, "GPU-0", "L4"),
        (1, "GPU-1", "A100-40"),
    ]
    assert inventory.gpus[0].memory_bytes == int(22.5 * GIB)
    assert nvml.shutdowns == 1


def test_a_failed_gpu_is_left_out_and_said() -> None:
    inventory = read_inventory(FakeNvml([("NVIDIA L4", 22.5), None, ("NVIDIA GB10", 0)]))
    assert [(gpu.index, gpu.type, gpu.memory_bytes > 0) for gpu in inventory.gpus] == [
        (0, "L4", True),
        (2, "GB10", False),
    ]
    assert inventory.problem.startswith("GPU 1: ")


def test_a_host_without_a_driver_has_no_gpu_and_says_why() -> None:
    class NoDriver(FakeNvml):
        def nvmlInit(self) -> None:  # noqa: N802
            raise pynvml.NVMLError(pynvml.NVML_ERROR_LIBRARY_NOT_FOUND)

    assert read_inventory(NoDriver()) == Inventory((), "NVML Shared Library Not Found")


def test_this_host_can_be_asked() -> None:
    inventory = read_inventory()
    assert inventory.gpus or inventory.problem or inventory == Inventory()


A100 = Gpu(0, "GPU-aa", "A100-80", "NVIDIA A100-SXM4-80GB", 80 * GIB)
L4 = Gpu(1, "GPU-ab", "L4", "NVIDIA L4", 23 * GIB)
RTX = Gpu(2, "GPU-bb", "RTX4090", "NVIDIA GeForce RTX 4090", 24 * GIB)


@pytest.mark.parametrize(
    ("wanted", "expected"),
    [
        (None, [A100, L4, RTX]),
        ("any", [A100, L4, RTX]),
        ("l4", [L4]),
        ("A100", [A100]),
        ("A100-80GB", [A100]),
        ("A100-40", []),
        ("A10", []),
        ("RTX 4090", [RTX]),
        ("rtx_4090", [RTX]),
        ("H100", []),
    ],
)
def test_a_wanted_type_finds_its_gpus(wanted: str | None, expected: list[Gpu]) -> None:
    assert [gpu for gpu in (A100, L4, RTX) if is_type(gpu, wanted)] == expected


@pytest.mark.parametrize(
    ("setting", "expected"),
    [
        (None, (A100, L4, RTX)),
        ("", ()),
        ("-1", ()),
        ("1", (L4,)),
        ("2, 0", (RTX, A100)),
        ("GPU-b", (RTX,)),
        ("GPU-a", ()),  # two could be meant
        ("1,9,0", (L4,)),
    ],
)
def test_what_is_visible_follows_the_setting(
    setting: str | None, expected: tuple[Gpu, ...]
) -> None:
    assert visible((A100, L4, RTX), setting) == expected


def test_a_ledger_gives_each_gpu_once() -> None:
    ledger = GpuLedger((A100, L4, RTX))
    any_two = LaunchSpec("rv", ("serve",), gpus=2)
    assert ledger.take("rp_a", any_two) == ("GPU-aa", "GPU-ab")
    refused = ledger.take("rp_b", any_two)
    assert isinstance(refused, NoRoom)
    assert refused.reason is PendingReason.NO_CAPACITY
    assert refused.message == "asked for 2 x any GPU; 1 of 3 free on this host"
    assert [row.free for row in ledger.capacity()] == [0, 0, 1]
    ledger.release("rp_a")
    assert ledger.take("rp_b", any_two) == ("GPU-aa", "GPU-ab")
    assert ledger.take("rp_c", LaunchSpec("rv", ("serve",))) == ()


def test_a_ledger_names_what_there_is() -> None:
    wish = LaunchSpec("rv", ("serve",), gpus=1, gpu_type="H100")
    for gpus, message in (
        ((A100, L4), "asked for 1 x H100; this host has 1 x A100-80, 1 x L4"),
        ((), "asked for 1 x H100; this host has no GPU"),
    ):
        refused = GpuLedger(gpus).take("rp_a", wish)
        assert isinstance(refused, NoRoom)
        assert (refused.reason, refused.message) == (PendingReason.INFEASIBLE, message)


async def test_the_server_asks_in_a_process_of_its_own() -> None:
    assert await ask_inventory() == read_inventory()
