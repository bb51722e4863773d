"""The embedded engine's sleeping node for a real ComfyUI, so that it can be busy without using the CPU."""

import time
from typing import Any

import torch


class TestingSleep:
    """Waits, then gives a small picture."""

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "sleep"
    CATEGORY = "comfyserve/testing"

    @classmethod
    def INPUT_TYPES(cls) -> dict[str, Any]:  # noqa: N802 - ComfyUI's name
        """What ComfyUI asks for; `steps` and `previews` are taken and not used."""
        return {
            "required": {
                "seconds": ("FLOAT", {"default": 1.0, "min": 0.0, "max": 3600.0}),
                "steps": ("INT", {"default": 1, "min": 1, "max": 100_000}),
                "previews": ("BOOLEAN", {"default": False}),
                "tag": ("STRING", {"default": ""}),
            }
        }

    def sleep(self, seconds: float, **_: object) -> tuple[torch.Tensor]:
        """Sleep."""
        time.sleep(seconds)
        return (torch.zeros(1, 16, 16, 3),)


NODE_CLASS_MAPPINGS = {"TestingSleep": TestingSleep}
