"""Signatures that let whoever has a URL read one asset until the URL expires."""

import base64
import hashlib
import hmac


def signed_query(key: bytes, asset_id: str, expires_at: int) -> str:
    """The query of a URL that is good until `expires_at` (seconds since the epoch)."""
    return f"exp={expires_at}&sig={signature_of(key, asset_id, expires_at)}"


def signature_of(key: bytes, asset_id: str, expires_at: int) -> str:
    """The right signature for an asset and an expiry."""
    digest = hmac.digest(key, f"{asset_id}\n{expires_at}".encode(), hashlib.sha256)
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
