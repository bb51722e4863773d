"""Tokens: verified by a hash, revocable, never stored in clear."""

from pathlib import Path

import pytest

from comfyserve.domain.errors import NotFound
from comfyserve.store import Store, open_store
from comfyserve.store.tokens import Scope


async def test_a_token_is_verified_until_it_is_revoked(store: Store) -> None:
    token, secret = await store.tokens.create("ci", frozenset({Scope.RUN}), "dp_1", 10.0)
    other, _ = await store.tokens.create("ops", frozenset(Scope), None, 11.0)
    assert await store.tokens.verify(secret) == token
    assert await store.tokens.list() == [token, other]
    assert (token.name, token.scopes, token.deployment_id) == ("ci", frozenset({"run"}), "dp_1")
    for wrong in ("", secret + "x", secret[:-1], token.id, "\ud800"):
        assert await store.tokens.verify(wrong) is None
    await store.tokens.revoke(token.id, 20.0)
    assert await store.tokens.verify(secret) is None
    assert [held.revoked_at for held in await store.tokens.list()] == [20.0, None]
    with pytest.raises(NotFound):
        await store.tokens.revoke(token.id, 21.0)


async def test_no_secret_is_on_disk(tmp_path: Path) -> None:
    async with open_store(tmp_path) as store:
        token, secret = await store.tokens.create("ci", frozenset({Scope.READ}), None, 10.0)
    data = (tmp_path / "comfyserve.db").read_bytes()
    assert token.id.encode() in data
    assert secret.encode() not in data
