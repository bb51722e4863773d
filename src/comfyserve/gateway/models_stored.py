"""The control API's JSON of secrets and volumes."""

from collections.abc import Sequence
from typing import Literal

from pydantic import BaseModel, Field

from comfyserve.gateway.models import Time


class NewSecret(BaseModel):
    """The value of a secret; it is never given back."""

    value: str = Field(repr=False)


class SecretModel(BaseModel):
    """A secret without its value, and the deployments that use it."""

    name: str
    created_at: Time
    updated_at: Time
    deployments: Sequence[str]


class SecretList(BaseModel):
    """All secrets."""

    secrets: Sequence[SecretModel]


class VolumeModel(BaseModel):
    """A named directory, and the deployments that mount it."""

    id: str
    name: str
    created_at: Time
    deployments: Sequence[str]


class VolumeList(BaseModel):
    """All volumes, and the room that is left for them."""

    volumes: Sequence[VolumeModel]
    free_bytes: int


class EntryModel(BaseModel):
    """What lies under a name of a volume's directory. Links are told, never followed."""

    name: str
    kind: Literal["file", "directory", "link", "other"]
    size_bytes: int
    modified_at: Time


class EntryPage(BaseModel):
    """Entries by name; `next_after` begins the next page.

    `kind` is that of the path itself: of what is no directory, the only entry is it.
    """

    kind: Literal["file", "directory", "link", "other"]
    entries: Sequence[EntryModel]
    next_after: str | None


class NewUpload(BaseModel):
    """A file that is to come; `key` (16 to 64 hexadecimal digits) names what is sent and where to."""

    path: str
    size_bytes: int
    key: str
    overwrite: bool = True


class UploadModel(BaseModel):
    """How much of an upload is there."""

    received_bytes: int
    is_complete: bool = False


class NewMove(BaseModel):
    """Another path for a file or directory; with `overwrite`, in place of a file."""

    source: str
    destination: str
    overwrite: bool = False
