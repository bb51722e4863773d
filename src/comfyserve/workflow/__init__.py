"""Workflow understanding: convert, validate, explain. Pure: no IO, clock or logging."""

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.flavours import Flavour
from comfyserve.workflow.formats import Format
from comfyserve.workflow.prepare import Prepared, prepare, prepare_file
from comfyserve.workflow.problems import Problem

__all__ = ["Flavour", "Format", "NodeCatalog", "Prepared", "Problem", "prepare", "prepare_file"]
