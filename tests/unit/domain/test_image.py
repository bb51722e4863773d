"""Image specs: their digest is their identity, and what makes no sense is refused with a reason."""

import json
from typing import Any

import pytest

from comfyserve.domain.errors import InvalidInput
from comfyserve.domain.image import ImageSpec, read_image
from comfyserve.domain.image_sources import ModelFile, parse_custom_node, parse_model
from comfyserve.domain.image_steps import (
    BuildSecrets,
    ComfyUIDir,
    ComfyUISource,
    Command,
    CustomNodes,
    Env,
    ImageStep,
    LocalFiles,
    Models,
    Packages,
)

_DIGEST = "ab" * 32
_EVERY_STEP: tuple[ImageStep, ...] = (
    ComfyUISource("v0.3.64", "https://example.com/comfy.git"),
    Packages(("numpy==2.1.0", "--extra-index-url https://example.com/simple")),
    Command("echo 'ü' > note.txt"),
    Env({"B": "2", "A": ""}),
    BuildSecrets(("HF_TOKEN",)),
    LocalFiles(_DIGEST, "nodes/mine"),
    CustomNodes(("comfyui-impact-pack@8.0", "https://example.com/me/pack.git@v1")),
    Models((ModelFile("hf://owner/repo/a.safetensors", "checkpoints", sha256=_DIGEST),)),
)


def test_a_spec_comes_back_from_its_json_the_same() -> None:
    spec = ImageSpec("3.11", _EVERY_STEP)
    again = read_image(json.loads(spec.canonical()))
    assert again == spec
    assert again.digest == spec.digest


def test_equal_specs_have_one_digest_and_different_ones_another() -> None:
    one = ImageSpec(steps=(Env({"A": "1", "B": "2"}),))
    same = ImageSpec(steps=(Env({"B": "2", "A": "1"}),))
    others = [
        ImageSpec(steps=(Env({"A": "1", "B": "3"}),)),
        ImageSpec("3.12", one.steps),
        ImageSpec(steps=(*one.steps, Command("true"))),
        ImageSpec(base_image="debian:12"),
    ]
    assert one.digest == same.digest
    assert len({one.digest, *(other.digest for other in others)}) == 5


def test_pythons_of_the_same_meaning_are_one() -> None:
    assert read_image({"python_version": "python3.11"}) == ImageSpec("3.11")
    assert read_image({"python_version": "python3"}) == ImageSpec() == read_image({})


