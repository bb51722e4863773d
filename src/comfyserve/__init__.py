"""ComfyUI as an HTTPS API on GPUs that you own or rent, awake only while there is work."""

# Not from `typing`: the shim beside each replica imports this package, and nothing that is slow.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from comfyserve.sdk import App as App
    from comfyserve.sdk import ComfyUI as ComfyUI
    from comfyserve.sdk import Image as Image
    from comfyserve.sdk import Output as Output
    from comfyserve.sdk import Pod as Pod
    from comfyserve.sdk import PodInstance as PodInstance
    from comfyserve.sdk import Secret as Secret
    from comfyserve.sdk import Volume as Volume
    from comfyserve.sdk import asgi as asgi
    from comfyserve.sdk import context as context
    from comfyserve.sdk import start_comfyui as start_comfyui

__version__ = "0.1.0"


def __getattr__(name: str) -> object:
    """The names of the SDK, loaded when they are first used."""
    from importlib import import_module  # noqa: PLC0415 - see above

    sdk = import_module("comfyserve.sdk")
    if name in sdk.EXPORTS:
        return getattr(sdk, name)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
