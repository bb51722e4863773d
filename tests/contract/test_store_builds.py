"""Builds on record: found by id, by image, by being open; what their engines said."""

from dataclasses import replace

import pytest

from comfyserve.domain.build import Build, BuildEvent, BuildResult, BuildState, step
from comfyserve.domain.errors import NotFound
from comfyserve.store import Store
from comfyserve.store.builds import ImageRecord

_BUILD = Build("bd_1", "one", "{}", is_fresh=True, state=BuildState.QUEUED, created_at=1.0)
_RESULT = BuildResult(
    "why", "build_failed", ("last", "lines"), 5, {"comfyui": "x@y"}, ("a warning",), {"pack": 0.5}
)


async def test_a_build_comes_back_as_it_was_saved(store: Store) -> None:
    await store.builds.create(_BUILD)
    assert await store.builds.get("bd_1") == _BUILD
    ended = step(step(_BUILD, BuildEvent.BEGUN, 2.0), BuildEvent.BROKEN, 3.0, _RESULT)
    await store.builds.save(ended)
    assert await store.builds.get("bd_1") == ended


async def test_builds_are_listed_newest_first_and_found_by_image(store: Store) -> None:
    for number in (1, 2, 3):
        made = replace(_BUILD, id=f"bd_{number}", created_at=float(number))
        await store.builds.create(replace(made, digest="odd" if number % 2 else "even"))
    assert [build.id for build in await store.builds.newest(2)] == ["bd_3", "bd_2"]
    found = await store.builds.of_image("odd")
    assert found is not None
    assert found.id == "bd_3"
    assert await store.builds.of_image("none") is None


async def test_only_those_that_have_not_ended_are_open(store: Store) -> None:
    await store.builds.create(_BUILD)
    await store.builds.create(replace(_BUILD, id="bd_2", state=BuildState.SUCCEEDED))
    assert [build.id for build in await store.builds.open()] == ["bd_1"]


async def test_a_build_that_is_not_there_is_named(store: Store) -> None:
    with pytest.raises(NotFound, match="there is no build 'bd_9'"):
        await store.builds.get("bd_9")
    with pytest.raises(NotFound):
        await store.builds.save(_BUILD)


async def test_an_image_has_one_record_the_last(store: Store) -> None:
    assert await store.builds.recorded("one") is None
    first = ImageRecord("one", "s1", "0.3.64", 1.0, ("w",), {"pack": 0.5})
    await store.builds.record_image(first)
    assert await store.builds.recorded("one") == first
    await store.builds.record_image(replace(first, snapshot_digest="s2"))
    assert await store.builds.recorded("one") == replace(first, snapshot_digest="s2")
