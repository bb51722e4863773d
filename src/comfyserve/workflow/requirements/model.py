"""`Requirements`: what a workflow needs to run, and what of it a deployment lacks."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from comfyserve.workflow.interface.model import Kind
from comfyserve.workflow.prompt_nodes import Place


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that a workflow names."""

    name: str
    """As the workflow names it, with the subfolder if it has one."""
    directory: str
    """The folder under `models`; `""` where nobody can tell."""
    places: tuple[Place, ...] = ()
    """The node inputs that name it; empty where only the file's properties do."""
    url: str = ""
    sha256: str = ""
    size_bytes: int | None = None
    is_present: bool | None = None
    """Whether the deployment has it; `None` where that cannot be told."""


@dataclass(frozen=True, slots=True)
class NodePack:
    """A pack of custom nodes, or classes of which nobody knows the pack (`id` is `""`)."""

    id: str
    """The registry id, or `owner/repository` on GitHub."""
    classes: tuple[str, ...]
    version: str = ""
    """A release, or a commit."""
    is_present: bool | None = None
    """Whether the catalog has all its classes; `None` without a catalog."""


@dataclass(frozen=True, slots=True)
class InputFile:
    """An input file that a workflow names."""

    name: str
    kind: Kind
    place: Place
    is_present: bool | None = None


@dataclass(frozen=True, slots=True)
class Fix:
    """How to get one missing thing."""

    what: str
    command: str = ""
    """A line for the shell of the machine that runs ComfyUI (comfy-cli)."""
    sdk: str = ""
    """A call on the `Image` of the deployment."""


@dataclass(frozen=True, slots=True)
class Requirements:
    """Everything that a workflow needs."""

    models: tuple[ModelFile, ...] = ()
    packs: tuple[NodePack, ...] = ()
    files: tuple[InputFile, ...] = ()
    comfyui_version: str = ""
    """The newest ComfyUI that a node of the workflow was saved with; `""` where none says."""
    fixes: tuple[Fix, ...] = ()
    """How to get what is missing, in the order of `missing`."""

    @property
    def missing(self) -> tuple[ModelFile | NodePack | InputFile, ...]:
        """What the deployment is known to lack."""
        return tuple(each for each in self._all() if each.is_present is False)

    @property
    def is_complete(self) -> bool:
        """Whether nothing is known to lack."""
        return not self.missing

    @property
    def download_bytes(self) -> int:
        """What the missing models of known size come to."""
        return sum(each.size_bytes or 0 for each in self.models if each.is_present is False)

    @property
    def models_of_unknown_size(self) -> int:
        """How many missing models `download_bytes` leaves out."""
        missing = (each for each in self.models if each.is_present is False)
        return sum(each.size_bytes is None for each in missing)

    def _all(self) -> Iterator[ModelFile | NodePack | InputFile]:
        yield from self.packs
        yield from self.models
        yield from self.files

    def to_json(self) -> dict[str, Any]:
        """Return the requirements as the public API and `--json` show them."""
        return {
            "complete": self.is_complete,
            "comfyui_version": self.comfyui_version or None,
            "download_bytes": self.download_bytes,
            "models_of_unknown_size": self.models_of_unknown_size,
            "models": [
                {
                    "name": each.name,
                    "directory": each.directory or None,
                    "url": each.url or None,
                    "sha256": each.sha256 or None,
                    "size_bytes": each.size_bytes,
                    "present": each.is_present,
                    "used_by": [{"node": p.node_id, "input": p.input} for p in each.places],
                }
                for each in self.models
            ],
            "packs": [
                {
                    "id": each.id or None,
                    "version": each.version or None,
                    "classes": list(each.classes),
                    "present": each.is_present,
                }
                for each in self.packs
            ],
            "files": [
                {
                    "name": each.name,
                    "type": each.kind.value,
                    "node": each.place.node_id,
                    "input": each.place.input,
                    "present": each.is_present,
                }
                for each in self.files
            ],
            "fixes": [
                {"what": each.what, "command": each.command or None, "sdk": each.sdk or None}
                for each in self.fixes
            ],
        }
