"""The `Image` chain: immutable values, refused at the call, compiled to a spec."""

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.image import read_image
from comfyserve.domain.image_steps import Command, LocalFiles, Packages
from comfyserve.sdk.archive import Archive
from comfyserve.sdk.image import Image


def test_each_call_gives_a_new_value_and_leaves_the_old_one() -> None:
    base = Image(python_version="3.11")
    longer = base.add_commands(["true"])
    assert base.compile().spec.steps == ()
    assert longer.compile().spec.steps == (Command("true"),)
    assert longer == Image("3.11", commands=["true"])
    assert longer != base
    assert len({base, longer, Image("3.11")}) == 2


def test_the_chain_shows_itself_as_it_was_written() -> None:
    image = (
        Image.comfyui("v0.3.64")
        .add_python_packages(["numpy"])
        .with_envs({"TOKEN": "not shown"})
        .with_secrets("KEY")
    )
    assert repr(image) == (
        "Image.comfyui('v0.3.64').add_python_packages(['numpy']).with_envs(['TOKEN'])"
        ".with_secrets('KEY')"
    )


def test_the_spec_of_a_whole_chain_can_be_read_again(tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_text("NODE_CLASS_MAPPINGS = {}\n")
    image = (
        Image("3.11", ["pillow"], env_vars="A=1")
        .add_local_path(tmp_path / "pack", "ComfyUI/custom_nodes/pack")
        .add_custom_nodes(["comfyui-impact-pack@8.0"])
        .add_models(["https://example.com/a.safetensors -> loras"], secret="CIVITAI")
    )
    compiled = image.compile()
    assert read_image(compiled.spec.to_json()) == compiled.spec
    (digest,) = compiled.archives
    assert LocalFiles(digest, "ComfyUI/custom_nodes/pack") in compiled.spec.steps


def test_a_requirements_file_is_read_with_those_that_it_names(tmp_path: Path) -> None:
    file = tmp_path / "requirements.txt"
    file.write_text("# torch comes first\n-r more.txt\nnumpy \\\n >=2  # numbers\n\n")
    (tmp_path / "more.txt").write_text("pillow\n")
    image = Image().add_python_packages(file)
    assert image.compile().spec.steps == (Packages(("pillow", "numpy   >=2")),)
    (tmp_path / "more.txt").write_text("-r requirements.txt\n")
    with pytest.raises(InvalidInput, match="includes itself"):
        image.compile()


def test_the_same_files_are_the_same_archive_wherever_they_lie(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name / "sub").mkdir(parents=True)
        (tmp_path / name / "sub" / "b.py").write_text("b")
        (tmp_path / name / "a.sh").write_text("a")
        (tmp_path / name / "a.sh").chmod(0o755)
        (tmp_path / name / "link").symlink_to("a.sh")
        (tmp_path / name / "__pycache__").mkdir()
        (tmp_path / name / "__pycache__" / "x.pyc").write_text(name)
    one, two = Archive(tmp_path / "one"), Archive(tmp_path / "two", ("*.log",))
    assert one.digest == two.digest
    (tmp_path / "two" / "sub" / "b.py").write_text("c")
    (tmp_path / "two" / "noise.log").write_text("left out")
    assert one.digest != two.digest
    data = io.BytesIO()
    two.write_to(data)
    data.seek(0)
    with tarfile.open(fileobj=data) as archive:
        assert archive.getnames() == ["a.sh", "link", "sub", "sub/b.py"]


@pytest.mark.parametrize(
    ("call", "says"),
    [
        (lambda: Image("2.7"), "python_version '2.7'"),
        (lambda: Image().add_local_path("/no/such"), "add_local_path: there is no '/no/such'"),
        (lambda: Image().add_local_path("/etc/hosts", "../x"), "inside the workspace"),
        (lambda: Image().add_python_packages("/no/such.txt"), "there is no '/no/such.txt'"),
        (lambda: Image().add_python_packages([]), "the list is empty"),
        (lambda: Image().with_envs("A"), "write NAME=VALUE"),
        (lambda: Image().with_secrets(["s3cr3t value"]), "give names, never values"),
        (lambda: Image().add_custom_nodes("what is this"), "neither a registry id"),
        (lambda: Image().add_models("x.safetensors"), "write SOURCE -> FOLDER"),
        (lambda: Image.comfyui(source="/no/such"), "there is no '/no/such'"),
        (lambda: Image.from_comfyui_dir("/etc"), "has no main.py"),
        (lambda: Image.from_dockerfile("/no/Dockerfile"), "there is no '/no/Dockerfile'"),
    ],
)
def test_a_mistake_is_refused_at_the_call(call: Callable[[], Image], says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        call()
    assert says in refused.value.message


def test_a_dockerfile_is_compiled_into_the_spec(tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM debian:12\n")
    spec = Image.from_dockerfile(tmp_path / "Dockerfile").compile().spec
    assert spec.dockerfile == "FROM debian:12\n"
    assert spec.needs_container_engine
