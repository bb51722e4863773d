"""What a workflow needs: models and their folders, node packs, files, and how to get what is missing."""

import gzip
import json
import shlex
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.workflow.catalogs import INFO, entry
from tests.unit.workflow.interface_samples import node, slot, ui, ui_node

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.prepare import prepare
from comfyserve.workflow.requirements import (
    InputFile,
    KnownModel,
    ModelFile,
    NodePack,
    Requirements,
    known_model,
    requirements,
)

_LORAS = ["a.safetensors", "style/b.safetensors"]
_MORE: dict[str, Any] = {
    "LoraLoader": entry({"lora_name": [_LORAS]}, output=["MODEL"]),
    "CLIPVisionLoader": entry({"clip_name": [["vision.safetensors"]]}, output=["CLIP_VISION"]),
    "UpscaleModelLoader": entry({"model_name": [[]]}, output=["UPSCALE_MODEL"]),
    "PackLoader": entry({"weights": [_LORAS]}, python_module="custom_nodes.pack"),
    "PackVae": entry({"vae_file": [["q.safetensors"]]}, python_module="custom_nodes.pack"),
    "PackThing": entry({"file": ["STRING"]}, python_module="custom_nodes.pack"),
    "PowerLora": entry({"text": ["STRING"]}, python_module="custom_nodes.pack"),
}
_URL = "https://models.example/{}"


def catalog() -> NodeCatalog:
    return NodeCatalog.from_object_info({**INFO, **_MORE}, version="0.26.0")


def models(workflow: Any, using: NodeCatalog | None = None) -> dict[str, tuple[str, bool | None]]:
    needed = requirements(workflow, using or catalog())
    return {each.name: (each.directory, each.is_present) for each in needed.models}


def test_models_of_an_api_prompt_are_told_by_inputs_and_choices() -> None:
    prompt = {
        "1": node("CheckpointLoaderSimple", ckpt_name="dreamshaper_8.safetensors"),
        "2": node("CheckpointLoaderSimple", ckpt_name="missing.safetensors"),
        "3": node("LoraLoader", lora_name="style/b.safetensors"),
        "4": node("CLIPVisionLoader", clip_name="vision.safetensors"),
        "5": node("PackLoader", weights="a.safetensors"),
        "6": node("PackThing", file="my_controlnet.pth"),
        "7": node("UnknownLoader", unet_name="x.gguf", other="plain text"),
        "8": node("UpscaleModelLoader", model_name="4x.pth"),
        "9": node("Unknown", weights="who.knows.pt", control_net_name="c.safetensors"),
        "10": node("Unknown", lora_name="a.safetensors"),
        "11": node("Unknown", lora_name="z.safetensors"),
        "12": node("PackVae", vae_file="q.safetensors"),
    }
    assert models(prompt) == {
        "dreamshaper_8.safetensors": ("checkpoints", True),
        "missing.safetensors": ("checkpoints", False),
        "style/b.safetensors": ("loras", True),
        "vision.safetensors": ("clip_vision", True),
        "a.safetensors": ("loras", True),
        "my_controlnet.pth": ("", None),
        "x.gguf": ("diffusion_models", None),
        "4x.pth": ("upscale_models", False),
        "who.knows.pt": ("", None),
        "c.safetensors": ("controlnet", None),
        "z.safetensors": ("loras", False),
        "q.safetensors": ("vae", True),
    }


def test_a_model_that_is_used_twice_is_listed_once() -> None:
    loader = node("CheckpointLoaderSimple", ckpt_name="dreamshaper_8.safetensors")
    (only,) = requirements({"1": loader, "2": loader}, catalog()).models
    assert [place.node_id for place in only.places] == ["1", "2"]


def test_rows_of_lists_and_embeddings_in_texts_are_models_too() -> None:
    prompt = {
        "1": node("PowerLora", lora_1={"on": True, "lora": "c.safetensors", "strength": 1}),
        "2": node("Text", text="a cat, (embedding:style/easynegative:1.2), embedding:bad.pt."),
        "3": node("Text", text=5),
        "4": None,
    }
    assert models(prompt) == {
        "c.safetensors": ("loras", None),
        "style/easynegative": ("embeddings", None),
        "bad.pt": ("embeddings", None),
    }


def _loader(name: str, told: list[Any], **more: Any) -> dict[str, Any]:
    return ui_node(1, "CheckpointLoaderSimple", [name], properties={"models": told, **more})


