from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from comfyserve.store import Store, open_store
from comfyserve.testing.store_data import furnish


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    """An open store with one deployment and one idle replica, `dp_1` and `rp_1`."""
    async with open_store(tmp_path / "home") as store:
        await furnish(store)
        yield store
