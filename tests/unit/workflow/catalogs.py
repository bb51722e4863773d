"""A small hand-made catalog in the shape of `/object_info`, with one of each kind of input."""

from collections.abc import Collection
from typing import Any

from comfyserve.workflow.catalog import NodeCatalog


def entry(
    required: dict[str, Any] | None = None,
    *,
    optional: dict[str, Any] | None = None,
    output: list[Any] | None = None,
    is_output: bool = False,
    **more: Any,
) -> dict[str, Any]:
    """Return one entry of `/object_info`."""
    sections = {"required": required or {}, "optional": optional or {}}
    return {
        "input": sections,
        "input_order": {name: list(section) for name, section in sections.items()},
        "output": output or [],
        "output_is_list": [False] * len(output or []),
        "output_name": output or [],
        "output_node": is_output,
        "python_module": "nodes",
        "description": "",
        **more,
    }


def v3_entry(**more: Any) -> dict[str, Any]:
    """Return an entry of a class of the schema API."""
    keys = {"deprecated": False, "experimental": False, "output_tooltips": None, "api_node": False}
    return {**entry(**more), **keys}


INT = ["INT", {"default": 20, "min": 1, "max": 100}]
RESIZE = [
    "COMFY_DYNAMICCOMBO_V3",
    {
        "options": [
            {"key": "by width", "inputs": {"required": {"width": INT}}},
            {
                "key": "by factor",
                "inputs": {
                    "required": {
                        "mode": [
                            "COMFY_DYNAMICCOMBO_V3",
                            {"options": [{"key": "x", "inputs": {"optional": {"deep": INT}}}]},
                        ]
                    },
                },
            },
        ]
    },
]
IMAGES = [
    "COMFY_AUTOGROW_V3",
    {
        "template": {
            "input": {"required": {"image": ["IMAGE", {}]}},
            "prefix": "image",
            "min": 1,
            "max": 4,
        }
    },
]
INFO: dict[str, Any] = {
    "EmptyImage": entry({"width": INT, "height": INT}, output=["IMAGE"], display_name="Empty"),
    "LoadImage": entry(
        {"image": [["cat.png", "dog.png"], {"image_upload": True}]}, output=["IMAGE", "MASK"]
    ),
    "LoadImageMask": entry(
        {"image": [["cat.png"], {"image_upload": True}], "channel": [["alpha", "red"]]},
        output=["MASK"],
    ),
    "ImageInvert": entry({"image": ["IMAGE"]}, output=["IMAGE"]),
    "LoadLatent": entry({"latent": [["a.latent"]]}, output=["LATENT"]),
    "ImageBlend": entry(
        {
            "image1": ["IMAGE"],
            "image2": ["IMAGE"],
            "factor": ["FLOAT", {"default": 0.5, "min": 0.0, "max": 1.0}],
            "mode": [["normal", "multiply", "screen"], {}],
        },
        output=["IMAGE"],
    ),
    "CheckpointLoaderSimple": entry(
        {"ckpt_name": [["sdxl/juggernaut_v9.safetensors", "dreamshaper_8.safetensors"]]},
        output=["MODEL", "CLIP", "VAE"],
    ),
    "Text": entry({"text": ["STRING", {"multiline": True}]}, output=["STRING"]),
    "Flag": entry({"flag": ["BOOLEAN", {}]}, output=["BOOLEAN"]),
    "Resize": v3_entry(
        required={"image": ["IMAGE", {}], "resize": RESIZE}, output=["IMAGE", "COMFY_MATCHTYPE_V3"]
    ),
    "Batch": v3_entry(required={"images": IMAGES}, output=["IMAGE"]),
    "Pick": v3_entry(
        required={"choice": ["COMBO", {"options": ["a", "b"], "multiselect": True}]},
        output=[["a", "b"], "*"],
    ),
    "SaveImage": entry(
        {"images": ["IMAGE", {}], "filename_prefix": ["STRING", {"default": "ComfyUI"}]},
        output=[],
        is_output=True,
    ),
    "PreviewAny": entry({"source": ["*", {}]}, is_output=True),
}


def catalog(
    version: str | None = "0.26.0",
    *,
    files: Collection[str] | None = None,
    **more: Any,
) -> NodeCatalog:
    """Return the small catalog, for one release, with `more` entries."""
    made = NodeCatalog.from_object_info({**INFO, **more}, version=version)
    return made if files is None else made.with_input_files(files)
