"""The workflows that come with a deploy."""

import base64

import pytest

from comfyserve.domain.errors import InvalidInput
from comfyserve.gateway.deploy_order import CheckOrder, DeployOrder


def test_workflows_come_as_base64() -> None:
    order = DeployOrder(checks=(CheckOrder("a.json", base64.b64encode(b"{}").decode()),))
    assert [(file.name, file.data) for file in order.files] == [("a.json", b"{}")]


@pytest.mark.parametrize("data", ["not base64!", "abc", "\xb0", "käse", "\U0001f9c0"])
def test_what_is_not_base64_is_named(data: str) -> None:
    with pytest.raises(InvalidInput, match=r"'a\.json' is not base64"):
        _ = DeployOrder(checks=(CheckOrder("a.json", data),)).files
