"""Volumes: named directories of a server, and where in a replica they are seen."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from comfyserve.domain.errors import InvalidInput

_NAME = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,62}[A-Za-z0-9])?")
_MODELS = "models"
_FOLDER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# The last two mean something else in a file of extra model paths.
_NO_MODELS = frozenset({"custom_nodes", "base_path", "is_default"})
_OTHER_NAMES = {"unet": "diffusion_models", "clip": "text_encoders", "t2i_adapter": "controlnet"}


def check_volume_name(name: str) -> str:
    """Return `name` if it can name a volume, else raise InvalidInput."""
    if _NAME.fullmatch(name):
        return name
    if "://" in name:
        raise InvalidInput(
            f"'{name[:80]}' is a bucket, which no engine of this version can mount: copy what is "
            "needed to a volume, with `comfyserve volume cp`",
            code="bucket_mount",
        )
    raise InvalidInput(
        f"'{name[:80]}' cannot be the name of a volume: use 1 to 64 letters, digits, '-', '_' and '.', "
        "beginning and ending with a letter or digit",
        code="invalid_name",
    )


@dataclass(frozen=True, slots=True)
class ModelPlace:
    """Which of ComfyUI's model folders a mount holds: one of them, or (folder empty) all.

    `prefix` stands before the names of its files in that folder, as in `styles/`.
    """

    folder: str = ""
    prefix: str = ""


def model_place(parts: tuple[str, ...]) -> ModelPlace | None:
    """What a mount at this path holds of the models; None for nothing.

    Told by the path alone: what follows the last `models` in it.
    """
    if _MODELS not in parts:
        return None
    below = parts[len(parts) - parts[::-1].index(_MODELS) :]
    if not below:
        return ModelPlace()
    return ModelPlace(folder_name(below[0]), "".join(f"{part}/" for part in below[1:]))


def is_model_folder(directory: str) -> bool:
    """Whether a directory at the top of a volume may become one of ComfyUI's model folders.

    Who writes to a volume must not bring code into all that mount it, or directories beside it.
    """
    return _FOLDER.fullmatch(directory) is not None and directory not in _NO_MODELS


def folder_name(directory: str) -> str:
    """ComfyUI's name for the model folder that a directory below `models` belongs to."""
    return _OTHER_NAMES.get(directory, directory)


def model_files(place: ModelPlace, files: Iterable[str]) -> Mapping[str, frozenset[str]]:
    """The names of a mount's files, as its model folders list them."""
    found: dict[str, set[str]] = {}
    for file in files:
        directory, _, name = file.partition("/") if not place.folder else (place.folder, "", file)
        if name and not f"/{file}".startswith("/."):
            found.setdefault(folder_name(directory), set()).add(f"{place.prefix}{name}")
    return {folder: frozenset(names) for folder, names in found.items()}
