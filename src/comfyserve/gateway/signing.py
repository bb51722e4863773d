"""Download URLs that work without a token, for a while: an HMAC over the asset's id and an expiry.

Deleting the asset revokes them all.
"""

import hmac
import re
from dataclasses import dataclass
from urllib.parse import parse_qs

from starlette.types import Scope

from comfyserve.domain.signing import signature_of, signed_query
from comfyserve.gateway.auth import READ, Principal

LIFETIME_S = 3600
_CONTENT = re.compile(r"(?:/d/[^/]+)?/api/v2/assets/([0-9a-f-]{36})/content")
_MAX_DIGITS = 12
BEARER = Principal("signed-url", frozenset({READ}))


@dataclass(frozen=True, slots=True)
class UrlSigner:
    """Signs and checks under one key."""

    key: bytes

    def query(self, asset_id: str, expires_at: int) -> str:
        """The query of a URL that is good until `expires_at` (seconds since the epoch)."""
        return signed_query(self.key, asset_id, expires_at)

    def bearer(self, scope: Scope, now: float) -> Principal | None:
        """Who may read just this asset, because its URL is signed; None if it is not (any more)."""
        query: bytes = scope.get("query_string", b"")
        if (
            scope["type"] != "http"
            or scope["method"] not in {"GET", "HEAD"}
            or b"sig=" not in query
        ):
            return None
        found = _CONTENT.fullmatch(scope["path"])
        fields = parse_qs(query.decode("latin-1"))
        expiry, signature = fields.get("exp", [""])[0], fields.get("sig", [""])[0]
        if found is None or not expiry.isdecimal() or not expiry.isascii():
            return None
        if len(expiry) > _MAX_DIGITS or int(expiry) < now:
            return None
        right = signature_of(self.key, found[1], int(expiry))
        return BEARER if hmac.compare_digest(signature.encode(), right.encode()) else None