@pytest.mark.parametrize(
    ("document", "says"),
    [
        ([], "an image is a JSON object, not list"),
        ({"step": []}, "unknown field 'step'; there is: base_image"),
        ({"steps": {}}, "steps must be a list, not dict"),
        ({"python_version": 3.11}, "python_version must be text, not float"),
        ({"python_version": "2.7"}, "python_version '2.7' is not a Python version; give '3.11'"),
        ({"steps": ["x"]}, "step 1: a step is a JSON object, not str"),
        ({"steps": [{"kind": "magic"}]}, "step 1: unknown kind 'magic'; there is: packages"),
        ({"steps": [{"kind": "command"}]}, "step 1 (command): it needs command"),
        ({"steps": [{"kind": "command", "command": " "}]}, "command: it is empty"),
        ({"steps": [{"kind": "command", "command": "a", "x": 1}]}, "unknown field 'x'"),
        ({"steps": [{"kind": "packages", "packages": "numpy"}]}, "packages must be a list"),
        ({"steps": [{"kind": "packages", "packages": []}]}, "packages: the list is empty"),
        ({"steps": [{"kind": "packages", "packages": ["-e ."]}]}, "bring it with add_local_path"),
        ({"steps": [{"kind": "env", "values": {"A-B": "1"}}]}, "'A-B' cannot name a variable"),
        ({"steps": [{"kind": "env", "values": {"HOME": "1"}}]}, "HOME is set by the builder"),
        ({"steps": [{"kind": "secrets", "names": ["a b"]}]}, "give names, never values"),
        (
            {"steps": [{"kind": "local_path", "source": _DIGEST, "target": "../x"}]},
            "must be a path inside the workspace",
        ),
        ({"steps": [{"kind": "local_path", "source": "x", "target": "y"}]}, "not a digest"),
        ({"steps": [{"kind": "comfyui", "version": "--upload-pack=x"}]}, "version cannot be"),
        ({"steps": [{"kind": "comfyui_dir", "path": "ComfyUI"}]}, "path must be absolute"),
        ({"steps": [{"kind": "comfyui"}, {"kind": "comfyui"}]}, "an image has one ComfyUI"),
        (
            {
                "steps": [
                    {"kind": "comfyui_dir", "path": "/c"},
                    {"kind": "command", "command": "a"},
                ]
            },
            "only with_envs can follow, not command",
        ),
        ({"steps": [{"kind": "custom_nodes", "nodes": ["no spaces"]}]}, "neither a registry id"),
        ({"steps": [{"kind": "models", "files": [{"source": "x"}]}]}, "needs source and folder"),
        ({"steps": [{"kind": "command", "command": "a"}] * 300}, "256 steps at most, not 300"),
        ({"base_image": "a", "dockerfile": "b"}, "not both"),
    ],
)
def test_what_makes_no_sense_is_refused_with_its_reason(document: Any, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        read_image(document)
    assert says in refused.value.message
    assert refused.value.code == "invalid_image"


@pytest.mark.parametrize(
    ("text", "source", "ref", "directory"),
    [
        ("comfyui-impact-pack", "comfyui-impact-pack", None, "comfyui-impact-pack"),
        ("ComfyUI-Impact-Pack@8.0.1", "comfyui-impact-pack", "8.0.1", "comfyui-impact-pack"),
        ("https://h.example/o/Pack.git@v1.2", "https://h.example/o/Pack.git", "v1.2", "Pack"),
        ("https://me@h.example/o/pack", "https://me@h.example/o/pack", None, "pack"),
        ("git@h.example:o/pack.git@main", "git@h.example:o/pack.git", "main", "pack"),
        ("/srv/packs/mine@abc123", "/srv/packs/mine", "abc123", "mine"),
    ],
)
def test_custom_nodes_are_registry_ids_or_repositories(
    text: str, source: str, ref: str | None, directory: str
) -> None:
    node = parse_custom_node(text)
    assert (node.source, node.ref, node.directory) == (source, ref, directory)


@pytest.mark.parametrize("text", ["", "a b", "https://h.example/..", "https://h.example/x@--evil"])
def test_what_is_no_custom_node_is_refused(text: str) -> None:
    with pytest.raises(InvalidInput, match="neither a registry id"):
        parse_custom_node(text)


def test_models_are_written_as_source_and_place() -> None:
    hub = parse_model("hf://owner/repo@v1.0/sub/a.safetensors -> checkpoints")
    assert hub.hub_parts() == ("owner/repo", "v1.0", "sub/a.safetensors")
    assert (hub.folder, hub.file_name) == ("checkpoints", "a.safetensors")
    named = parse_model(
        f"https://h.example/api/download/42?type=Model@sha256:{_DIGEST} -> models/loras/x.pt", "KEY"
    )
    assert named == ModelFile(
        "https://h.example/api/download/42?type=Model", "loras", "x.pt", _DIGEST, "KEY"
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("https://h.example/a.pt", "write SOURCE -> FOLDER"),
        ("ftp://h.example/a.pt -> loras", "give an https:// address or hf://"),
        ("hf://justone/a.pt -> loras", "a hub file is hf://OWNER/REPO/FILE"),
        ("https://h.example/download/7 -> loras", "no file name; write FOLDER/NAME"),
        ("https://h.example/a.pt -> ../etc", "must be one below models/"),
    ],
)
def test_what_is_no_model_is_refused(text: str, says: str) -> None:
    with pytest.raises(InvalidInput) as refused:
        parse_model(text)
    assert says in refused.value.message


def test_an_installation_as_it_is_may_only_get_variables() -> None:
    ImageSpec(steps=(ComfyUIDir("/srv/ComfyUI"), Env({"A": "1"}))).check()
