"""Typed endpoints in the store: versions never change, any of them can be the current one."""

import pytest

from comfyserve.domain.errors import NotFound
from comfyserve.domain.typed import EndpointDocument, EndpointVersion, TypedEndpoint
from comfyserve.store import Store
from comfyserve.testing.store_data import a_deployment


def wanted(name: str = "portrait", deployment_id: str = "dp_1", by: str = "me") -> TypedEndpoint:
    version = EndpointVersion(0, "rv_dp_1_1", 0.0, by)
    return TypedEndpoint(f"ep_{name}_{deployment_id}", deployment_id, name, version, 0.0, 0.0)


def document(seed: int) -> EndpointDocument:
    prompt = {"1": {"class_type": "SaveImage", "inputs": {"seed": seed}}}
    return EndpointDocument(prompt=prompt, interface={"inputs": []})


async def test_each_publish_is_a_version_and_the_older_ones_stay(store: Store) -> None:
    first = await store.endpoints.publish(wanted(), document(2**64 - 1), 1.0)
    second = await store.endpoints.publish(wanted(by="you"), document(2), 2.0)
    assert (first.version.number, second.version.number) == (1, 2)
    assert second.id == first.id
    assert (second.created_at, second.updated_at) == (1.0, 2.0)
    versions = await store.endpoints.versions(second)
    assert [(each.number, each.principal) for each in versions] == [(2, "you"), (1, "me")]
    assert await store.endpoints.document(second) == document(2)
    assert await store.endpoints.document(first) == document(2**64 - 1)


async def test_an_older_version_can_be_made_current_and_the_next_publish_is_still_new(
    store: Store,
) -> None:
    for seed in (1, 2):
        await store.endpoints.publish(wanted(), document(seed), float(seed))
    endpoint = await store.endpoints.find("dp_1", "portrait")
    assert endpoint is not None
    back = await store.endpoints.use_version(endpoint, 1, 3.0)
    assert (back.version.number, back.updated_at) == (1, 3.0)
    assert (await store.endpoints.publish(wanted(), document(3), 4.0)).version.number == 3
    with pytest.raises(NotFound, match="no version 9"):
        await store.endpoints.use_version(endpoint, 9, 5.0)


async def test_names_are_those_of_a_deployment_and_free_again_once_deleted(store: Store) -> None:
    await store.deployments.create(a_deployment("dp_2"))
    here = await store.endpoints.publish(wanted(), document(1), 1.0)
    there = await store.endpoints.publish(wanted(deployment_id="dp_2"), document(1), 1.0)
    await store.endpoints.publish(wanted("animal"), document(1), 1.0)
    assert [each.name for each in await store.endpoints.list("dp_1")] == ["animal", "portrait"]
    await store.endpoints.delete(here)
    assert await store.endpoints.find("dp_1", "portrait") is None
    assert await store.endpoints.find("dp_2", "portrait") == there
    with pytest.raises(NotFound, match="no endpoint 'portrait'"):
        await store.endpoints.document(here)
    assert (await store.endpoints.publish(wanted(), document(1), 2.0)).version.number == 1
