"""A runtime at work for each test."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfyserve.testing.rig import Rig, open_rig


@pytest.fixture
async def rig(home: Path) -> AsyncIterator[Rig]:
    """A runtime over a real store, with fake replicas that answer on real sockets."""
    async with open_rig(home) as rig:
        yield rig
