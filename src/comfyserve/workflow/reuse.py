"""Whether a prompt gives the same outputs each time: then stored ones may be given in its place.

ComfyUI's classes can declare that they change (`IS_CHANGED`), but `/object_info` does not tell. So
the rule is conservative. A prompt is repeatable only if every node that it needs is a class of
ComfyUI itself (by the module that the catalog names) which is not known to look at anything but its
inputs; is not experimental, and calls no paid service; and every file that it loads is named by
its content. Classes of custom node packs are never trusted.
"""

from collections.abc import Collection, Mapping
from typing import Any

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.input_files import upload_kind
from comfyserve.workflow.prompt_nodes import Nodes, Place

_CORE = ("nodes", "comfy_extras.")
# They read cameras, microphones, folders or files beside their inputs, or store nothing.
_CHANGING = frozenset(
    {
        "LoadImageOutput",
        "LoadLatent",
        "Load3D",
        "Load3DAnimation",
        "Preview3D",
        "RecordAudio",
        "SaveImageWebsocket",
        "WebcamCapture",
    }
)
_SUSPECT = ("Folder", "Dataset", "Random", "Webcam", "Websocket", "Training")
_HARMLESS = frozenset({"RandomNoise"})
"""Its name tells of chance, its seed is an input."""


def why_not_repeatable(
    prompt: Mapping[str, Any],
    outputs: Collection[str],
    catalog: NodeCatalog,
    named_by_content: Collection[Place],
) -> str | None:
    """Say why a prompt may give something else the next time; None where it does not."""
    nodes = Nodes(prompt, catalog)
    for node_id in sorted(nodes.upstream(outputs)):
        node_class = nodes.class_of(node_id)
        name = "" if node_class is None else node_class.name
        entry = catalog.entries.get(name, {})
        module = str(entry.get("python_module") or "")
        if not (module == _CORE[0] or module.startswith(_CORE[1])):
            return f"'{name}' is no class of ComfyUI itself, and does not say whether it changes"
        if entry.get("api_node") or entry.get("experimental"):
            return f"'{name}' is experimental, or calls a service"
        is_suspect = name not in _HARMLESS and any(part in name for part in _SUSPECT)
        if name in _CHANGING or is_suspect:
            return f"'{name}' looks at more than its inputs"
        for place, spec in nodes.values(node_id):
            if upload_kind(spec) is not None and place not in named_by_content:
                return f"'{name}' loads a file that may change: give the file with the call"
    return None
