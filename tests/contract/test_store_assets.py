"""Asset rows: public names, uploads, expiry and what happens to the bytes."""

import asyncio
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.store import Store
from comfyserve.store.asset_names import alternative, alternatives_of, is_counted, place_of
from comfyserve.testing.store_data import a_deployment, a_new_asset, a_revision


async def _add(store: Store, *names: str, **changes: object) -> list[str]:
    given_names = []
    for name in names:
        new = replace(a_new_asset(name), **changes)  # type: ignore[arg-type] # the fields of a new asset
        given_names.append((await store.assets.add(new, 10.0)).name)
    return given_names


async def test_an_asset_comes_back_as_it_was(store: Store) -> None:
    new = a_new_asset("a.png", job_id="j1", subfolder="x/y", type="temp", expires_at=99.0)
    asset = await store.assets.add(new, 10.0)
    assert (asset.name, asset.subfolder, asset.type) == ("a.png", "x/y", "temp")
    assert (asset.created_at, asset.expires_at, asset.size_bytes) == (10.0, 99.0, 3)
    assert await store.assets.find("dp_1", "a.png", "x/y", "temp") == asset
    assert await store.assets.get(asset.id) == asset
    assert await store.assets.of_job("j1") == [asset]
    for other in (("dp_2", "a.png", "x/y", "temp"), ("dp_1", "a.png", "", "temp")):
        assert await store.assets.find(*other) is None
    assert await store.assets.get("no") is None


async def test_an_asset_is_found_by_its_bytes(store: Store) -> None:
    first = await store.assets.add(a_new_asset("a.png", digest="1" * 64), 10.0)
    await store.assets.add(a_new_asset("b.png", digest="1" * 64), 11.0)
    assert await store.assets.find_digest("dp_1", "1" * 64) == first
    assert await store.assets.find_digest("dp_2", "1" * 64) is None
    assert await store.assets.find_digest("dp_1", "2" * 64) is None


async def test_counter_names_go_on_counting(store: Store) -> None:
    assert await _add(store, "ComfyUI_00001_.png", "ComfyUI_00001_.png", "ComfyUI_00002_.png") == [
        "ComfyUI_00001_.png",
        "ComfyUI_00002_.png",
        "ComfyUI_00003_.png",
    ]
    assert await _add(store, "ComfyUI_00099_.png") == ["ComfyUI_00099_.png"]
    assert await _add(store, "ComfyUI_00001_.webp") == ["ComfyUI_00001_.webp"]
    assert await _add(store, "ComfyUI_00001_.webp") == ["ComfyUI_00100_.webp"]
    assert await _add(store, "ComfyUI_00001_.png") == ["ComfyUI_00101_.png"]
    assert await _add(store, "Other_00001_.png") == ["Other_00001_.png"]


async def test_counters_of_video_nodes(store: Store) -> None:
    assert await _add(store, "clip_00001.mp4", "clip_00001.mp4") == [
        "clip_00001.mp4",
        "clip_00002.mp4",
    ]
    assert await _add(store, "wide_99999_.png", "wide_99999_.png") == [
        "wide_99999_.png",
        "wide_100000_.png",
    ]


async def test_other_names_get_a_number(store: Store) -> None:
    assert await _add(store, *["a.png"] * 3) == ["a.png", "a (1).png", "a (2).png"]
    assert await _add(store, "a (5).png", "a.png", "a.png", "a.png") == [
        "a (5).png",
        "a (3).png",
        "a (4).png",
        "a (6).png",
    ]
    assert await _add(store, "a (1).png") == ["a (1) (1).png"]
    assert await _add(store, *["no suffix"] * 2) == ["no suffix", "no suffix (1)"]
    assert await _add(store, *[".hidden"] * 2) == [".hidden", ".hidden (1)"]


async def test_names_are_unique_for_each_folder(store: Store) -> None:
    await store.deployments.create(a_deployment("dp_2"))
    for changes in ({}, {"subfolder": "x"}, {"type": "temp"}, {"deployment_id": "dp_2"}):
        assert await _add(store, "a.png", **changes) == ["a.png"]


async def test_names_stay_unique_when_many_come_at_once(store: Store) -> None:
    wishes = ["ComfyUI_00001_.png", "a.png", "ComfyUI_00002_.png", "b"] * 15
    assets = await asyncio.gather(*(store.assets.add(a_new_asset(n), 10.0) for n in wishes))
    assert len({asset.name for asset in assets}) == len(wishes)


