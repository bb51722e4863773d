"""ComfyUI and its custom nodes: from repositories, directories and the registry, with a lock."""

import io
import json
import zipfile
from pathlib import Path

import pytest
from tests.unit.build.conftest import Yard
from tests.unit.build.supplies import COMFYUI, make_repository, make_wheel

from comfyserve.build.executor import BuildFailed
from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.image_steps import ComfyUISource, CustomNodes

_PACK = {"__init__.py": "NODE_CLASS_MAPPINGS = {}\n"}


@pytest.fixture
def comfyui(tmp_path: Path) -> Path:
    """A repository with a tag, and a later commit."""
    source = make_repository(tmp_path / "comfyui", {**COMFYUI, "version": "one"}, "v1.0")
    return make_repository(source, {"version": "two"})


async def test_comfyui_at_a_tag_with_its_requirements(
    yard: Yard, comfyui: Path, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, "needed", "1.0", "")
    source = make_repository(comfyui, {"requirements.txt": f"{wheel}\n"}, "v2.0")
    old = await yard.build(ComfyUISource("1.0", str(source)))
    new = await yard.build(ComfyUISource("v2.0", str(source)))
    assert old.comfyui_dir is not None
    assert old.comfyui_dir == old.workspace / "ComfyUI"
    assert (old.comfyui_dir / "version").read_text() == "one"
    assert not list(old.python.parent.parent.glob("lib/*/site-packages/needed.py"))
    assert list(new.python.parent.parent.glob("lib/*/site-packages/needed.py"))
    assert new.lock["comfyui"].startswith(f"{source}@")
    assert len(new.lock["comfyui"].rpartition("@")[2]) == 40
    assert (old.comfyui_dir / "__pycache__").is_dir(), "compiled once, not at each start"


async def test_a_version_that_is_not_there_is_named(yard: Yard, comfyui: Path) -> None:
    with pytest.raises(BuildFailed, match=r"git has no '9\.9' at .*comfyui, or cannot reach it"):
        await yard.build(ComfyUISource("9.9", str(comfyui)))


async def test_a_directory_is_copied_as_it_is_now_without_weights(
    yard: Yard, comfyui: Path
) -> None:
    (comfyui / "version").write_text("uncommitted")
    (comfyui / "models" / "checkpoints" / "large.safetensors").write_bytes(bytes(2 * 1024 * 1024))
    (comfyui / "output").mkdir()
    (comfyui / "output" / "picture.png").write_text("mine")
    first = await yard.build(ComfyUISource(source=str(comfyui)))
    assert first.comfyui_dir is not None
    assert (first.comfyui_dir / "version").read_text() == "uncommitted"
    assert not list(first.comfyui_dir.rglob("large.safetensors"))
    assert not list(first.comfyui_dir.rglob("picture.png"))
    assert not (first.comfyui_dir / ".git").exists()
    (comfyui / "version").write_text("changed since then")
    second = await yard.build(ComfyUISource(source=str(comfyui)))
    assert second.comfyui_dir is not None
    assert (second.comfyui_dir / "version").read_text() == "changed since then"
    assert (first.comfyui_dir / "version").read_text() == "uncommitted"


async def test_what_is_no_comfyui_is_refused(yard: Yard, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(BuildFailed, match="is not ComfyUI: it has no main"):
        await yard.build(ComfyUISource(source=str(tmp_path / "empty")))
    with pytest.raises(InvalidInput, match="the server has no directory '/no/such'"):
        await yard.build(ComfyUISource(source="/no/such"))


async def test_custom_nodes_of_a_repository_with_requirements_and_script(
    yard: Yard, comfyui: Path, tmp_path: Path
) -> None:
    wheel = make_wheel(tmp_path, "packed", "1.0", "")
    pack = make_repository(
        tmp_path / "my-pack",
        {
            **_PACK,
            "requirements.txt": str(wheel),
            "install.py": "import packed\nopen('installed', 'w').close()\n",
        },
        "v1",
    )
    make_repository(pack, {"later": ""})
    base = ComfyUISource("v1.0", str(comfyui))
    artifact = await yard.build(base, CustomNodes((f"{pack}@v1",)))
    assert artifact.comfyui_dir is not None
    placed = artifact.comfyui_dir / "custom_nodes" / "my-pack"
    assert (placed / "installed").is_file()
    assert not (placed / "later").exists()
    assert artifact.lock["custom_node my-pack"].startswith(f"{pack}@")
    with pytest.raises(BuildFailed, match="there is a custom node pack 'my-pack' already"):
        await yard.build(base, CustomNodes((f"{pack}@v1", f"{pack}@v1")))


async def test_custom_nodes_of_the_registry_at_a_version(yard: Yard, comfyui: Path) -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as packed:
        packed.writestr("__init__.py", _PACK["__init__.py"])
    release = {"version": "1.2.0", "downloadUrl": "https://cdn.example/pack.zip", "status": "ok"}
    asked = "https://registry.example/nodes/some-pack/install"
    yard.fetcher.pages = {
        f"{asked}?version=1.2.0": json.dumps(release).encode(),
        asked: json.dumps({"error": "not found"}).encode(),
        "https://cdn.example/pack.zip": archive.getvalue(),
    }
    base = ComfyUISource("v1.0", str(comfyui))
    artifact = await yard.build(base, CustomNodes(("some-pack@1.2.0",)))
    assert artifact.comfyui_dir is not None
    assert (artifact.comfyui_dir / "custom_nodes" / "some-pack" / "__init__.py").is_file()
    assert artifact.lock["custom_node some-pack"] == "some-pack@1.2.0"
    with pytest.raises(BuildFailed, match="does not say where 'some-pack' is"):
        await yard.build(base, CustomNodes(("some-pack",)))
    with pytest.raises(BuildFailed, match="nodes/other/install' answered 404"):
        await yard.build(base, CustomNodes(("other",)))


@pytest.mark.slow
async def test_a_broken_archive_is_said_to_be_one(yard: Yard, comfyui: Path) -> None:
    release = {"version": "1.0", "downloadUrl": "https://cdn.example/broken.zip"}
    yard.fetcher.pages = {
        "https://registry.example/nodes/broken/install": json.dumps(release).encode(),
        "https://cdn.example/broken.zip": b"no zip",
    }
    with pytest.raises(BuildFailed, match="archive of custom node pack 'broken' is broken"):
        await yard.build(ComfyUISource("v1.0", str(comfyui)), CustomNodes(("broken",)))


async def test_custom_nodes_need_a_comfyui(yard: Yard) -> None:
    with pytest.raises(BuildFailed, match=r"begin with Image\.comfyui") as failed:
        await yard.build(CustomNodes(("some-pack",)))
    assert failed.value.code == "no_comfyui"
