"""What users import: declarations that are values, and a thin client of the control API.

Each name is loaded when it is first used, so that `import comfyserve` stays light.
"""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from comfyserve.sdk.app import App as App
    from comfyserve.sdk.app import asgi as asgi
    from comfyserve.sdk.comfy import ComfyUI as ComfyUI
    from comfyserve.sdk.comfy_process import start_comfyui as start_comfyui
    from comfyserve.sdk.image import Image as Image
    from comfyserve.sdk.output import Output as Output
    from comfyserve.sdk.pod import Pod as Pod
    from comfyserve.sdk.pod import PodInstance as PodInstance
    from comfyserve.sdk.request_context import context as context
    from comfyserve.sdk.secret import Secret as Secret
    from comfyserve.sdk.volume import Volume as Volume

EXPORTS = {
    "App": "app",
    "ComfyUI": "comfy",
    "Image": "image",
    "Pod": "pod",
    "Output": "output",
    "PodInstance": "pod",
    "Secret": "secret",
    "Volume": "volume",
    "asgi": "app",
    "start_comfyui": "comfy_process",
    "context": "request_context",
}
"""The public names, and the module of each."""


def __getattr__(name: str) -> object:
    module = EXPORTS.get(name)
    if module is None:
        raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
    return getattr(import_module(f"{__name__}.{module}"), name)


def __dir__() -> list[str]:
    return sorted(EXPORTS)
