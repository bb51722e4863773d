"""A custom node pack for the real ComfyUI: one class for each oddity that packs in the wild have."""

import importlib
import os
from typing import Any, TypeAlias

Json: TypeAlias = Any


class AnyType(str):
    """The usual way to take any type."""

    __slots__ = ()

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


CHOICES = ["a", "b", 3, 4.5, True, None]


def _node(
    required: dict[str, Json],
    *,
    optional: dict[str, Json] | None = None,
    returns: Json = ("STRING",),
    **members: Json,
) -> type:
    inputs = {"required": required, "optional": optional or {}}
    body = {
        "INPUT_TYPES": classmethod(lambda cls: inputs),
        "RETURN_TYPES": returns,
        "FUNCTION": "run",
        "CATEGORY": "odd",
        "run": lambda self, **given: ("",),
    }
    return type("Odd", (), {**body, **members})


def _one(cls: type, count: int, label: str = "x") -> Json:
    return True if count < 10 else f"count {count} is too large"


def _all(cls: type, /, **given: Json) -> Json:
    return "mode" not in given or given["mode"] != "bad"


def _types(cls: type, input_types: dict[str, Json], count: int) -> Json:
    return (
        True
        if input_types.get("thing") in (None, "STRING", "INT")
        else f"got {input_types['thing']}"
    )


def _images() -> list[str]:
    folder_paths = importlib.import_module("folder_paths")
    names = os.listdir(folder_paths.get_input_directory())
    return sorted(name for name in names if name.endswith((".png", ".jpg")))


_INT = ("INT", {"default": 1, "min": 0, "max": 100})

NODE_CLASS_MAPPINGS = {
    "OddAny": _node({"thing": (AnyType("*"),)}, returns=(AnyType("*"),)),
    "OddUnion": _node({"thing": ("INT,FLOAT", {"min": 0, "max": 9}), "other": ("A, STRING",)}),
    "OddChoices": _node({"pick": (CHOICES, {"default": "a"})}, returns=(CHOICES, "COMBO")),
    "OddPicked": _node({"pick": (CHOICES,), "combo": ("COMBO", {"options": ["a", "b"]})}),
    "OddBounds": _node({"text": ("STRING", {"min": "b"}), "flag": ("BOOLEAN", {"max": 0})}),
    "OddBare": _node({"count": ("INT",), "thing": ("THING",)}, optional={"count": ("FLOAT",)}),
    "OddMulti": _node(
        {"picks": ("COMBO", {"options": ["a", "b", "c"], "multiselect": True, "multi_select": {}})}
    ),
    "OddLong": _node({"pick": ([f"choice {at}" for at in range(30)],)}),
    "OddEmpty": _node({"pick": ([],), "combo": ("COMBO", {})}),
    "OddSink": _node(
        {"thing": (AnyType("*"),)}, optional={"count": _INT}, returns=(), OUTPUT_NODE=True
    ),
    "OddChecked": _node({"count": _INT, "pick": (["a", "b"],)}, VALIDATE_INPUTS=classmethod(_one)),
    "OddCheckedAll": _node({"count": _INT, "mode": (["good"],)}, VALIDATE_INPUTS=classmethod(_all)),
    "OddTyped": _node({"thing": ("STRING",), "count": _INT}, VALIDATE_INPUTS=classmethod(_types)),
    "OddUpload": _node({"image": (_images(), {"image_upload": True}), "count": _INT}),
}
