"""Where custom nodes and models come from: what users write, and what it means."""

import re
from dataclasses import dataclass
from urllib.parse import unquote, urlsplit

from comfyserve.domain.errors import InvalidInput

_REGISTRY_ID = re.compile(r"(?P<id>[A-Za-z0-9][A-Za-z0-9._-]{0,99})(?:@(?P<version>[\w.+-]+))?")
_REPOSITORY = re.compile(r"(?:https?|ssh|git|file)://|git@|/")
_HASH = re.compile(r"@(?:sha256:)?(?P<hash>[0-9a-fA-F]{64})$")
_HUB = re.compile(r"hf://(?P<repo>[\w.-]+/[\w.-]+?)(?:@(?P<revision>[\w.-]+))?/(?P<file>[^@]+)")
_NAME = re.compile(r"[^/\\\0]{1,255}")


@dataclass(frozen=True, slots=True)
class CustomNode:
    """One custom node pack: a registry id with a version, or a git repository with a ref."""

    source: str
    ref: str | None
    is_git: bool

    @property
    def directory(self) -> str:
        """What its directory below `custom_nodes` is called."""
        if not self.is_git:
            return self.source
        return re.split(r"[/:]", self.source.rstrip("/"))[-1].removesuffix(".git")


def parse_custom_node(text: str) -> CustomNode:
    """What `comfyui-impact-pack@8.0` or `https://host/owner/pack@ref` means. Raises InvalidInput."""
    bare = text.strip()
    if _REPOSITORY.match(bare):
        # The first '@' of a URL may belong to its host: a ref stands behind the last slash.
        head, slash, tail = bare.rpartition("/")
        name, _, ref = tail.partition("@")
        node = CustomNode(head + slash + name, ref or None, is_git=True)
        if name and not (ref or "x").startswith("-") and node.directory not in {"", ".", ".."}:
            return node
    elif found := _REGISTRY_ID.fullmatch(bare):
        return CustomNode(found["id"].lower(), found["version"], is_git=False)
    raise InvalidInput(
        f"custom_nodes: '{text[:100]}' is neither a registry id (comfyui-impact-pack, with @VERSION "
        "or without) nor a git repository (https://HOST/OWNER/PACK, with @REF or without)",
        code="invalid_image",
    )


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One model file: where it comes from, the folder that it belongs to, and what it must be.

    `sha256` is checked after the download; `secret` names the secret whose value is sent as a
    bearer credential.
    """

    source: str
    folder: str
    name: str | None = None
    sha256: str | None = None
    secret: str | None = None

    @property
    def file_name(self) -> str:
        """What the file is called in its folder; empty where only the server of it can tell."""
        if self.name:
            return self.name
        path = unquote(urlsplit(self.source).path).rsplit("/", 1)[-1]
        # An address without a file in it (`/api/download/models/12345`) names nothing.
        return path if "." in path else ""

    @property
    def is_hub(self) -> bool:
        """Whether it is on a Hugging Face hub."""
        return self.source.startswith("hf://")

    def hub_parts(self) -> tuple[str, str | None, str]:
        """Repository, revision and file of a hub source. Raises InvalidInput."""
        found = _HUB.fullmatch(self.source)
        if found is None:
            raise _wrong(
                self.source, "a hub file is hf://OWNER/REPO/FILE or hf://OWNER/REPO@REVISION/FILE"
            )
        return found["repo"], found["revision"], found["file"]

    def check(self) -> None:
        """Raise InvalidInput for a file that cannot be fetched or placed."""
        if self.is_hub:
            self.hub_parts()
        elif urlsplit(self.source).scheme not in {"http", "https"}:
            raise _wrong(self.source, "give an https:// address or hf://OWNER/REPO/FILE")
        if (
            self.folder.startswith("/")
            or ".." in self.folder.split("/")
            or not self.folder.strip("/")
        ):
            raise _wrong(self.source, f"folder '{self.folder[:60]}' must be one below models/")
        if not self.file_name:
            raise _wrong(self.source, "its address has no file name; write FOLDER/NAME behind '->'")
        if not _NAME.fullmatch(self.file_name) or self.file_name in {".", ".."}:
            raise _wrong(self.source, f"'{self.file_name[:60]}' cannot be a file name")
        if self.sha256 is not None and not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise _wrong(self.source, "sha256 must be 64 hex digits")

    def to_json(self) -> dict[str, str]:
        """The file as a JSON object; what was not said is left out."""
        named = (
            ("source", self.source), ("folder", self.folder), ("name", self.name),
            ("sha256", self.sha256), ("secret", self.secret),
        )  # fmt: skip
        return {name: value for name, value in named if value is not None}


def parse_model(text: str, secret: str | None = None) -> ModelFile:
    """What `SOURCE[@SHA256] -> FOLDER[/NAME]` means. Raises InvalidInput.

    A place whose last part has a suffix (`loras/detail.safetensors`) names the file too.
    """
    source, arrow, place = (part.strip() for part in text.rpartition("->"))
    if not arrow or not source or not place:
        raise _wrong(text, "write SOURCE -> FOLDER, as 'hf://OWNER/REPO/FILE -> checkpoints'")
    found = _HASH.search(source)
    if found is not None:
        source = source[: found.start()].strip()
    folder, slash, name = place.strip("/").removeprefix("models/").rpartition("/")
    if not slash or "." not in name:
        folder, name = place.strip("/").removeprefix("models/"), ""
    file = ModelFile(source, folder, name or None, found["hash"].lower() if found else None, secret)
    file.check()
    return file


def _wrong(source: str, why: str) -> InvalidInput:
    return InvalidInput(f"models: '{source[:120]}': {why}", code="invalid_image")
