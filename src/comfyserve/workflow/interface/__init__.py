"""The typed interface of a workflow: find it, save and read it, set values by its names."""

from comfyserve.workflow.interface.apply import Applied, apply
from comfyserve.workflow.interface.infer import interface
from comfyserve.workflow.interface.model import (
    Interface,
    InterfaceInput,
    InterfaceOutput,
    Kind,
    Role,
    Source,
)
from comfyserve.workflow.interface.wire import read_interface, to_json
from comfyserve.workflow.prompt_nodes import Place

__all__ = [
    "Applied",
    "Interface",
    "InterfaceInput",
    "InterfaceOutput",
    "Kind",
    "Place",
    "Role",
    "Source",
    "apply",
    "interface",
    "read_interface",
    "to_json",
]
