"""`/users`, `/settings`, `/userdata`: what ComfyUI's page keeps, in two versions' shapes."""

import asyncio
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfyserve.testing.file_door import Answer, FileDoor, file_door


@pytest.fixture
async def door(home: Path) -> AsyncIterator[FileDoor]:
    """A deployment that behaves as 0.3.64."""
    async with file_door(home) as door:
        yield door


@pytest.fixture
async def newer(home: Path) -> AsyncIterator[FileDoor]:
    """A deployment that behaves as 0.33.0."""
    async with file_door(home, version="0.33.0") as door:
        yield door


STEPS = (
    ("get_userdata", "GET", "/userdata", None),
    ("get_userdata_nope.json", "GET", "/userdata/nope.json", None),
    ("get_userdata~dir-workflows", "GET", "/userdata?dir=workflows", None),
    ("userdata_traversal", "GET", "/userdata/..%2F..%2Fx", None),
    ("get_users", "GET", "/users", None),
    ("userdata_post_userdata", "POST", "/userdata/workflows%2Fcap.json", b'{"a":1}'),
    ("userdata_get_userdata", "GET", "/userdata/workflows%2Fcap.json", None),
    (
        "userdata_move_userdata",
        "POST",
        "/userdata/workflows%2Fcap.json/move/workflows%2Fcap2.json",
        None,
    ),
    ("userdata_list", "GET", "/userdata?dir=workflows&full_info=true", None),
    ("userdata_del_userdata", "DELETE", "/userdata/workflows%2Fcap2.json", None),
    ("settings_post", "POST", "/settings", b'{"Cap.A": 1}'),
    ("settings_post_one", "POST", "/settings/Cap.B", b"true"),
    ("settings_get_one", "GET", "/settings/Cap.B", None),
    ("get_settings_Comfy.X", "GET", "/settings/Comfy.X", None),
)
TIMES = {"modified", "created"}


@pytest.mark.corpora
@pytest.mark.parametrize("version", ["0.3.64", "0.33.0"])
async def test_answers_as_the_captured_version(
    home: Path, corpora: Path, version: str, subtests: pytest.Subtests
) -> None:
    async with file_door(home, version=version) as door:
        for name, method, path, data in STEPS:
            with subtests.test(name):
                sample = json.loads(
                    (corpora / "protocol-samples" / version / f"http_{name}.json").read_text()
                )
                check_sample(await door.ask(method, path, data=data), sample["response"])


def check_sample(answer: Answer, expected: dict[str, object]) -> None:
    """Compare an answer with a captured one, but for the times in it."""
    assert answer.status == expected["status"]
    headers = expected["headers"]
    assert isinstance(headers, dict)
    for name in ("Content-Type", "Content-Disposition", "X-Content-Type-Options", "Accept-Ranges"):
        assert answer.headers.get(name) == headers.get(name)
    if "json" not in expected:
        assert answer.body.decode() == expected["text"]
        return
    told, meant = answer.json(), expected["json"]
    if isinstance(meant, list):
        assert [set(entry) for entry in told] == [set(entry) for entry in meant]
        assert [{type(entry[key]) for key in TIMES} for entry in told] == [
            {type(entry[key]) for key in TIMES} for entry in meant
        ]
        told, meant = ([strip(entry) for entry in entries] for entries in (told, meant))
    assert told == meant


def strip(entry: dict[str, object]) -> dict[str, object]:
    """Without the times."""
    return {key: value for key, value in entry.items() if key not in TIMES}


async def test_listing(door: FileDoor) -> None:
    for name in ("workflows%2Fb.json", "workflows%2Fa.json", "workflows%2Fdeep%2Fc.json"):
        await door.ask("POST", f"/userdata/{name}", data=b"{}")
    await door.ask("POST", "/userdata/workflows%2F.hidden%2Fd.json", data=b"{}")
    flat = await door.get("/userdata?dir=workflows")
    assert flat.json() == ["a.json", "b.json"]
    deep = await door.get("/userdata?dir=workflows&recurse=true")
    assert deep.json() == ["a.json", "b.json", "deep/c.json"]
    split = await door.get("/userdata?dir=workflows&recurse=TRUE&split=true")
    assert split.json()[2] == ["deep/c.json", "deep", "c.json"]
    assert (await door.get("/userdata?dir=..")).status == 403
    assert (await door.get("/userdata?dir=%252e%252e")).status == 403
    assert (await door.get("/userdata?dir=workflows%2Fa.json")).json() == []
    tree = await door.get("/v2/userdata?path=workflows")
    assert [(entry["type"], entry["path"]) for entry in tree.json()] == [
        ("directory", "workflows/.hidden"),
        ("directory", "workflows/deep"),
        ("file", "workflows/a.json"),
        ("file", "workflows/b.json"),
        ("file", "workflows/deep/c.json"),
        ("file", "workflows/.hidden/d.json"),
    ]
    assert tree.json()[2].keys() == {"name", "path", "type", "size", "modified"}
    assert (await door.get("/v2/userdata?path=nope")).status == 404
    assert (await door.get("/v2/userdata?path=workflows/a.json")).status == 400
    assert (await door.get("/v2/userdata?path=..")).status == 400


async def test_an_empty_user_has_no_files(door: FileDoor) -> None:
    assert (await door.get("/v2/userdata")).json() == []


