"""Classes that are gone, rewritten to their successors: what ComfyUI (0.14 and later) does before it validates."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.problems import Code, Problem


class Malformed(Exception):
    """The prompt is so odd that ComfyUI answers 500."""

    def __init__(self, problem: Problem) -> None:
        """Keep what to say instead."""
        super().__init__(problem.message)
        self.problem = problem


@dataclass(frozen=True, slots=True)
class _Successor:
    """How a node of a class that is gone reads now."""

    class_type: str
    moved: Mapping[str, str]
    """New input name -> old input name."""
    fixed: Mapping[str, Any]
    """Inputs that the old class did not have."""
    slots: Mapping[int, int]
    """Old output slot -> new output slot."""


# What ComfyUI registers itself; `/node_replacements` of a server may list more.
_BUILT_IN: Mapping[str, _Successor] = {
    "ResizeImagesByLongerEdge": _Successor(
        "ImageScaleToMaxDimension",
        {"image": "images", "largest_size": "longer_edge"},
        {"upscale_method": "lanczos"},
        {},
    ),
    "ImageBatch": _Successor(
        "BatchImagesNode", {"images.image0": "image1", "images.image1": "image2"}, {}, {}
    ),
    "ImageScaleBy": _Successor(
        "ResizeImageMaskNode",
        {"input": "image", "resize_type.multiplier": "scale_by", "scale_method": "upscale_method"},
        {"resize_type": "scale by multiplier"},
        {},
    ),
    "T2IAdapterLoader": _Successor(
        "ControlNetLoader", {"control_net_name": "t2i_adapter_name"}, {}, {}
    ),
    "Load3DAnimation": _Successor("Load3D", {}, {}, {}),
    "Preview3DAnimation": _Successor("Preview3D", {}, {}, {}),
    "SDV_img2vid_Conditioning": _Successor("SVD_img2vid_Conditioning", {}, {}, {}),
    "ConditioningAverage ": _Successor("ConditioningAverage", {}, {}, {}),
}


def replace_classes(prompt: object, catalog: NodeCatalog) -> Mapping[str, Any]:
    """Return the prompt with the classes replaced; raises `Malformed` where ComfyUI falls over."""
    if not isinstance(prompt, dict):
        raise Malformed(not_an_object(prompt))
    gone = [node_id for node_id, node in prompt.items() if _is_gone(node_id, node, catalog)]
    if not gone:
        return prompt
    replaced = dict(prompt)
    slots: dict[str, Mapping[int, int]] = {}
    for node_id in gone:
        successor = _successor(prompt[node_id]["class_type"], catalog)
        if successor is not None and successor.class_type in catalog:
            replaced[node_id] = _rewritten(node_id, prompt[node_id], successor)
            slots[node_id] = successor.slots
    if any(slots.values()):
        for node_id, node in replaced.items():
            replaced[node_id] = _relinked(node, slots)
    return replaced


def not_an_object(prompt: object) -> Problem:
    """Say that a prompt is no object at all."""
    kind = type(prompt).__name__
    return Problem(
        Code.PROMPT_NOT_AN_OBJECT,
        "The prompt is not a JSON object",
        details=f"got {kind}",
        given=prompt,
        allowed="an object with a node per id",
        hint='Send {"prompt": {"1": {"class_type": ..., "inputs": {...}}, ...}}.',
    )


def malformed_node(node_id: object, code: Code, what: str, hint: str) -> Malformed:
    """Say that a node has the wrong shape."""
    return Malformed(
        Problem(
            code,
            f"Node '{node_id}': {what}",
            details=f"Node ID '#{node_id}'",
            extra_info={"node_id": str(node_id)},
            node_id=str(node_id),
            hint=hint,
        )
    )


def node_not_an_object(node_id: object, node: object) -> Malformed:
    """Say that a node is something else than an object."""
    return malformed_node(
        node_id,
        Code.NODE_NOT_AN_OBJECT,
        f"not a JSON object but {type(node).__name__}",
        'Write each node as {"class_type": ..., "inputs": {...}}.',
    )


def _is_gone(node_id: object, node: object, catalog: NodeCatalog) -> bool:
    """Whether the class of a node is unknown; refuses nodes of the wrong shape."""
    if not isinstance(node, dict):
        # ComfyUI looks for the names in a text or a list as it would in an object.
        if isinstance(node, str | list) and not ("class_type" in node and "inputs" in node):
            return False
        raise node_not_an_object(node_id, node)
    if "class_type" not in node or "inputs" not in node:
        return False
    check_class_type(node_id, node["class_type"])
    if not isinstance(node["inputs"], dict):
        raise malformed_node(
            node_id,
            Code.INPUTS_NOT_AN_OBJECT,
            f"its inputs are not a JSON object but {type(node['inputs']).__name__}",
            "Write the inputs as an object: a value or a link per input name.",
        )
    return node["class_type"] not in catalog


def check_class_type(node_id: object, class_type: object) -> None:
    """Refuse a class type that cannot even be looked up."""
    if isinstance(class_type, dict | list):
        raise malformed_node(
            node_id,
            Code.CLASS_TYPE_NOT_A_NAME,
            f"its class_type is not a name but {type(class_type).__name__}",
            'Write the name of a node class: "class_type": "KSampler".',
        )


def _successor(class_type: object, catalog: NodeCatalog) -> _Successor | None:
    if not isinstance(class_type, str):
        return None
    if catalog.replacements is None:
        return _BUILT_IN.get(class_type)
    listed = catalog.replacements.get(class_type)
    first = listed[0] if isinstance(listed, list) and listed else None
    return _read(first) if isinstance(first, dict) else None


def _read(entry: Mapping[str, Any]) -> _Successor | None:
    """Read one rule of `/node_replacements`."""
    class_type = entry.get("new_node_id")
    if not isinstance(class_type, str):
        return None
    inputs = [each for each in entry.get("input_mapping") or () if isinstance(each, dict)]
    outputs = [each for each in entry.get("output_mapping") or () if isinstance(each, dict)]
    return _Successor(
        class_type,
        {each["new_id"]: each["old_id"] for each in inputs if "old_id" in each},
        {each["new_id"]: each["set_value"] for each in inputs if "set_value" in each},
        {each["old_idx"]: each["new_idx"] for each in outputs},
    )


def _rewritten(node_id: str, node: Mapping[str, Any], successor: _Successor) -> dict[str, Any]:
    old = node["inputs"]
    lost = [name for name in successor.moved.values() if name not in old]
    if lost or not isinstance(node.get("_meta"), dict | list):
        lacking = f"input '{lost[0]}'" if lost else "_meta"
        raise malformed_node(
            node_id,
            Code.REPLACEMENT_FAILED,
            f"class {node['class_type']} became {successor.class_type}, "
            f"and the node lacks {lacking} to be rewritten",
            f"Use {successor.class_type} in the workflow, or add {lacking} to the node.",
        )
    moved = {new: old[name] for new, name in successor.moved.items()}
    return {**node, "class_type": successor.class_type, "inputs": {**moved, **successor.fixed}}


def _relinked(node: Mapping[str, Any], slots: Mapping[str, Mapping[int, int]]) -> Mapping[str, Any]:
    """Return the node with its links to replaced nodes pointing at the new slots."""
    inputs = node.get("inputs")
    if not isinstance(inputs, dict):
        return node
    moved = {
        name: [value[0], slots[value[0]][value[1]]]
        for name, value in inputs.items()
        if isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and isinstance(value[1], int)
        and value[1] in slots.get(value[0], ())
    }
    return {**node, "inputs": {**inputs, **moved}} if moved else node
