"""Volumes: what they may be called, and which model folders a mount holds."""

import pytest

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.volume import (
    ModelPlace,
    check_volume_name,
    is_model_folder,
    model_files,
    model_place,
)


@pytest.mark.parametrize("name", ["weights", "a", "Team_a.v2", "x" * 64])
def test_a_name_is_that_of_a_directory(name: str) -> None:
    assert check_volume_name(name) == name


@pytest.mark.parametrize(
    "name", ["", ".", "..", "../x", "a/b", ".hidden", "a.", "-a", "x" * 65, "ä"]
)
def test_a_name_that_leads_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        check_volume_name(name)
    assert refused.value.code == "invalid_name"


def test_a_bucket_is_said_to_be_one() -> None:
    with pytest.raises(InvalidInput, match="volume cp") as refused:
        check_volume_name("s3://bucket/models")
    assert refused.value.code == "bucket_mount"


@pytest.mark.parametrize(
    ("parts", "place"),
    [
        (("models",), ModelPlace()),
        (("models", "checkpoints"), ModelPlace("checkpoints")),
        (("ComfyUI", "models", "unet"), ModelPlace("diffusion_models")),
        (("models", "models", "loras", "styles", "a"), ModelPlace("loras", "styles/a/")),
        (("output",), None),
    ],
)
def test_a_mount_holds_what_its_path_says(parts: tuple[str, ...], place: ModelPlace | None) -> None:
    assert model_place(parts) == place


def test_no_code_and_no_paths_come_from_a_volume() -> None:
    assert all(map(is_model_folder, ("checkpoints", "ipadapter", "my-models.v2")))
    for name in ("custom_nodes", "base_path", "is_default", ".git", "", "a/b", "a\n/etc"):
        assert not is_model_folder(name)


def test_files_are_named_as_their_folder_lists_them() -> None:
    files = ["clip/t5.safetensors", "loras/a/b.pt", "README.md", ".cache/x.pt", "loras/c.pt"]
    assert model_files(ModelPlace(), files) == {
        "text_encoders": frozenset({"t5.safetensors"}),
        "loras": frozenset({"a/b.pt", "c.pt"}),
    }
    assert model_files(ModelPlace("loras", "styles/"), ["x.pt", "sub/y.pt", ".z.pt"]) == {
        "loras": frozenset({"styles/x.pt", "styles/sub/y.pt"})
    }
