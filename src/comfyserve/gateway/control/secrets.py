"""Secrets: what there is, and setting them. No route gives a value back."""

from collections.abc import Sequence
from typing import Literal

from fastapi import APIRouter, Response

from comfyserve.domain.errors import Conflict
from comfyserve.gateway.auth import ADMIN
from comfyserve.gateway.context import Gateway
from comfyserve.gateway.control.common import Caller, Parts
from comfyserve.gateway.models_stored import NewSecret, SecretList, SecretModel

router = APIRouter()


@router.get("/secrets", tags=["secrets"])
async def list_secrets(gateway: Parts, caller: Caller) -> SecretList:
    """All secrets by name, without their values, and which deployments use them."""
    caller.require(ADMIN)
    return SecretList(
        secrets=[
            SecretModel(
                name=item.name,
                created_at=item.created_at,
                updated_at=item.updated_at,
                deployments=_users(gateway, item.name),
            )
            for item in await gateway.store.secrets.list()
        ]
    )


@router.put("/secrets/{name}", tags=["secrets"], status_code=204)
async def put_secret(
    name: str,
    new: NewSecret,
    gateway: Parts,
    caller: Caller,
    response: Response,
    expect: Literal["new", "existing"] | None = None,
) -> None:
    """Set a secret (201 if it is new); `expect` refuses to overwrite one, or to make one.

    Replicas that run keep the old value until they stop.
    """
    caller.require(ADMIN)
    is_new = None if expect is None else expect == "new"
    if await gateway.store.secrets.put(name, new.value, gateway.clock.now(), is_new=is_new):
        response.status_code = 201


@router.delete("/secrets/{name}", tags=["secrets"], status_code=204)
async def delete_secret(name: str, gateway: Parts, caller: Caller) -> None:
    """Delete a secret that no deployment uses."""
    caller.require(ADMIN)
    if users := _users(gateway, name):
        raise Conflict(
            f"the secret '{name[:80]}' is used by {', '.join(users)}: deploy without it, or delete "
            "the deployment",
            code="secret_in_use",
        )
    await gateway.store.secrets.delete(name, gateway.clock.now())


def _users(gateway: Gateway, name: str) -> Sequence[str]:
    return [item.name for item in gateway.runtime.deployments if name in item.spec.secrets]