def test_a_ui_workflow_says_where_models_are_from() -> None:
    told = {
        "name": "big.safetensors",
        "url": _URL.format("big"),
        "directory": "checkpoints",
        "hash": "AB" * 32,
        "hash_type": "SHA256",
        "size": 7,
    }
    stale = {"name": "old.safetensors", "url": _URL.format("old"), "directory": "checkpoints"}
    needed = requirements(ui([_loader("sub/big.safetensors", [told, stale])], []), catalog())
    (only,) = needed.models
    assert (only.url, only.sha256, only.size_bytes) == (_URL.format("big"), "ab" * 32, 7)
    assert needed.download_bytes == 7
    assert needed.models_of_unknown_size == 0
    (fix,) = needed.fixes
    assert shlex.split(fix.command) == [
        *("comfy", "model", "download", "--url", _URL.format("big")),
        *("--relative-path", "models/checkpoints/sub", "--filename", "big.safetensors"),
    ]
    assert (
        fix.sdk == f".add_models(['{_URL.format('big')} @sha256:{'ab' * 32} -> checkpoints/sub'])"
    )


def test_without_a_catalog_the_needs_are_listed_all_the_same() -> None:
    told = {"name": "big.safetensors", "url": _URL.format("big"), "directory": "checkpoints"}
    workflow = ui([_loader("big.safetensors", [told])], [])
    (only,) = requirements(workflow).models
    assert (only.name, only.directory, only.is_present) == ("big.safetensors", "checkpoints", None)
    assert requirements(workflow).is_complete, "nothing is known to lack"
    assert requirements(workflow).fixes == ()


def test_models_of_muted_and_editor_nodes_do_not_count() -> None:
    nodes = [
        {**ui_node(1, "MysteryLoader", ["a_lora.safetensors"]), "mode": 2},
        ui_node(2, "Note", ["see b.safetensors"]),
        ui_node(3, "MysteryLoraLoader", {"file": "c.safetensors"}),
    ]
    assert models(ui(nodes, [])) == {"c.safetensors": ("loras", False)}


def test_an_index_fills_in_what_the_workflow_leaves_out() -> None:
    prompt = {"1": node("CheckpointLoaderSimple", ckpt_name="missing.safetensors")}
    index = [KnownModel("missing.safetensors", "checkpoints", _URL.format("m"), size_bytes=10)]
    needed = requirements(prompt, catalog(), index=index)
    assert needed.models[0].url == _URL.format("m")
    assert needed.download_bytes == 10
    top = {
        **ui([_loader("missing.safetensors", [])], []),
        "models": [{"name": "missing.safetensors", "url": _URL.format("t")}, "odd"],
    }
    assert requirements(top, catalog()).models[0].url == _URL.format("t")
    (fix,) = requirements(prompt, catalog()).fixes
    assert "nobody says where it is from" in fix.what
    assert requirements(prompt, catalog()).models_of_unknown_size == 1


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (None, None),
        ({}, None),
        ({"name": ""}, None),
        ({"name": "a" * 600}, None),
        ({"name": "a"}, KnownModel("a")),
        ({"name": "a", "url": "file:///etc/passwd"}, KnownModel("a")),
        ({"name": "a", "url": "https://x/ y"}, KnownModel("a")),
        ({"name": "a", "url": "https://x/" + "y" * 3000}, KnownModel("a")),
        ({"name": "a", "url": "hf://o/r/f"}, KnownModel("a", url="hf://o/r/f")),
        ({"name": "a", "directory": "../../etc"}, KnownModel("a")),
        ({"name": "a", "directory": "loras/x"}, KnownModel("a", "loras/x")),
        ({"name": "a", "hash": "ab", "hash_type": "SHA256"}, KnownModel("a")),
        ({"name": "a", "hash": "ab" * 32, "hash_type": "md5"}, KnownModel("a")),
        ({"name": "a", "hash": 5, "hash_type": "sha-256"}, KnownModel("a")),
        ({"name": "a", "size": -1}, KnownModel("a")),
        ({"name": "a", "size": True}, KnownModel("a")),
    ],
)
def test_odd_descriptions_of_models_are_left_out(told: Any, known: KnownModel | None) -> None:
    assert known_model(told) == known


def _classes(*nodes: dict[str, Any]) -> tuple[NodePack, ...]:
    return requirements(ui(list(nodes), []), catalog()).packs


