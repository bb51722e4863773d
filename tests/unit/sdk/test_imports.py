"""`import comfyserve` is light, whatever name is taken from it."""

import subprocess
import sys

import pytest

import comfyserve
from comfyserve import sdk

HEAVY = (
    "starlette", "fastapi", "uvicorn", "aiohttp", "sqlalchemy", "pydantic", "numpy", "PIL", "rich",
    "msgspec", "click", "huggingface_hub", "cryptography", "asyncio", "ssl", "http.client",
)  # fmt: skip


def loaded_by(code: str) -> list[str]:
    script = f"{code}\nimport sys\nprint(*[name for name in {HEAVY!r} if name in sys.modules])"
    out = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    return out.stdout.split()


@pytest.mark.parametrize("code", ["import comfyserve", "import comfyserve.sdk"])
def test_the_package_loads_nothing_heavy(code: str) -> None:
    assert loaded_by(code) == []


def test_all_declarations_together_load_nothing_heavy() -> None:
    assert loaded_by(f"from comfyserve import {', '.join(sdk.EXPORTS)}") == []


def test_every_name_can_be_taken_from_both_packages() -> None:
    for name in sdk.EXPORTS:
        assert getattr(comfyserve, name) is getattr(sdk, name)
    assert set(dir(sdk)) == set(sdk.EXPORTS)


@pytest.mark.parametrize("package", [comfyserve, sdk])
def test_an_unknown_name_is_an_attribute_error(package: object) -> None:
    with pytest.raises(AttributeError, match="no attribute 'Imag'"):
        package.Imag  # type: ignore[attr-defined]  # noqa: B018 - that is the test
