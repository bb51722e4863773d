"""Which folder under `models` an input names files of.

`/object_info` lists the files and not their folder. The inputs of ComfyUI's own loaders are known by name, those
whose names say too little by class; an input of a custom node is told by the files that it lists, if a known
one lists the same, and else by words in its name.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.specs import InputSpec

ENDINGS = (
    *(".safetensors", ".sft", ".ckpt", ".pt", ".pth", ".bin", ".gguf", ".onnx", ".pkl", ".engine"),
)

_BY_NAME: Mapping[str, str] = {
    "ckpt_name": "checkpoints",
    "vae_name": "vae",
    "lora_name": "loras",
    "existing_lora": "loras",
    "clip_name": "text_encoders",
    "clip_name1": "text_encoders",
    "clip_name2": "text_encoders",
    "clip_name3": "text_encoders",
    "clip_name4": "text_encoders",
    "text_encoder": "text_encoders",
    "unet_name": "diffusion_models",
    "control_net_name": "controlnet",
    "style_model_name": "style_models",
    "gligen_name": "gligen",
    "hypernetwork_name": "hypernetworks",
    "photomaker_model_name": "photomaker",
    "audio_encoder_name": "audio_encoders",
    "bg_removal_name": "background_removal",
    "config_name": "configs",
}
_BY_CLASS: Mapping[tuple[str, str], str] = {
    ("CLIPVisionLoader", "clip_name"): "clip_vision",
    ("UpscaleModelLoader", "model_name"): "upscale_models",
    ("LatentUpscaleModelLoader", "model_name"): "latent_upscale_models",
    ("FrameInterpolationModelLoader", "model_name"): "frame_interpolation",
    ("OpticalFlowLoader", "model_name"): "optical_flow",
    ("LoadMoGeModel", "model_name"): "geometry_estimation",
    ("LoadDA3Model", "model_name"): "geometry_estimation",
    ("LoadMediaPipeFaceLandmarker", "model_name"): "detection",
    ("ModelPatchLoader", "name"): "model_patches",
}
# The first word found in the name of an input or class wins.
_BY_WORD = (
    ("lora", "loras"),
    ("clip_vision", "clip_vision"),
    ("clipvision", "clip_vision"),
    ("controlnet", "controlnet"),
    ("control_net", "controlnet"),
    ("ipadapter", "ipadapter"),
    ("upscale", "upscale_models"),
    ("ckpt", "checkpoints"),
    ("checkpoint", "checkpoints"),
    ("unet", "diffusion_models"),
    ("diffusion", "diffusion_models"),
    ("text_encoder", "text_encoders"),
    ("clip", "text_encoders"),
    ("t5", "text_encoders"),
    ("vae", "vae"),
    ("embedding", "embeddings"),
)


def is_known_folder_input(class_type: str, name: str) -> bool:
    """Whether an input of that name (of that class) is known to list a folder, whatever it lists."""
    return (class_type, name) in _BY_CLASS or name in _BY_NAME


def is_model_name(value: object) -> bool:
    """Whether a value names a model file."""
    return isinstance(value, str) and len(value) < 500 and value.lower().endswith(ENDINGS)


@dataclass(slots=True)
class Folders:
    """Tells folders with the help of a catalog."""

    catalog: NodeCatalog | None
    _by_choices: dict[frozenset[str], str] = field(default_factory=dict)
    _is_read: bool = False

    def of(self, class_type: str, spec: InputSpec | None, name: str) -> str:
        """Return the folder of an input, `""` where it cannot be told."""
        known = _BY_CLASS.get((class_type, name)) or _BY_NAME.get(name)
        if known:
            return known
        if spec is not None and spec.choice_set:
            shared = self._shared().get(frozenset(filter(is_model_name, spec.choice_set)))
            if shared:
                return shared
        words = f"{name} {class_type}".lower()
        return next((folder for word, folder in _BY_WORD if word in words), "")

    def files(self, folder: str) -> frozenset[str]:
        """Return the files that the catalog lists for a folder."""
        return frozenset().union(
            *(names for names, each in self._shared().items() if each == folder)
        )

    def _shared(self) -> Mapping[frozenset[str], str]:
        """Return the folders of ComfyUI's own loaders by the files that they list."""
        if not self._is_read and self.catalog is not None:
            for class_type, name in (*_BY_CLASS, *_LOADERS):
                node_class = self.catalog.get(class_type)
                spec = node_class.input(name) if node_class is not None else None
                files = frozenset(filter(is_model_name, spec.choice_set)) if spec else frozenset()
                if files:
                    known = _BY_CLASS.get((class_type, name)) or _BY_NAME[name]
                    self._by_choices.setdefault(files, known)
        self._is_read = True
        return self._by_choices


_LOADERS = (
    ("CheckpointLoaderSimple", "ckpt_name"),
    ("VAELoader", "vae_name"),
    ("LoraLoader", "lora_name"),
    ("CLIPLoader", "clip_name"),
    ("UNETLoader", "unet_name"),
    ("ControlNetLoader", "control_net_name"),
    ("StyleModelLoader", "style_model_name"),
    ("GLIGENLoader", "gligen_name"),
    ("HypernetworkLoader", "hypernetwork_name"),
    ("PhotoMakerLoader", "photomaker_model_name"),
    ("AudioEncoderLoader", "audio_encoder_name"),
    ("LoadBackgroundRemovalModel", "bg_removal_name"),
)
