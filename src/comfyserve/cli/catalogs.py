"""Which node catalog a workflow is judged by: of a file, of a deployment, else of the embedded engine."""

import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from comfyserve.cli.answers import Deployment
from comfyserve.cli.client import Client
from comfyserve.cli.documents import read_file
from comfyserve.cli.errors import Unreachable
from comfyserve.cli.workflow_file import read_json
from comfyserve.domain.errors import InvalidInput
from comfyserve.workflow import NodeCatalog

_DEFAULT_NAME = "default"


@dataclass(frozen=True, slots=True)
class Chosen:
    """A catalog, and whose it is, in words."""

    catalog: NodeCatalog
    owner: str
    is_stand_in: bool = False
    """Whether it is the bundled one: it says nothing about what any machine has."""


def choose_catalog(client: Client, deployment: str | None, path: Path | None) -> Chosen:
    """Return the catalog to judge by. Nothing wakes, and without a server it works too.

    Raises InvalidInput for a file that is no catalog, NotFound for a file or deployment that is not
    there, Unreachable for a deployment that was named while no server answers.
    """
    if path is not None:
        return Chosen(NodeCatalog.from_object_info(read_catalog(path)), str(path))
    try:
        found = _find(client, deployment)
    except Unreachable:
        if deployment is not None:
            raise
        return bundled_catalog(f"no server answers at {client.url}")
    if found is None:
        return bundled_catalog(f"nothing is deployed at {client.url}")
    # Through the native door, whose file inputs list what lies there now.
    info = client.object_info(found.name)
    version = found.engine_version or None
    catalog = NodeCatalog.from_object_info(info, version=version)
    return Chosen(catalog, f"deployment '{found.name}' at {client.url}")


def read_catalog(path: Path) -> Mapping[str, Any]:
    """Read what `GET /object_info` answered. Raises InvalidInput and NotFound."""
    info = read_json(read_file(path))
    if isinstance(info, dict) and any(
        isinstance(entry, dict) and "input" in entry for entry in info.values()
    ):
        return info
    raise InvalidInput(
        f"{path} is no node catalog: save one with `comfyserve catalog export NAME`, or what "
        "ComfyUI answers to GET /object_info"
    )


def bundled_catalog(why: str = "") -> Chosen:
    """The catalog of the embedded engine; it comes with this package."""
    from comfyserve.engine import COMFYUI_VERSION

    catalog = NodeCatalog.from_object_info(bundled_object_info(), version=COMFYUI_VERSION)
    owner = f"the embedded engine (bundled{f'; {why}' if why else ''})"
    return Chosen(catalog, owner, is_stand_in=True)


def bundled_object_info() -> dict[str, Any]:
    """What `/object_info` of the embedded engine answers where no file has been uploaded."""
    # Imports NumPy and Pillow.
    from comfyserve.engine.folders import Folders
    from comfyserve.engine.library import Library
    from comfyserve.engine.options import Directories

    with tempfile.TemporaryDirectory(prefix="comfyserve-") as name:
        base = Path(name)
        below = (base / part for part in ("input", "output", "temp", "user"))
        folders = Folders(Directories(base, *below))
        folders.create()
        return Library(folders).object_info()


def _find(client: Client, name: str | None) -> Deployment | None:
    """The deployment of that name; without one, that which unnamed requests go to."""
    if name is not None:
        return client.deployment(name).value
    deployments = client.deployments().value.deployments
    named = (each for each in deployments if each.name == _DEFAULT_NAME)
    return next(named, deployments[0] if deployments else None)
