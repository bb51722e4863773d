"""The node classes of the engine, read when they are first needed: importing NumPy takes its time."""

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import TYPE_CHECKING, Any

from comfyserve.engine import COMFYUI_VERSION
from comfyserve.engine.folders import Folders, OutsideDirectory

if TYPE_CHECKING:
    from comfyserve.engine.nodes.spec import NodeClass
    from comfyserve.workflow.catalog import NodeCatalog


class Library:
    """All node classes, and how clients see them."""

    def __init__(self, folders: Folders) -> None:
        self._folders = folders

    @cached_property
    def classes(self) -> "Mapping[str, NodeClass]":
        """The node classes by name. The first use imports NumPy and Pillow."""
        from comfyserve.engine.nodes.registry import NODE_CLASSES  # noqa: PLC0415 - see above

        return NODE_CLASSES

    def object_info(self) -> dict[str, Any]:
        """Return what `/object_info` answers now: combos that list files change with the files."""
        return {name: each.describe(self._folders) for name, each in self.classes.items()}

    @cached_property
    def _catalog(self) -> "NodeCatalog":
        from comfyserve.workflow.catalog import NodeCatalog  # noqa: PLC0415 - not before a prompt

        return NodeCatalog.from_object_info(self.object_info(), version=COMFYUI_VERSION)

    def catalog_for(self, prompt: object) -> "NodeCatalog":
        """Return the catalog to check this prompt against, with the files that it may use.

        Those are the images of the input directory and, of all the others, only what the prompt
        names: an output directory may hold very many.
        """
        files = {*self._folders.input_images(), *self._named_files(prompt)}
        return self._catalog.with_input_files(files)

    def _named_files(self, prompt: object) -> Iterator[str]:
        for node in prompt.values() if isinstance(prompt, dict) else ():
            inputs = node.get("inputs") if isinstance(node, dict) else None
            for value in inputs.values() if isinstance(inputs, dict) else ():
                if isinstance(value, str) and self._is_file(value):
                    yield value

    def _is_file(self, name: str) -> bool:
        try:
            return self._folders.input_path(name).is_file()
        except (OutsideDirectory, OSError, ValueError):
            return False
