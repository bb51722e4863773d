"""The token of a deployment's own replicas: good for keeping outputs of that deployment, and no more.

It is made, not stored: a keyed hash of the deployment's id. PURE.
"""

import hashlib
import hmac

from comfyserve.domain.ids import Prefix

PREFIX = "ci_"
URL_VARIABLE, TOKEN_VARIABLE = "COMFYSERVE_INSIDE_URL", "COMFYSERVE_INSIDE_TOKEN"


def inside_token(key: bytes, deployment_id: str) -> str:
    """The token for replicas of a deployment."""
    return f"{PREFIX}{deployment_id}.{_proof(key, deployment_id)}"


def deployment_of(key: bytes, token: str) -> str | None:
    """The deployment whose replicas hold this token; None for one that was not made with `key`."""
    deployment_id, _, proof = token.removeprefix(PREFIX).partition(".")
    is_ours = token.startswith(f"{PREFIX}{Prefix.DEPLOYMENT}_") and hmac.compare_digest(
        proof.encode(), _proof(key, deployment_id).encode()
    )
    return deployment_id if is_ours else None


def _proof(key: bytes, deployment_id: str) -> str:
    return hmac.new(key, f"inside\n{deployment_id}".encode(), hashlib.sha256).hexdigest()
