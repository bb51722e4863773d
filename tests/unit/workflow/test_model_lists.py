"""Lists of model files follow the files; what only looks like one stays as it was."""

from collections.abc import Mapping
from typing import Any

from comfyserve.workflow.catalog import NodeCatalog
from comfyserve.workflow.model_lists import FolderChange, folder_changes, with_changes


def node(**required: Any) -> dict[str, Any]:
    return {"input": {"required": required}, "output": [], "output_node": False}


def patched(info: Mapping[str, Any], **changes: FolderChange) -> dict[str, Any]:
    found = with_changes(info, NodeCatalog.from_object_info(info), changes)
    return {
        f"{name}.{key}": spec
        for name, entry in found.items()
        for key, spec in entry["input"]["required"].items()
        if spec != info[name]["input"]["required"][key]
    }


def test_a_folder_changes_by_what_went_and_came() -> None:
    recorded = {"loras": ["a.pt", "b.pt", "local.gguf"], "vae": ["v.pt"]}
    changes = folder_changes(
        recorded,
        {"loras": frozenset({"a.pt", "b.pt"}), "vae": frozenset({"v.pt"})},
        {
            "loras": frozenset({"a.pt", "new.safetensors", "n.gguf", "notes.txt", "noending"}),
            "vae": frozenset({"v.pt"}),
            "custom_nodes": frozenset({"x.pt"}),
            "configs": frozenset({"c.yaml", "c.pt"}),
        },
    )
    assert changes == {
        "loras": FolderChange(
            frozenset(recorded["loras"]),
            frozenset({"b.pt"}),
            frozenset({"new.safetensors", "n.gguf"}),
        ),
        "configs": FolderChange(frozenset(), frozenset(), frozenset({"c.yaml"})),
    }
    assert changes["loras"].now(recorded["loras"]) == [
        "a.pt", "local.gguf", "n.gguf", "new.safetensors",
    ]  # fmt: skip
    assert folder_changes(recorded, {}, {}) == {}


def test_every_input_that_lists_the_folder_follows() -> None:
    info = {
        "LoraLoader": node(lora_name=[["a.pt", "b.pt"], {"tooltip": "x"}], model=["MODEL"]),
        "Stacker": node(first=["COMBO", {"options": ["None", "a.pt", "b.pt"], "default": "None"}]),
        "Chooser": node(mode=[["a.pt"]]),
        "LoraMode": node(lora_mode=[["full", "fast"]]),
        "Broken": {"input": "none"},
        "Malformed": [],
    }
    change = FolderChange(
        frozenset({"a.pt", "b.pt"}), frozenset({"b.pt"}), frozenset({"c.pt", "A.pt"})
    )
    assert patched(info, loras=change) == {
        "LoraLoader.lora_name": [["A.pt", "a.pt", "c.pt"], {"tooltip": "x"}],
        "Stacker.first": [
            "COMBO", {"options": ["None", "A.pt", "a.pt", "c.pt"], "default": "None"},
        ],
    }  # fmt: skip


def test_a_folder_that_was_empty_fills_the_lists_that_were() -> None:
    info = {
        "CheckpointLoaderSimple": node(ckpt_name=[[], {}]),
        "VAELoader": node(vae_name=[["pixel_space"]]),
        "MyCheckpointLoader": node(ckpt=["COMBO", {"options": []}]),
        "SaveCheckpoint": node(checkpoint_format=[["safetensors", "pt"]]),
    }
    new = FolderChange(frozenset(), frozenset(), frozenset({"x.pt"}))
    assert patched(info, checkpoints=new, vae=new) == {
        "CheckpointLoaderSimple.ckpt_name": [["x.pt"], {}],
        "VAELoader.vae_name": [["pixel_space", "x.pt"]],
        "MyCheckpointLoader.ckpt": ["COMBO", {"options": ["x.pt"]}],
    }
