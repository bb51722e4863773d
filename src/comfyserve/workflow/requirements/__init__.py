"""What a workflow needs: model files, node packs, input files, and how to get what is missing."""

from comfyserve.workflow.requirements.infer import requirements
from comfyserve.workflow.requirements.model import (
    Fix,
    InputFile,
    ModelFile,
    NodePack,
    Requirements,
)
from comfyserve.workflow.requirements.stated import KnownModel, known_model

__all__ = [
    "Fix",
    "InputFile",
    "KnownModel",
    "ModelFile",
    "NodePack",
    "Requirements",
    "known_model",
    "requirements",
]
