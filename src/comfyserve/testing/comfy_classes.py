"""The node classes of a fake engine, and prompts made of them."""

from collections.abc import Mapping
from typing import Any

OUTPUT_CLASSES = frozenset({"FakeSave"})


def _class(
    name: str, inputs: Mapping[str, Any], outputs: tuple[str, ...], *, is_output: bool = False
) -> dict[str, Any]:
    return {
        "input": {"required": inputs},
        "input_order": {"required": list(inputs)},
        "output": list(outputs),
        "output_is_list": [False for _ in outputs],
        "output_name": list(outputs),
        "name": name,
        "display_name": name,
        "description": "",
        "python_module": "nodes",
        "category": "fake",
        "output_node": is_output,
    }


OBJECT_INFO: Mapping[str, Any] = {
    "FakeLoad": _class("FakeLoad", {"name": ["STRING", {"default": ""}]}, ("MODEL",)),
    "FakeImage": _class("FakeImage", {"seed": ["INT", {"default": 0}]}, ("IMAGE",)),
    "FakeSave": _class("FakeSave", {"images": ["IMAGE"]}, (), is_output=True),
}


def a_prompt(seed: int = 0) -> dict[str, Any]:
    """A prompt that makes one picture; another seed makes another prompt."""
    return {
        "1": {"class_type": "FakeImage", "inputs": {"seed": seed}},
        "9": {"class_type": "FakeSave", "inputs": {"images": ["1", 0]}},
    }
