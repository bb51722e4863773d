"""The node catalog: lenient reading, order, overlays, dynamic inputs, rules by release."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.unit.workflow.catalogs import IMAGES, INFO, INT, RESIZE, catalog, entry, v3_entry

from comfyserve.workflow.catalog import NodeCatalog, upload_kind
from comfyserve.workflow.dynamic import Expander, option_keys
from comfyserve.workflow.input_files import exists, split_annotation
from comfyserve.workflow.rules import OLDEST, guess_version, parse_version, rules_for
from comfyserve.workflow.specs import input_spec, node_class

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
    ),
    max_leaves=12,
)


def test_reads_inputs_in_declared_order_with_unnamed_ones_last() -> None:
    info = {
        "input": {"required": {"b": ["INT"], "a": ["IMAGE"]}, "optional": {"c": ["FLOAT", {}]}},
        "input_order": {"required": ["a", "gone", 5]},
        "output": ["IMAGE"],
    }
    found = NodeCatalog.from_object_info({"X": info}).get("X")
    assert found is not None
    assert [spec.name for spec in found.inputs] == ["a", "b", "c"]
    assert [spec.section for spec in found.inputs] == ["required", "required", "optional"]
    assert found.display_name == "X"
    assert found.output_names == ("IMAGE",)
    assert found.output_is_list == (False,)
    assert found.input("a") is found.inputs[0]
    assert found.input("nope") is None


def test_a_required_input_hides_an_optional_one_of_its_name() -> None:
    found = node_class("X", entry({"a": ["INT"], "b": ["INT"]}, optional={"a": ["FLOAT"]}))
    assert found is not None
    assert [(spec.name, spec.type) for spec in found.inputs] == [("a", "INT"), ("b", "INT")]


def test_a_malformed_entry_hides_only_itself() -> None:
    broken: dict[str, Any] = {
        "NoInput": {"output": []},
        "NoOutput": {"input": {}},
        "Odd": "not an entry",
        "None": None,
    }
    found = NodeCatalog.from_object_info({**broken, **INFO})
    assert "NoInput" not in found
    assert "NoOutput" not in found
    assert "Odd" not in found
    assert "EmptyImage" in found
    assert [each.name for each in found] == list(INFO)


def test_looks_up_anything_without_raising() -> None:
    found = catalog()
    odds: list[Any] = [None, 5, [], {}, "nope", "", True]
    for odd in odds:
        assert found.get(odd) is None
        assert odd not in found
    assert "EmptyImage" in found.names
    assert len(found) == len(INFO)


def test_hidden_inputs_are_kept_apart() -> None:
    raw = entry({"a": INT})
    raw["input"]["hidden"] = {"prompt": "PROMPT", "unique_id": ["UNIQUE_ID"]}
    found = node_class("X", raw)
    assert found is not None
    assert [(spec.name, spec.type) for spec in found.hidden] == [
        ("prompt", "PROMPT"),
        ("unique_id", "UNIQUE_ID"),
    ]
    assert found.input("prompt") is None


@pytest.mark.parametrize(
    ("raw", "kind", "choices", "config"),
    [
        (["INT"], "INT", None, ["INT", {}]),
        ([["a", 1]], "COMBO", ("a", 1), [["a", 1], {}]),
        (["COMBO", {"options": ["a"]}], "COMBO", ("a",), ["COMBO", {"options": ["a"]}]),
        (["COMBO", {}], "COMBO", (), ["COMBO", {}]),
        (["COMBO", None], "COMBO", (), ["COMBO", {}]),
        ([], "None", None, ["None", {}]),
        (None, "None", None, ["None", {}]),
    ],
)
def test_reads_every_spelling_of_a_spec(raw: Any, kind: str, choices: Any, config: Any) -> None:
    spec = input_spec("x", "required", raw)
    assert (spec.type, spec.choices, spec.config) == (kind, choices, config)


@given(JSON)
def test_no_entry_makes_it_raise(odd: Any) -> None:
    found = NodeCatalog.from_object_info(
        {"X": odd, "Y": {"input": odd, "output": [], "input_order": odd}}
    )
    for each in found:
        found.expand(each, {"a": "b"})


def test_file_inputs_offer_the_files_of_their_kind() -> None:
    more: dict[str, Any] = {
        "LoadAudio": entry({"audio": [["x.mp3"], {"audio_upload": True}]}),
        "LoadImageOutput": entry(
            {"image": ["COMBO", {"image_upload": True, "image_folder": "output"}]}
        ),
        "Load3D": entry({"model_file": [["3d/x.glb"], {"file_upload": True}]}),
        "Load3DNew": entry({"model_file": ["COMBO", {"options": ["none"], "file_upload": True}]}),
        "Load3DAnimation": entry({"model_file": [["3d/x.glb"], {"file_upload": True}]}),
    }
    files = [
        *("b.PNG", "a.png", "sub/c.png", "song.mp3", "3d/y.obj", "3d/sub/z.ply", "3d/w.glb"),
        *("made.png [output]", "old.png [temp]", "notes.txt"),
    ]
    found = catalog(files=files, **more)

    def offered(class_type: str, name: str) -> Any:
        spec = found.get(class_type).input(name)  # type: ignore[union-attr]
        return spec.choices if spec else None

    assert offered("LoadImage", "image") == ("a.png", "b.PNG")
    assert offered("LoadAudio", "audio") == ("song.mp3",)
    assert offered("LoadImageOutput", "image") == ("made.png [output]",)
    assert offered("Load3D", "model_file") == ("3d/w.glb", "3d/y.obj")
    assert offered("Load3DNew", "model_file") == ("none", "3d/sub/z.ply", "3d/w.glb", "3d/y.obj")
    assert offered("Load3DAnimation", "model_file") == ("3d/w.glb",)
    assert offered("ImageBlend", "mode") == ("normal", "multiply", "screen")


def test_an_overlay_leaves_the_catalog_as_it_was() -> None:
    plain = catalog()
    before = plain.get("LoadImage")
    plain.with_input_files(["other.png"])
    assert plain.get("LoadImage") is before
    assert upload_kind(before.inputs[0]) == "image"  # type: ignore[union-attr]
    assert upload_kind(input_spec("x", "required", ["STRING", {"image_upload": True}])) is None


@pytest.mark.parametrize(
    ("name", "is_there"),
    [
        ("cat.png", True),
        ("cat.png [input]", True),
        ("cat.png[input]", False),  # ComfyUI cuts nine characters off, the last letter with them
        ("made.png [output]", True),
        ("cat.png [output]", False),
        ("made.png", False),
        ("sub/fish.png", True),
        ("./sub/../cat.png", True),
        ("sub", True),  # a directory is found as well
        ("sub/", True),
        ("cat.png/", False),
        ("", True),
        ("[output]", True),
        ("deep [output]", True),
        ("deep", False),
        ("../secret.png", False),
        ("/etc/passwd", False),
        ("a\0b", False),
    ],
)
def test_finds_files_as_comfyui_does(name: str, is_there: bool) -> None:
    files = {"cat.png", "sub/fish.png", "made.png [output]", "deep/x.png [output]"}
    assert exists(name, files) is is_there


def test_splits_annotations() -> None:
    assert split_annotation("a.png [temp]") == ("a.png", "temp")
    assert split_annotation("a.png") == ("a.png", "input")


def test_a_dynamic_combo_brings_the_inputs_of_its_option() -> None:
    found = catalog().get("Resize")
    assert found is not None

    def names(**given: Any) -> list[str]:
        return [spec.name for spec in catalog().expand(found, given).specs]

    assert names(resize="by width") == ["image", "resize.width", "resize"]
    assert names(resize="nope") == ["image"]
    assert names(resize=["1", 0]) == ["image"]
    assert names() == ["image"]
    nested = {"resize": "by factor", "resize.mode": "x"}
    assert [spec.name for spec in catalog().expand(found, nested).specs] == [
        *("image", "resize.mode", "resize", "resize.mode.deep")
    ]
    assert option_keys(found.inputs[1]) == ["by width", "by factor"]
    assert option_keys(input_spec("x", "required", ["COMFY_DYNAMICCOMBO_V3", {}])) == []


def test_a_growing_input_has_its_first_names_required() -> None:
    found = catalog().get("Batch")
    assert found is not None
    expansion = catalog().expand(found, {})
    assert expansion.is_nested
    assert [(spec.name, spec.section) for spec in expansion.specs] == [
        ("images.image0", "required"),
        ("images.image1", "optional"),
        ("images.image2", "optional"),
        ("images.image3", "optional"),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        ["COMFY_AUTOGROW_V3", {}],
        ["COMFY_AUTOGROW_V3", {"template": {"max": 3}}],
        ["COMFY_AUTOGROW_V3", {"template": {"prefix": "x"}}],
        ["COMFY_AUTOGROW_V3", {"template": {"max": 3, "input": {"required": {}}}}],
        ["COMFY_AUTOGROW_V3"],
        ["COMFY_DYNAMICCOMBO_V3", {"options": [None, {"key": 5}, {"key": "a"}]}],
        ["COMFY_DYNAMICCOMBO_V3", {"options": 5}],
    ],
)
def test_a_malformed_dynamic_input_vanishes(raw: Any) -> None:
    found = node_class("X", v3_entry(required={"x": raw}))
    assert found is not None
    assert Expander(found).expand({"x": "a"}).specs == ()


def test_a_dynamic_slot_brings_its_inputs_when_it_is_linked() -> None:
    raw = ["COMFY_DYNAMICSLOT_V3", {"slotType": "IMAGE", "inputs": {"required": {"width": INT}}}]
    found = node_class("X", v3_entry(required={"image": raw}))
    assert found is not None
    expander = Expander(found)
    assert [spec.name for spec in expander.expand({"image": ["1", 0]}).specs] == [
        *("image.width", "image")
    ]
    assert expander.expand({}).specs == ()


def test_an_optional_template_needs_nothing() -> None:
    template = {"input": {"optional": {"a": INT}}, "names": ["one", "two"], "min": 2}
    raw = ["COMFY_AUTOGROW_V3", {"template": template}]
    found = node_class("X", v3_entry(required={"x": raw}))
    assert found is not None
    assert [(spec.name, spec.section) for spec in Expander(found).expand({}).specs] == [
        ("x.one", "optional"),
        ("x.two", "optional"),
    ]


def test_remembers_a_bounded_number_of_expansions() -> None:
    keys = [f"key {at}" for at in range(400)]
    options = [{"key": key, "inputs": {"required": {key: INT}}} for key in keys]
    raw = ["COMFY_DYNAMICCOMBO_V3", {"options": options}]
    found = node_class("X", v3_entry(required={"x": raw}))
    assert found is not None
    expander = Expander(found)
    for key in keys:
        assert [spec.name for spec in expander.expand({"x": key}).specs] == [f"x.{key}", "x"]
    assert expander.expand({"x": keys[0]}) is expander.expand({"x": keys[0]})
    assert expander.expand({"x": keys[-1]}) is not expander.expand({"x": keys[-1]})


def test_is_nested_only_where_something_was_expanded() -> None:
    found = catalog()
    resize = found.get("Resize")
    assert resize is not None
    assert not found.expand(resize, {}).is_nested
    assert found.expand(resize, {"resize": "by width"}).is_nested
    assert resize.is_dynamic
    assert resize.is_v3
    assert not found.get("EmptyImage").is_dynamic  # type: ignore[union-attr]
    assert IMAGES
    assert RESIZE


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("0.3.64", (0, 3, 64)),
        ("v0.26.0", (0, 26, 0)),
        ("0.33", (0, 33, 0)),
        ("0.33.0-4-gabc", (0, 33, 0)),
        ("nightly", None),
        ("", None),
    ],
)
def test_reads_versions(text: str, version: tuple[int, ...] | None) -> None:
    assert parse_version(text) == version


def test_tells_the_release_by_the_shape_of_its_entries() -> None:
    old = {"X": entry()}
    assert guess_version(old) == OLDEST
    assert guess_version({"X": {"input": {}}}) > (0, 20)
    assert guess_version({}) > (0, 20)
    for key, version in (
        ("has_intermediate_output", (0, 21, 0)),
        ("is_input_list", (0, 18, 0)),
        ("search_aliases", (0, 11, 0)),
        ("price_badge", (0, 10, 0)),
    ):
        assert guess_version({**old, "Y": {**entry(), key: None}}) == version
    assert rules_for((0, 3, 64)) != rules_for((0, 26, 0))
    assert not catalog("0.3.64").rules.finds_cycles
    assert catalog("an unknown build").rules.finds_cycles is (guess_version(INFO) > (0, 20))