def test_packs_are_told_by_what_the_editor_noted() -> None:
    packs = _classes(
        ui_node(1, "Alpha", properties={"cnr_id": "comfyui-alpha", "ver": "1.2.0"}),
        ui_node(2, "AlphaToo", properties={"cnr_id": "comfyui-alpha", "ver": "1.2.0"}),
        ui_node(3, "Beta", properties={"aux_id": "owner/Beta-Nodes", "ver": "0a1b2c"}),
        ui_node(4, "Gamma"),
        ui_node(5, "PackThing", properties={"cnr_id": "pack"}),
        ui_node(6, "EmptyImage", properties={"cnr_id": "comfy-core", "ver": "0.3.40"}),
        ui_node(7, "BrandNew", properties={"cnr_id": "comfy-core", "ver": "0.99.0"}),
        ui_node(8, "Odd", properties={"cnr_id": "a b; rm -rf /", "ver": 5}),
        ui_node(9, "OddVersion", properties={"cnr_id": "pack-two", "ver": "$(reboot)"}),
    )
    assert {(each.id, each.version, each.classes, each.is_present) for each in packs} == {
        ("comfyui-alpha", "1.2.0", ("Alpha", "AlphaToo"), False),
        ("owner/Beta-Nodes", "0a1b2c", ("Beta",), False),
        ("", "", ("Gamma", "Odd"), False),
        ("pack", "", ("PackThing",), True),
        ("comfy-core", "0.99.0", ("BrandNew",), False),
        ("pack-two", "", ("OddVersion",), False),
    }


def test_each_missing_pack_has_its_fix() -> None:
    nodes = [
        ui_node(1, "Alpha", properties={"cnr_id": "comfyui-alpha", "ver": "1.2.0"}),
        ui_node(2, "Beta", properties={"aux_id": "owner/Beta-Nodes", "ver": "0a1b2c"}),
        ui_node(3, "Gamma"),
        ui_node(4, "BrandNew", properties={"cnr_id": "comfy-core", "ver": "0.99.0"}),
        ui_node(5, "Delta", properties={"aux_id": "owner/delta"}),
        ui_node(6, "Eps", properties={"cnr_id": "eps"}),
        ui_node(7, "NewToo", properties={"cnr_id": "comfy-core"}),
    ]
    needed = requirements(ui(nodes, []), catalog())
    assert [(each.command, each.sdk) for each in needed.fixes] == [
        ("comfy node install comfyui-alpha@1.2.0", ".add_custom_nodes(['comfyui-alpha@1.2.0'])"),
        (
            "git clone https://github.com/owner/Beta-Nodes custom_nodes/Beta-Nodes",
            ".add_custom_nodes(['https://github.com/owner/Beta-Nodes@0a1b2c'])",
        ),
        ("", ""),
        ("comfy update comfy", "Image.comfyui(version='0.99.0')"),
        (
            "git clone https://github.com/owner/delta custom_nodes/delta",
            ".add_custom_nodes(['https://github.com/owner/delta'])",
        ),
        ("comfy node install eps", ".add_custom_nodes(['eps'])"),
        ("comfy update comfy", ""),
    ]
    assert "Gamma" in needed.fixes[2].what
    assert needed.missing == needed.packs


def test_the_newest_core_that_a_node_was_saved_with_is_told() -> None:
    nodes = [
        ui_node(1, "EmptyImage", properties={"cnr_id": "comfy-core", "ver": "0.3.40"}),
        ui_node(2, "EmptyImage", properties={"cnr_id": "comfy-core", "ver": "0.12.1"}),
        ui_node(3, "EmptyImage", properties={"cnr_id": "comfy-core", "ver": "nightly"}),
        ui_node(4, "EmptyImage", properties={"cnr_id": "comfy-core", "ver": "0.99 x"}),
        ui_node(5, "EmptyImage", properties={"cnr_id": "other", "ver": "9.9.9"}),
    ]
    assert requirements(ui(nodes, []), catalog()).comfyui_version == "0.12.1"
    assert requirements({}, catalog()).comfyui_version == ""


