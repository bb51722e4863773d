"""What `run` makes of a prompt before it is sent."""

import json
from typing import Any

import hypothesis.strategies as st
import pytest
from hypothesis import given

from comfyserve.cli.workflow_file import WorkflowFile, read_prompt, refer_to, set_inputs
from comfyserve.domain.errors import InvalidInput

PROMPT: dict[str, Any] = {
    "1": {"class_type": "LoadImage", "inputs": {"image": "a.png"}, "_meta": {"title": "Photo"}},
    "2": {"class_type": "ImageBlur", "inputs": {"image": ["1", 0], "radius": 3, "sigma": 1.0}},
    "3.1": {"class_type": "ImageBlur", "inputs": {"image": ["2", 0], "a.b": True}},
    "9": {"class_type": "SaveImage", "inputs": {"images": ["3.1", 0], "filename_prefix": "x"}},
}


def read(document: object) -> WorkflowFile:
    file = read_prompt(json.dumps(document).encode())
    assert file is not None
    return file


def a_file() -> WorkflowFile:
    return read(PROMPT)


def test_a_prompt_is_put_into_a_body() -> None:
    assert a_file().body == {"prompt": PROMPT}
    assert a_file().labels() == {
        "1": "Photo",
        "2": "ImageBlur",
        "3.1": "ImageBlur",
        "9": "SaveImage",
    }


def test_a_whole_body_is_sent_with_all_that_is_in_it() -> None:
    body = {"prompt": PROMPT, "extra_data": {"a": 1}, "client_id": "me"}
    file = read(body)
    assert file.body == body
    changed, _ = set_inputs(file, ["2.radius=5"])
    assert changed.body["extra_data"] == {"a": 1}
    assert changed.body["prompt"]["2"]["inputs"]["radius"] == 5


def test_a_node_called_prompt_is_not_taken_for_a_body() -> None:
    prompt = {"prompt": {"class_type": "SaveImage", "inputs": {}}}
    assert read(prompt).body == {"prompt": prompt}


@pytest.mark.parametrize(
    "data",
    [
        b"", b"\x89PNG\r\n", b"{", b"\xff\xfe", b"[" * 100_000, b"[]", b"{}", b"null", b'"x"',
        b'{"nodes": [], "links": []}', b'{"prompt": {}}', b'{"prompt": {"1": {}}}', b'{"1": 2}',
    ],
)  # fmt: skip
def test_anything_else_is_left_to_the_converter(data: bytes) -> None:
    assert read_prompt(data) is None


@pytest.mark.parametrize(
    ("setting", "node", "name", "value"),
    [
        ("2.radius=5", "2", "radius", 5),
        ("2.sigma=0.5", "2", "sigma", 0.5),
        ("2.radius=many", "2", "radius", "many"),
        ('2.image=["9", 1]', "2", "image", ["9", 1]),
        ("Photo.image=b=c.png", "1", "image", "b=c.png"),
        ("LoadImage.image=42", "1", "image", "42"),
        ("9.filename_prefix=true", "9", "filename_prefix", "true"),
        ("3.1.a.b=false", "3.1", "a.b", False),
        ("9.filename_prefix=", "9", "filename_prefix", ""),
    ],
)
def test_a_setting_finds_its_node_and_keeps_text_as_text(
    setting: str, node: str, name: str, value: object
) -> None:
    file, warnings = set_inputs(a_file(), [setting])
    assert file.prompt[node]["inputs"][name] == value
    assert warnings == []
    assert {**file.prompt, node: PROMPT[node]} == PROMPT, "nothing else changed"
    assert PROMPT["2"]["inputs"]["radius"] == 3, "the original was left alone"


@pytest.mark.parametrize("setting", ["ImageBlur.radius=1", "77.x=1", ".x=1", "2.=1", "radius=1"])
def test_a_setting_for_no_node_or_for_several_lists_the_nodes(setting: str) -> None:
    with pytest.raises(InvalidInput, match=r"Nodes: 1 Photo, 2 ImageBlur"):
        set_inputs(a_file(), [setting])


def test_a_setting_without_a_value_is_refused() -> None:
    with pytest.raises(InvalidInput, match=r"NODE\.INPUT=VALUE"):
        set_inputs(a_file(), ["2.radius"])


def test_an_input_that_the_file_does_not_have_is_sent_with_a_warning() -> None:
    file, warnings = set_inputs(a_file(), ["2.radios=5"])
    assert file.prompt["2"]["inputs"]["radios"] == 5
    (warning,) = warnings
    assert "node 2 has no input 'radios'" in warning
    assert "radius" in warning


def test_uploaded_files_are_referred_to_by_the_servers_name() -> None:
    file, count = refer_to(a_file(), ("a.png", "/home/me/a.png"), "a (1).png")
    assert count == 1
    assert file.prompt["1"]["inputs"] == {"image": "a (1).png"}
    same, none = refer_to(a_file(), ("other.png",), "x.png")
    assert none == 0
    assert same.prompt == PROMPT


@given(
    st.dictionaries(
        st.text(min_size=1),
        st.fixed_dictionaries(
            {
                "class_type": st.text(),
                "inputs": st.dictionaries(st.text(), st.integers() | st.text()),
            }
        ),
        min_size=1,
    )
)
def test_any_prompt_is_sent_unchanged_and_every_input_can_be_set(prompt: dict[str, Any]) -> None:
    file = read(prompt)
    assert file.body in ({"prompt": prompt}, prompt)
    for node_id, node in file.prompt.items():
        for name in node["inputs"]:
            if name and "=" not in node_id + name and "." not in node_id + name:
                changed, warnings = set_inputs(file, [f"{node_id}.{name}=7"])
                assert str(changed.prompt[node_id]["inputs"][name]) == "7"
                assert not warnings
