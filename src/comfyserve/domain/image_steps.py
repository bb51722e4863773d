"""The steps that an image can have, each with its checks and its JSON form."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.image_sources import ModelFile, parse_custom_node

_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]{0,127}")
_DIGEST = re.compile(r"[0-9a-f]{64}")
_LONGEST_COMMAND = 64 * 1024
_RESERVED = frozenset({"HOME", "PATH", "VIRTUAL_ENV"})


@dataclass(frozen=True, slots=True)
class Packages:
    """Python packages, as lines of a requirements file."""

    kind: ClassVar[str] = "packages"
    packages: tuple[str, ...]

    def check(self) -> None:
        """Raise InvalidInput for a line that cannot be a requirement."""
        _require(bool(self.packages), "packages: the list is empty")
        for line in self.packages:
            _require(bool(line.strip()), "packages: an entry is empty")
            _require("\n" not in line, f"packages: one entry is one requirement, not '{line[:60]}'")
            _require(
                not line.startswith(("-e ", "--editable", "./", "../", "-r ", "--requirement")),
                f"packages: '{line[:80]}' is a path on your machine; bring it with add_local_path "
                "and install it with add_commands(['uv pip install ./NAME'])",
            )


@dataclass(frozen=True, slots=True)
class Command:
    """A line for the shell, run in the workspace."""

    kind: ClassVar[str] = "command"
    command: str

    def check(self) -> None:
        """Raise InvalidInput for nothing, or too much."""
        _require(bool(self.command.strip()), "command: it is empty")
        _require("\0" not in self.command, "command: it has a zero byte")
        _require(len(self.command) <= _LONGEST_COMMAND, "command: it is longer than 64 KiB")


@dataclass(frozen=True, slots=True)
class Env:
    """Variables of every later step, and of what runs in the image."""

    kind: ClassVar[str] = "env"
    values: Mapping[str, str]

    def check(self) -> None:
        """Raise InvalidInput for a name that no environment can have."""
        for name, value in self.values.items():
            _require(bool(_VARIABLE.fullmatch(name)), f"env: '{name[:80]}' cannot name a variable")
            _require(name not in _RESERVED, f"env: {name} is set by the builder")
            _require("\0" not in value, f"env: the value of {name} has a zero byte")


@dataclass(frozen=True, slots=True)
class BuildSecrets:
    """Secrets, by name, that later steps find in their environment; never stored."""

    kind: ClassVar[str] = "secrets"
    names: tuple[str, ...]

    def check(self) -> None:
        """Raise InvalidInput for what cannot be a secret's name."""
        for name in self.names:
            _require(
                bool(_SECRET.fullmatch(name)),
                f"secrets: '{name[:40]}' is not the name of a secret; give names, never values",
            )


@dataclass(frozen=True, slots=True)
class LocalFiles:
    """Files of the user's machine, as a stored archive, put at `target` of the workspace."""

    kind: ClassVar[str] = "local_path"
    source: str
    target: str

    def check(self) -> None:
        """Raise InvalidInput for a target outside the workspace."""
        _require(bool(_DIGEST.fullmatch(self.source)), "local_path: source is not a digest")
        parts = self.target.split("/")
        _require(
            bool(self.target) and not self.target.startswith("/") and ".." not in parts,
            f"local_path: target '{self.target[:80]}' must be a path inside the workspace",
        )


@dataclass(frozen=True, slots=True)
class CustomNodes:
    """Custom node packs: registry ids, or git URLs, each with an optional `@version` or `@ref`."""

    kind: ClassVar[str] = "custom_nodes"
    nodes: tuple[str, ...]

    def check(self) -> None:
        """Raise InvalidInput for what is neither."""
        _require(bool(self.nodes), "custom_nodes: the list is empty")
        for text in self.nodes:
            parse_custom_node(text)


@dataclass(frozen=True, slots=True)
class Models:
    """Model files and the folders they belong to."""

    kind: ClassVar[str] = "models"
    files: tuple[ModelFile, ...]

    def check(self) -> None:
        """Raise InvalidInput for a file that cannot be fetched or placed."""
        _require(bool(self.files), "models: the list is empty")
        for file in self.files:
            file.check()


@dataclass(frozen=True, slots=True)
class ComfyUISource:
    """ComfyUI at a version (tag, branch or commit) of a git repository, or copied from a directory."""

    kind: ClassVar[str] = "comfyui"
    version: str | None = None
    source: str | None = None

    def check(self) -> None:
        """Raise InvalidInput for what git would take as an option."""
        for name, value in (("version", self.version), ("source", self.source)):
            _require(
                value is None or (bool(value.strip()) and not value.startswith("-")),
                f"comfyui: {name} cannot be '{(value or '')[:80]}'",
            )


@dataclass(frozen=True, slots=True)
class ComfyUIDir:
    """A ComfyUI installation on the server's machine, used where it is."""

    kind: ClassVar[str] = "comfyui_dir"
    path: str
    python: str | None = None

    def check(self) -> None:
        """Raise InvalidInput for a path that depends on who asks."""
        _require(self.path.startswith("/"), "comfyui_dir: path must be absolute")


ImageStep = (
    Packages | Command | Env | BuildSecrets | LocalFiles | CustomNodes | Models
    | ComfyUISource | ComfyUIDir
)  # fmt: skip


def _require(holds: bool, message: str) -> None:  # noqa: FBT001 - a condition, not a mode
    if not holds:
        raise InvalidInput(message, code="invalid_image")
