"""All node classes by name. Importing this imports NumPy and Pillow."""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from comfyserve.engine.nodes import filters, io, mask, primitive, testing, transform
from comfyserve.engine.nodes.spec import NodeClass

NODE_CLASSES: Final[Mapping[str, NodeClass]] = MappingProxyType(
    {
        node_class.name: node_class
        for module in (io, transform, filters, mask, primitive, testing)
        for node_class in module.NODES
    }
)
"""What `/object_info` lists, in this order."""