async def test_writing(door: FileDoor) -> None:
    path = "/userdata/a%20%C3%BC%2Fb.json"
    full = await door.ask("POST", f"{path}?full_info=true", data=b"first")
    assert strip(full.json()) == {"path": "a ü/b.json", "size": 5}
    refused = await door.ask("POST", f"{path}?overwrite=false", data=b"second")
    assert (refused.status, refused.body) == (409, b"File already exists")
    assert (await door.ask("POST", path, data=b"third")).json() == "a ü/b.json"
    assert (await door.get(path)).body == b"third"
    # A name that is encoded twice is decoded twice, as ComfyUI does.
    assert (await door.get("/userdata/a%2520%25C3%25BC%252Fb.json")).body == b"third"
    assert (await door.get("/api/userdata/a%20%C3%BC%2Fb.json", Range="bytes=0-1")).body == b"th"
    assert (await door.get("/d/dp_1/api/userdata/a%20%C3%BC%2Fb.json")).body == b"third"
    directory = await door.ask("POST", "/userdata/a%20%C3%BC", data=b"x")
    assert (directory.status, directory.json()["error"]["type"]) == (400, "invalid_filename")
    assert (await door.ask("POST", f"/userdata/{'x' * 300}", data=b"x")).status == 400
    assert (await door.ask("POST", "/userdata/..%2Fx", data=b"x")).status == 403
    assert (await door.ask("POST", "/userdata/a/b", data=b"x")).status == 404


async def test_moving(door: FileDoor) -> None:
    await door.ask("POST", "/userdata/a.json", data=b"a")
    await door.ask("POST", "/userdata/b.json", data=b"b")
    move = "/userdata/a.json/move"
    assert (await door.ask("POST", f"{move}/b.json?overwrite=false")).status == 409
    assert (await door.ask("POST", f"{move}/..%2Fb.json")).status == 403
    assert (await door.ask("POST", "/userdata/nope/move/x.json")).status == 404
    moved = await door.ask("POST", f"{move}/new%2Fmove%2Fc.json?full_info=true")
    assert strip(moved.json()) == {"path": "new/move/c.json", "size": 1}
    assert (await door.get("/userdata/a.json")).status == 404
    assert (await door.get("/userdata/new%2Fmove%2Fc.json")).body == b"a"
    assert (await door.ask("POST", "/userdata/new%2Fmove%2Fc.json/move/b.json")).status == 200
    assert (await door.get("/userdata/b.json")).body == b"a"


async def test_deleting(door: FileDoor) -> None:
    await door.ask("POST", "/userdata/deep%2Fa.json", data=b"a")
    assert (await door.ask("DELETE", "/userdata/deep%2Fb.json")).status == 404
    assert (await door.ask("DELETE", "/userdata/deep")).status == 400
    assert (await door.ask("DELETE", "/userdata/..%2F..%2Finput")).status == 403
    assert (await door.ask("DELETE", "/userdata/deep%2Fa.json")).status == 204
    assert (await door.get("/userdata/deep%2Fa.json")).status == 404


async def test_times_in_newer_versions_are_milliseconds(newer: FileDoor) -> None:
    answer = await newer.ask("POST", "/userdata/a.json?full_info=true", data=b"a")
    facts = (newer.directory / "user" / "default" / "a.json").stat()
    assert answer.json()["modified"] == int(facts.st_mtime * 1000)


async def test_settings_changed_side_by_side_are_all_kept(door: FileDoor) -> None:
    await asyncio.gather(
        *(door.ask("POST", f"/settings/Key.{n}", data=str(n).encode()) for n in range(40))
    )
    assert (await door.get("/settings")).json() == {f"Key.{n}": n for n in range(40)}
    assert (await door.get("/userdata/comfy.settings.json")).json()["Key.7"] == 7


async def test_bad_settings_are_refused_and_change_nothing(door: FileDoor) -> None:
    await door.ask("POST", "/settings", data=b'{"A": 1}')
    for path, data in (("/settings", b"{"), ("/settings", b"[1]"), ("/settings/A", b"")):
        answer = await door.ask("POST", path, data=data)
        assert answer.status == 400
        assert "message" in answer.json()["error"]
    assert (await door.get("/settings")).json() == {"A": 1}


async def test_a_broken_settings_file_counts_as_empty(door: FileDoor) -> None:
    await door.ask("POST", "/settings", data=b'{"A": 1}')
    (door.directory / "user" / "default" / "comfy.settings.json").write_bytes(b"{")
    assert (await door.get("/settings")).json() == {}
    assert (await door.ask("POST", "/settings/B", data=b"2")).status == 200
    assert (await door.get("/settings")).json() == {"B": 2}


names = st.lists(
    st.one_of(
        st.sampled_from(["..", ".", "a", "%2e%2e", "%2F", "%252F", "%00", "%5C", "%FF", "~", ""]),
        st.text("abc%/.?#", max_size=4).map(lambda text: text.replace("%", "%25")),
    ),
    min_size=1,
    max_size=6,
).map("%2F".join)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(name=names, verb=st.sampled_from(["GET", "POST", "DELETE"]))
async def test_no_name_reaches_beyond_the_user(door: FileDoor, name: str, verb: str) -> None:
    outside = door.directory / "outside.txt"
    outside.parent.mkdir(parents=True, exist_ok=True)
    outside.write_bytes(b"outside")
    path = "/userdata/" + name.replace("?", "%3F").replace("#", "%23")
    answer = await door.ask(verb, path, data=b"x" if verb == "POST" else None)
    assert answer.status in {200, 204, 400, 403, 404, 405}
    assert answer.body != b"outside"
    assert outside.read_bytes() == b"outside"
    assert set(os.listdir(door.directory)) <= {"outside.txt", "user", "input"}
    if (door.directory / "user").exists():
        assert os.listdir(door.directory / "user") == ["default"]
