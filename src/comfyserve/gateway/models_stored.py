"""The control API's JSON of secrets."""

from collections.abc import Sequence

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
