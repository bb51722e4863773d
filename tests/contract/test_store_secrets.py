"""Secrets at rest: sealed, write-only but for whoever starts a process, masked long after."""

import sqlite3
from pathlib import Path

import pytest

from comfyserve.domain.errors import ComfyserveError, Conflict, InvalidInput, NotFound
from comfyserve.store import Store, open_store
from comfyserve.store.secrets import MOST_SECRETS, RETIRED_FOR_S

VALUE = "hf_0123456789"


async def test_a_secret_is_set_changed_and_deleted(store: Store) -> None:
    secrets = store.secrets
    assert await secrets.put("HF_TOKEN", VALUE, 10.0)
    assert not await secrets.put("HF_TOKEN", "second", 20.0)
    await secrets.put("A", "other", 30.0)
    listed = [(item.name, item.created_at, item.updated_at) for item in await secrets.list()]
    assert listed == [("A", 30.0, 30.0), ("HF_TOKEN", 10.0, 20.0)]
    assert await secrets.open(["HF_TOKEN"]) == {"HF_TOKEN": "second"}
    assert await secrets.open([]) == {}
    await secrets.delete("HF_TOKEN", 40.0)
    assert [item.name for item in await secrets.list()] == ["A"]
    with pytest.raises(NotFound, match="there is: A"):
        await secrets.open(["A", "HF_TOKEN"])
    with pytest.raises(NotFound):
        await secrets.delete("HF_TOKEN", 50.0)


async def test_what_is_expected_is_checked(store: Store) -> None:
    with pytest.raises(NotFound, match="none yet"):
        await store.secrets.put("A", VALUE, 1.0, is_new=False)
    await store.secrets.put("A", VALUE, 1.0, is_new=True)
    with pytest.raises(Conflict) as refused:
        await store.secrets.put("A", "another", 2.0, is_new=True)
    assert refused.value.code == "secret_exists"
    await store.secrets.put("A", "second", 3.0, is_new=False)
    assert await store.secrets.open(["A"]) == {"A": "second"}
    await store.secrets.require(["A"])
    with pytest.raises(InvalidInput, match="no secret 'B', 'C'; there is: A"):
        await store.secrets.require(["C", "A", "B"])
    for name, value in (("1", VALUE), ("A", "")):
        with pytest.raises(InvalidInput):
            await store.secrets.put(name, value, 4.0)


async def test_the_number_of_secrets_is_bounded(store: Store) -> None:
    for number in range(MOST_SECRETS):
        await store.secrets.put(f"S{number}", VALUE, 1.0)
    with pytest.raises(Conflict) as refused:
        await store.secrets.put("ONE_MORE", VALUE, 1.0)
    assert refused.value.code == "too_many_secrets"
    assert not await store.secrets.put("S0", "changed", 2.0)


async def test_a_value_is_masked_as_long_as_logs_of_its_time_may_be_read(store: Store) -> None:
    await store.secrets.put("A", "the first value", 1.0)
    assert (await store.secrets.mask()).text("the first value") == "***"
    await store.secrets.put("A", "the second value", 2.0)
    mask = await store.secrets.mask()
    assert mask.text("the first value, the second value") == "***, ***"
    assert await store.secrets.mask() is mask, "read once"
    await store.secrets.delete("A", 3.0)
    await store.collect(3.0 + RETIRED_FOR_S)
    await store.secrets.put("B", "unrelated", 4.0)
    assert (await store.secrets.mask()).text("the second value") == "the second value"


async def test_no_value_is_on_disk(home: Path) -> None:
    async with open_store(home) as store:
        await store.secrets.put("HF_TOKEN", VALUE, 1.0)
    held = (home / "comfyserve.db").read_bytes() + (home / "secret.key").read_bytes()
    assert b"HF_TOKEN" in held
    assert VALUE.encode() not in held


async def test_a_value_that_was_moved_to_another_name_does_not_open(home: Path) -> None:
    async with open_store(home) as store:
        await store.secrets.put("ADMIN_KEY", VALUE, 1.0)
        await store.secrets.put("HARMLESS", "nothing", 1.0)
    with sqlite3.connect(home / "comfyserve.db") as other:
        other.execute(
            "UPDATE secret SET sealed = (SELECT sealed FROM secret WHERE name = 'ADMIN_KEY') "
            "WHERE name = 'HARMLESS'"
        )
    other.close()
    async with open_store(home) as store:
        with pytest.raises(ComfyserveError, match="changed by hand"):
            await store.secrets.open(["HARMLESS"])


async def test_another_key_opens_nothing(home: Path) -> None:
    async with open_store(home) as store:
        await store.secrets.put("A", VALUE, 1.0)
    (home / "secret.key").write_bytes(b"k" * 32)
    async with open_store(home) as store:
        with pytest.raises(ComfyserveError) as refused:
            await store.secrets.open(["A"])
    assert refused.value.code == "secrets_unreadable"
