"""A catalog with samplers and primitives, and workflows in both formats, for the tests of interface and requirements."""

from typing import Any

from tests.unit.workflow.catalogs import INFO, entry, v3_entry

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.interface import (
    Interface,
    interface,
)

_SEED = ["INT", {"default": 0, "min": 0, "max": 2**64 - 1, "control_after_generate": True}]
_TEXT = ["STRING", {"multiline": True, "tooltip": "What to show."}]
_CONDITIONING = ["CONDITIONING", {}]
MORE: dict[str, Any] = {
    "CLIPTextEncode": entry({"text": _TEXT, "clip": ["CLIP"]}, output=["CONDITIONING"]),
    "ConditioningZeroOut": entry({"conditioning": _CONDITIONING}, output=["CONDITIONING"]),
    "ControlNetApply": entry(
        {"positive": _CONDITIONING, "negative": _CONDITIONING, "strength": ["FLOAT", {}]},
        output=["CONDITIONING", "CONDITIONING"],
    ),
    "EmptyLatentImage": entry(
        {"width": ["INT", {"min": 16, "max": 8192, "step": 8}], "height": ["INT", {"min": 16}]},
        output=["LATENT"],
    ),
    "KSampler": entry(
        {
            "model": ["MODEL"],
            "positive": _CONDITIONING,
            "negative": _CONDITIONING,
            "latent_image": ["LATENT"],
            "seed": _SEED,
            "steps": ["INT", {"min": 1, "max": 100}],
            "cfg": ["FLOAT", {"min": 0.0, "max": 100.0, "step": 0.1}],
            "denoise": ["FLOAT", {"min": 0.0, "max": 1.0}],
        },
        output=["LATENT"],
        display_name="KSampler",
    ),
    "VAEDecode": entry({"samples": ["LATENT"], "vae": ["VAE"]}, output=["IMAGE"]),
    "PrimitiveInt": entry({"value": _SEED}, output=["INT"], display_name="Int"),
    "PrimitiveText": entry({"value": _TEXT}, output=["STRING"], display_name="Text"),
    "Concat": entry({"a": _TEXT, "b": _TEXT}, output=["STRING"]),
    "ApiImage": v3_entry(
        required={"prompt": _TEXT, "negative_prompt": _TEXT, "expression": _TEXT},
        output=["IMAGE"],
    ),
    "PreviewImage": entry({"images": ["IMAGE"]}, is_output=True),
    "SaveVideo": entry({"video": ["VIDEO"]}, is_output=True),
    "LoadVideo": entry(
        {"file": ["COMBO", {"video_upload": True, "options": ["a.mp4"]}]}, output=["VIDEO"]
    ),
    "External": entry(
        {"input_id": ["STRING"], "default_value": ["STRING"], "display_name": ["STRING"]},
        output=["STRING"],
    ),
}


def catalog() -> NodeCatalog:
    return NodeCatalog.from_object_info({**INFO, **MORE}, version="0.26.0")


def node(class_type: str, title: str = "", **inputs: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"class_type": class_type, "inputs": inputs}
    return {**made, "_meta": {"title": title}} if title else made


def text_to_image(**changes: Any) -> dict[str, Any]:
    prompt = {
        "3": node(
            "KSampler",
            model=["4", 0],
            positive=["6", 0],
            negative=["7", 0],
            latent_image=["5", 0],
            seed=5,
            steps=20,
            cfg=8.0,
            denoise=1.0,
        ),
        "4": node("CheckpointLoaderSimple", ckpt_name="dreamshaper_8.safetensors"),
        "5": node("EmptyLatentImage", width=512, height=768),
        "6": node("CLIPTextEncode", text="a cat", clip=["4", 1]),
        "7": node("CLIPTextEncode", text="bad", clip=["4", 1]),
        "8": node("VAEDecode", samples=["3", 0], vae=["4", 2]),
        "9": node("SaveImage", images=["8", 0], filename_prefix="x"),
    }
    return {**prompt, **changes}


def found(prompt: Any) -> Interface:
    return interface(prompt, catalog())


def names(prompt: Any) -> list[str]:
    return [each.name for each in found(prompt).inputs]


def ui(nodes: list[dict[str, Any]], links: list[Any], **more: Any) -> dict[str, Any]:
    return {"nodes": nodes, "links": links, "version": 0.4, **more}


def ui_node(
    node_id: Any, kind: str, values: Any = None, inputs: Any = (), **more: Any
) -> dict[str, Any]:
    made = {"id": node_id, "type": kind, "inputs": list(inputs), "outputs": [], "mode": 0}
    return {**made, "widgets_values": values or [], **more}


def slot(name: str, link: int | None, kind: str = "IMAGE") -> dict[str, Any]:
    return {"name": name, "type": kind, "link": link}
