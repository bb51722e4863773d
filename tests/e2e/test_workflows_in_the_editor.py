"""The converter beside the real frontend, in a browser, on workflows that were changed just now."""

import sys
from contextlib import aclosing
from pathlib import Path

import pytest
from tests.tools.compare_conversions import compared
from tests.tools.editor import CHROMIUM, frontend_of
from tests.tools.engine import find_installations

from comfyserve.workflow.flavours import Flavour

_COUNT = 60


@pytest.mark.browser
@pytest.mark.comfyui
@pytest.mark.corpora
@pytest.mark.timeout(900)
@pytest.mark.skipif(not Path(CHROMIUM).exists(), reason=f"no Chromium at {CHROMIUM}")
async def test_the_installed_frontend_makes_the_same_prompts(
    capsys: pytest.CaptureFixture[str],
) -> None:
    frontend = frontend_of(find_installations()[0])
    if "1.27" not in frontend.version:
        pytest.skip(f"the rules of frontend {frontend.version} are not among ours")
    different, count = {}, 0
    async with aclosing(compared(Flavour.OLD, frontend.static, seed=1_130)) as mutants:
        async for each in mutants:
            count += each.theirs is not None
            if each.differences:
                different[each.name] = each.differences
            if count == _COUNT:
                break
    with capsys.disabled():
        sys.stdout.write(f"\nconversion, live frontend: {count - len(different)}/{count}\n")
    assert not different
