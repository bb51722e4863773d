"""What can be given again: the rule is conservative, and says why not."""

from typing import Any

import pytest
from tests.unit.workflow.catalogs import entry

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.prompt_nodes import Place
from comfyserve.workflow.reuse import why_not_repeatable

UPLOAD = [["a.png"], {"image_upload": True}]
CATALOG = NodeCatalog.from_object_info(
    {
        "LoadImage": entry({"image": UPLOAD}, output=["IMAGE"]),
        "Paint": entry(output=["IMAGE"], python_module="comfy_extras.nodes_images"),
        "Custom": entry(output=["IMAGE"], python_module="custom_nodes.pack"),
        "Unknown": entry(output=["IMAGE"], python_module=None),
        "Paid": entry(output=["IMAGE"], api_node=True),
        "New": entry(output=["IMAGE"], experimental=True),
        "WebcamCapture": entry(output=["IMAGE"]),
        "LoadImageSetFromFolderNode": entry(output=["IMAGE"]),
        "RandomNoise": entry(output=["IMAGE"]),
        "SaveImage": entry({"images": ["IMAGE"]}, is_output=True),
    }
)


def saving(class_type: str, **inputs: Any) -> dict[str, Any]:
    return {
        "1": {"class_type": class_type, "inputs": inputs},
        "2": {"class_type": "SaveImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "Custom", "inputs": {}},
    }


@pytest.mark.parametrize("class_type", ["Paint", "RandomNoise"])
def test_classes_of_comfyui_itself_are_repeatable_whatever_else_lies_beside_them(
    class_type: str,
) -> None:
    assert why_not_repeatable(saving(class_type), ["2"], CATALOG, ()) is None


@pytest.mark.parametrize(
    ("class_type", "why"),
    [
        ("Custom", "no class of ComfyUI itself"),
        ("Unknown", "no class of ComfyUI itself"),
        ("Absent", "no class of ComfyUI itself"),
        ("Paid", "calls a service"),
        ("New", "experimental"),
        ("WebcamCapture", "more than its inputs"),
        ("LoadImageSetFromFolderNode", "more than its inputs"),
    ],
)
def test_anything_that_may_change_is_not(class_type: str, why: str) -> None:
    told = why_not_repeatable(saving(class_type), ["2"], CATALOG, ())
    assert told is not None
    assert why in told


def test_a_loaded_file_has_to_be_named_by_its_content() -> None:
    prompt = saving("LoadImage", image="a.png")
    assert why_not_repeatable(prompt, ["2"], CATALOG, ()) is not None
    assert why_not_repeatable(prompt, ["2"], CATALOG, [Place("1", "image")]) is None