def test_input_files_are_looked_up() -> None:
    prompt = {
        "1": node("LoadImage", image="cat.png"),
        "2": node("LoadImage", image="my cat's.png"),
        "3": node("LoadImage", image=""),
        "4": node("LoadImage", image=["1", 0]),
    }
    needed = requirements(prompt, catalog())
    assert [(each.name, each.is_present) for each in needed.files] == [
        ("cat.png", True),
        ("my cat's.png", False),
    ]
    (fix,) = needed.fixes
    assert shlex.split(fix.command)[:3] == ["curl", "-F", "image=@my cat's.png"]
    there = requirements(prompt, catalog().with_input_files(["my cat's.png", "sub/x.png"]))
    assert [each.is_present for each in there.files] == [False, True]
    assert requirements(prompt).files == ()


def test_a_mesh_that_is_none_is_no_file_to_upload() -> None:
    info = {"Load3D": entry({"model_file": [["3d/a.glb"], {"file_upload": True}]})}
    using = NodeCatalog.from_object_info(info)
    needed = requirements({"1": node("Load3D", model_file="none")}, using)
    assert needed.is_complete


def test_the_json_form_names_everything() -> None:
    workflow = ui(
        [
            ui_node(1, "LoadImage", ["gone.png", "image"]),
            ui_node(2, "Alpha", ["x.safetensors"], properties={"cnr_id": "alpha"}),
            ui_node(3, "SaveImage", ["x"], [slot("images", 5)]),
        ],
        [[5, 1, 0, 3, 0, "IMAGE"]],
    )
    prepared = prepare(workflow, catalog())
    body = requirements(prepared, catalog()).to_json()
    assert json.loads(json.dumps(body)) == body
    assert body["complete"] is False
    assert body["files"][0]["present"] is False
    assert body["packs"][0]["id"] == "alpha"
    assert body["models"][0]["directory"] is None
    assert len(body["fixes"]) == 2
    assert Requirements().to_json()["complete"] is True


def test_what_is_missing_comes_in_the_order_in_which_to_get_it() -> None:
    prompt = {
        "1": node("LoadImage", image="gone.png"),
        "2": node("CheckpointLoaderSimple", ckpt_name="gone.safetensors"),
        "3": node("Nope"),
    }
    missing = requirements(prompt, catalog()).missing
    assert [type(each) for each in missing] == [NodePack, ModelFile, InputFile]


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8) | st.just("x.safetensors"),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3)
    ),
    max_leaves=10,
)
_PROPERTIES = st.dictionaries(
    st.sampled_from(["models", "cnr_id", "aux_id", "ver"]), _JSON, max_size=4
)


@given(
    _JSON
    | st.lists(
        st.builds(
            lambda kind, values, properties: ui_node(1, kind, values, properties=properties),
            st.sampled_from(["LoadImage", "Nope", "CheckpointLoaderSimple"]),
            _JSON,
            _PROPERTIES,
        ),
        max_size=3,
    ).map(lambda nodes: ui(nodes, []))
)
def test_anything_has_requirements(workflow: Any) -> None:
    json.dumps(requirements(workflow, catalog()).to_json())
    json.dumps(requirements(workflow).to_json())


@pytest.mark.corpora
def test_every_model_of_the_corpus_has_its_folder(
    corpora: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    info = json.loads(gzip.decompress((corpora / "object_info-0.33.0.json.gz").read_bytes()))
    using = NodeCatalog.from_object_info(info)
    count = with_url = 0
    with gzip.open(corpora / "comfyui-0.33.0-frontend-1.49.6.pairs.jsonl.gz", "rt") as lines:
        for line in lines:
            pair = json.loads(line)
            told = requirements(pair["ui"], using).models
            bare = {each.name: each.directory for each in requirements(pair["api"], using).models}
            assert bare == {each.name: each.directory for each in told}, pair["name"]
            stated = _stated(pair["ui"])
            for each in told:
                base = each.name.rpartition("/")[2]
                count += 1
                with_url += bool(each.url)
                assert each.directory == stated.get(base, each.directory), pair["name"]
    with capsys.disabled():
        print(f"\nmodels: {count} found with folder, {with_url} of them with URL")  # noqa: T201 - the score
    assert with_url > count * 0.95


def _stated(workflow: Any) -> dict[str, str]:
    """Return the folders that the workflow itself states."""
    graphs = [workflow, *(workflow.get("definitions") or {}).get("subgraphs", [])]
    return {
        model["name"]: model["directory"]
        for graph in graphs
        for each in graph["nodes"]
        for model in (each.get("properties") or {}).get("models") or []
    }