async def test_a_name_is_found_among_very_many(store: Store) -> None:
    names = ["p_00001_.png"] * 1500 + ["a.png"] * 1500
    assets = await store.assets.add_many([a_new_asset(name) for name in names], 10.0)
    assert {asset.name for asset in assets} == (
        {f"p_{number:05}_.png" for number in range(1, 1501)}
        | {"a.png"}
        | {f"a ({number}).png" for number in range(1, 1500)}
    )


async def test_add_many_stores_all_or_nothing(store: Store) -> None:
    news = [a_new_asset("a.png"), a_new_asset("b.png", deployment_id="dp_unknown")]
    with pytest.raises(Exception, match="FOREIGN KEY"):
        await store.assets.add_many(news, 10.0)
    assert await store.assets.find("dp_1", "a.png", "", "output") is None


async def test_uploads_follow_comfyui(store: Store) -> None:
    upload = a_new_asset("a.png", type="input", digest="1" * 64)
    first = await store.assets.add_upload(upload, 10.0)
    assert await store.assets.add_upload(upload, 11.0) == first
    second = await store.assets.add_upload(replace(upload, digest="2" * 64), 12.0)
    assert second.name == "a (1).png"
    assert await store.assets.add_upload(replace(upload, digest="2" * 64), 13.0) == second
    third = await store.assets.add_upload(replace(upload, digest="3" * 64), 14.0, overwrite=True)
    assert third.name == "a.png"
    assert await store.assets.get(first.id) is None
    assert list(await store.assets.inputs("dp_1")) == [second, third]
    assert await store.assets.delete_expired(15.0) == ["1" * 64]


async def test_expired_assets_go_and_their_bytes_when_nobody_needs_them(store: Store) -> None:
    await store.assets.add(a_new_asset("a", digest="1" * 64, expires_at=20.0), 10.0)
    await store.assets.add(a_new_asset("b", digest="2" * 64, expires_at=20.0), 10.0)
    await store.assets.add(a_new_asset("c", digest="2" * 64), 10.0)
    await store.assets.add(a_new_asset("d", digest="5" * 64, expires_at=20.0), 10.0)
    assert a_revision().snapshot_digest == "5" * 64
    assert await store.assets.delete_expired(19.0) == []
    for _ in range(2):
        assert await store.assets.delete_expired(20.0) == ["1" * 64]
    assert await store.assets.find("dp_1", "a", "", "output") is None
    assert [await store.assets.referenced(d * 64) for d in "125"] == [False, True, True]
    await store.assets.forget(["1" * 64])
    assert await store.assets.delete_expired(21.0) == []


async def test_bytes_that_are_wanted_again_are_kept(store: Store) -> None:
    await store.assets.add(a_new_asset("a", digest="1" * 64, expires_at=20.0), 10.0)
    assert await store.assets.delete_expired(20.0) == ["1" * 64]
    await store.assets.add(a_new_asset("b", digest="1" * 64), 21.0)
    assert await store.assets.delete_expired(22.0) == []
    assert await store.assets.referenced("1" * 64)


async def test_collecting_deletes_blobs(store: Store) -> None:
    far = 10.0**11
    old, kept = await store.blobs.put_bytes(b"old"), await store.blobs.put_bytes(b"kept")
    for blob, expires_at in ((old, 20.0), (kept, None)):
        new = a_new_asset("x.png", digest=blob.digest, expires_at=expires_at)
        await store.assets.add(new, 10.0)
    # By the clock of this machine the bytes were put just now, and so may be about to get a row.
    assert await store.collect(30.0) == 0
    assert await store.blobs.exists(old.digest)
    assert await store.collect(far) == 1
    assert not await store.blobs.exists(old.digest)
    assert await store.blobs.exists(kept.digest)
    assert await store.collect(far) == 0


_names = st.text(st.sampled_from("ab_0123 ().\n"), min_size=1, max_size=16)


@given(name=_names, ordinal=st.integers(1, 10**9))
def test_an_alternative_stands_where_it_says(name: str, ordinal: int) -> None:
    made = alternative(name, ordinal)
    place = place_of(made)
    assert (place.family, place.ordinal) == (alternatives_of(name), ordinal)


@given(name=_names)
def test_a_counted_name_is_its_own_alternative(name: str) -> None:
    place = place_of(name)
    if is_counted(name):
        assert place.family == alternatives_of(name)
        assert alternative(name, place.ordinal) == name
