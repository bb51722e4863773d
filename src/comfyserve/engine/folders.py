"""Which directories there are, which names may be used in them, and how saved files are called."""

import mimetypes
import os
import re
import time
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from comfyserve.engine.options import Directories

MODEL_FOLDERS = (
    *("checkpoints", "configs", "loras", "vae", "text_encoders", "diffusion_models", "clip_vision"),
    *("style_models", "embeddings", "diffusers", "vae_approx", "controlnet", "gligen"),
    *("upscale_models", "latent_upscale_models", "custom_nodes", "datasets", "hypernetworks"),
    *("photomaker", "classifiers", "model_patches", "audio_encoders"),
)
"""ComfyUI's folder names below `models/`."""
_MODEL_SUFFIXES = frozenset(
    {".ckpt", ".pt", ".pt2", ".bin", ".pth", ".safetensors", ".pkl", ".sft", ".gguf"}
)


class FileType(StrEnum):
    """The three directories that a file can be in, as ComfyUI names them on the wire."""

    INPUT = "input"
    OUTPUT = "output"
    TEMP = "temp"


class OutsideDirectory(ValueError):
    """A name or subfolder leads out of its directory."""


@dataclass(frozen=True, slots=True)
class SavePlace:
    """Where the next file of a prefix goes."""

    directory: Path
    subfolder: str
    stem: str
    counter: int
    """Of the first file; each further one counts up."""

    def name(self, offset: int, suffix: str) -> str:
        """Return the name of the file number `offset`, such as `ComfyUI_00007_.png`."""
        stem = self.stem.replace("%batch_num%", str(offset))
        return f"{stem}_{self.counter + offset:05}_{suffix}"


@dataclass(frozen=True, slots=True)
class Folders:
    """The directories of this engine."""

    directories: Directories

    def create(self) -> None:
        """Make the directories that are missing.

        Raises:
            OSError: one cannot be made.
        """
        for path in (self.directories.input, self.directories.output, self.directories.temp):
            path.mkdir(parents=True, exist_ok=True)
        self.user.mkdir(parents=True, exist_ok=True)

    @property
    def user(self) -> Path:
        """The directory of the only user."""
        return self.directories.user / "default"

    def of_type(self, file_type: FileType) -> Path:
        """Return the directory of this type."""
        match file_type:
            case FileType.INPUT:
                return self.directories.input
            case FileType.OUTPUT:
                return self.directories.output
            case FileType.TEMP:
                return self.directories.temp

    def annotated(self, name: str) -> tuple[str, FileType | None]:
        """Split `x.png [output]` into the name and its type; no annotation gives `None`."""
        for file_type in FileType:
            ending = f"[{file_type}]"
            if name.endswith(ending):
                # The character before the bracket goes too, whatever it is: so does ComfyUI.
                return name[: -len(ending) - 1], file_type
        return name, None

    def input_path(self, name: str) -> Path:
        """Return the path of a file that a node loads, `cat.png` or `cat.png [output]`.

        Raises:
            OutsideDirectory: the name leads out of its directory (ComfyUI would follow it).
        """
        bare, file_type = self.annotated(name)
        return self.subfolder(file_type or FileType.INPUT, bare)

    def subfolder(self, file_type: FileType, subfolder: str) -> Path:
        """Return the path of a subfolder.

        Raises:
            OutsideDirectory: it is not below the directory of its type.
        """
        root = self.of_type(file_type)
        path = Path(os.path.normpath(root / subfolder))
        if not path.is_relative_to(root):
            raise OutsideDirectory(subfolder)
        return path

    def input_images(self) -> tuple[str, ...]:
        """Return the names of the images directly in the input directory, sorted."""
        return tuple(sorted(name for name in self._input_files() if _is_image(name)))

    def _input_files(self) -> Iterator[str]:
        with os.scandir(self.directories.input) as entries:
            yield from (entry.name for entry in entries if entry.is_file())

    def save_place(
        self, prefix: str, file_type: FileType, width: int, height: int, now: time.struct_time
    ) -> SavePlace:
        """Return where files of this prefix go: ComfyUI's `prefix_00001_`, counted per prefix.

        The prefix may name subfolders and holds `%width%`, `%height%`, `%year%` and so on.

        Raises:
            OutsideDirectory: the prefix leads out of the output directory.
        """
        prefix = os.path.normpath(_fill_in(prefix, width, height, now))
        subfolder, stem = os.path.split(prefix)
        try:
            directory = self.subfolder(file_type, subfolder)
        except OutsideDirectory:
            raise OutsideDirectory(
                f"Saving image outside the output folder is not allowed: {prefix}"
            ) from None
        directory.mkdir(parents=True, exist_ok=True)
        return SavePlace(directory, subfolder, stem, _next_counter(directory, stem))

    def model_directories(self, folder: str) -> tuple[Path, ...]:
        """Return where models of this kind lie."""
        return (self.directories.base / "models" / folder,)

    def models(self, folder: str) -> list[str]:
        """Return the model files of this kind, as paths relative to their folder, sorted."""
        found: list[str] = []
        for directory in self.model_directories(folder):
            found += [
                str(path.relative_to(directory))
                for path in directory.rglob("*")
                if path.suffix.lower() in _MODEL_SUFFIXES and path.is_file()
            ]
        return sorted(found)


def _is_image(name: str) -> bool:
    guessed, _ = mimetypes.guess_type(name, strict=False)
    return guessed is not None and guessed.startswith("image/")


def _fill_in(prefix: str, width: int, height: int, now: time.struct_time) -> str:
    if "%" not in prefix:
        return prefix
    values = {
        "width": str(width),
        "height": str(height),
        "year": str(now.tm_year),
        "month": f"{now.tm_mon:02}",
        "day": f"{now.tm_mday:02}",
        "hour": f"{now.tm_hour:02}",
        "minute": f"{now.tm_min:02}",
        "second": f"{now.tm_sec:02}",
    }
    return re.sub("%(" + "|".join(values) + ")%", lambda found: values[found[1]], prefix)


def _next_counter(directory: Path, stem: str) -> int:
    """Return one more than the highest number behind `stem_` in the directory."""
    used = [0]
    start = f"{stem}_"
    with os.scandir(directory) as entries:
        for entry in entries:
            if entry.name.startswith(start):
                number = entry.name[len(start) :].split(".")[0].split("_")[0]
                used.append(int(number) if number.isdecimal() else 0)
    return max(used) + 1
