"""The prompts that are submitted: nodes that both engines have, unless their names say otherwise."""

from collections.abc import Mapping
from typing import Any

Prompt = Mapping[str, Any]


def photo(seed: int, side: int = 1024) -> Prompt:
    """A job of honest size: the work of the demo's nodes on one picture of `side` pixels, never cached."""
    scaled = side * 3 // 4
    return {
        "1": _node("EmptyImage", width=side, height=side, batch_size=1, color=seed % 0xFFFFFF),
        "2": _node("ImageScale", image=["1", 0], upscale_method="bicubic", width=scaled,
                   height=scaled, crop="disabled"),
        "3": _node("ImageBlur", image=["2", 0], blur_radius=4, sigma=1.5),
        "4": _node("ImageBlend", image1=["2", 0], image2=["3", 0], blend_factor=0.5,
                   blend_mode="normal"),
        "5": _node("ImageSharpen", image=["4", 0], sharpen_radius=1, sigma=1.0, alpha=1.0),
        "6": _node("ImageInvert", image=["5", 0]),
        "7": _node("SaveImage", images=["6", 0], filename_prefix="bench"),
    }  # fmt: skip


def tiny(seed: int) -> Prompt:
    """The smallest job that runs."""
    return {
        "1": _node("EmptyImage", width=16, height=16, batch_size=1, color=seed % 0xFFFFFF),
        "2": _node("SaveImage", images=["1", 0], filename_prefix="tiny"),
    }


def chain(seed: int, nodes: int) -> Prompt:
    """A prompt of so many nodes, one after the other."""
    prompt = {"1": _node("EmptyImage", width=16, height=16, batch_size=1, color=seed % 0xFFFFFF)}
    for number in range(2, nodes):
        source = [str(number - 1), 0]
        prompt[str(number)] = _node("ImageBlur", image=source, blur_radius=4, sigma=1.5)
    source = [str(nodes - 1), 0]
    return {**prompt, str(nodes): _node("SaveImage", images=source, filename_prefix="chain")}


def sleeping(seed: int, seconds: float, *, steps: int = 1) -> Prompt:
    """A job that only waits; the embedded engine's can be interrupted between steps."""
    return {
        "1": _node("TestingSleep", seconds=seconds, steps=steps, previews=False, tag=str(seed)),
        "2": _node("PreviewImage", images=["1", 0]),
    }


def _node(class_type: str, **inputs: Any) -> dict[str, Any]:  # noqa: ANN401 - any input
    return {"class_type": class_type, "inputs": inputs}
