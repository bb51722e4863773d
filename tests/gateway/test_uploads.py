"""Uploads by ComfyUI's rules: what is told, what lies there afterwards, what never does."""

import asyncio
import json
import os
import threading
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image, PngImagePlugin

from comfyserve.domain.spec import DeploymentSpec, Limits
from comfyserve.testing.file_door import Answer, FileDoor, file_door

A, B, C = b"a" * 75, b"b" * 76, b"c" * 77
TAGS = {"0.3.64": "cap_b78d00", "0.33.0": "cap_82ab8a"}


def png(colour: tuple[int, ...], size: tuple[int, int] = (8, 8), **texts: str) -> bytes:
    """A small picture with text chunks."""
    info = PngImagePlugin.PngInfo()
    for key, text in texts.items():
        info.add_text(key, text)
    buffer = BytesIO()
    Image.new("RGBA" if len(colour) == 4 else "RGB", size, colour).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


@pytest.fixture
async def door(home: Path) -> AsyncIterator[FileDoor]:
    """A deployment that takes up to a megabyte."""
    spec = DeploymentSpec(limits=Limits(max_upload_bytes=1024 * 1024))
    async with file_door(home, spec=spec) as door:
        yield door


def inputs(door: FileDoor) -> dict[str, bytes]:
    """All files in the input directory."""
    files = sorted(path for path in door.input_dir.rglob("*") if path.is_file())
    return {str(path.relative_to(door.input_dir)): path.read_bytes() for path in files}


def leftovers(door: FileDoor) -> list[str]:
    """What lies where files wait to be placed."""
    return os.listdir(door.home / "blobs" / "incoming")


def refusal(answer: Answer) -> tuple[int, str]:
    """Status and code of an error in the door's shape."""
    return answer.status, answer.json()["error"]["type"]


@pytest.mark.corpora
@pytest.mark.parametrize("version", ["0.3.64", "0.33.0"])
async def test_answers_as_the_captured_version(
    home: Path, corpora: Path, version: str, subtests: pytest.Subtests
) -> None:
    tag = TAGS[version]
    name = f"{tag}.png"
    steps: tuple[tuple[str, bytes, str, dict[str, str]], ...] = (
        ("first", A, name, {}),
        ("same_again", A, name, {}),
        ("different_same_name", B, name, {}),
        ("second_again_matches_1", B, name, {}),
        ("third_different", C, name, {}),
        ("overwrite_true", C, name, {"overwrite": "true"}),
        ("overwrite_1", C, name, {"overwrite": "1"}),
        ("overwrite_false", B, name, {"overwrite": "false"}),
        ("overwrite_True_cap", A, name, {"overwrite": "True"}),
        ("subfolder", A, name, {"subfolder": "sub/dir"}),
        ("subfolder_traversal", A, name, {"subfolder": "../../.."}),
        ("filename_path", A, f"x/y/{name}", {}),
        ("filename_traversal", A, f"../{name}", {}),
        ("not_an_image", b"hello world", "note.txt", {}),
        ("type_temp", A, name, {"type": "temp"}),
        ("type_output", A, name, {"type": "output"}),
    )
    async with file_door(home, version=version) as door:
        for step, data, filename, fields in steps:
            with subtests.test(step):
                answer = await door.upload(data, filename, **fields)
                check_sample(answer, corpora, version, f"upload_{step}")
        with subtests.test("no_file"):
            empty_form = aiohttp.FormData({"overwrite": "true"}, default_to_multipart=True)
            answer = await door.ask("POST", "/upload/image", data=empty_form)
            check_sample(answer, corpora, version, "upload_no_file")
        with subtests.test("json_body"):
            answer = await door.ask(
                "POST", "/upload/image", data=b"{}", headers={"Content-Type": "application/json"}
            )
            check_sample(answer, corpora, version, "upload_json_body")


@pytest.mark.corpora
@pytest.mark.parametrize("version", ["0.3.64", "0.33.0"])
async def test_masks_answer_as_the_captured_version(
    home: Path, corpora: Path, version: str
) -> None:
    tag = TAGS[version]
    async with file_door(home, version=version) as door:
        await door.put_input(f"{tag}.png", png((1, 2, 3)))
        reference = {"filename": f"{tag}.png", "type": "input", "subfolder": ""}
        answer = await door.upload(
            png((0, 0, 0, 9)),
            f"mask_{tag}.png",
            "mask",
            original_ref=json.dumps(reference),
            type="input",
            subfolder="clipspace",
        )
        check_sample(answer, corpora, version, "upload_mask")
        answer = await door.upload(
            png((0, 0, 0, 9)),
            f"mask3_{tag}.png",
            "mask",
            original_ref='{"filename": "nope.png", "type": "input"}',
        )
        check_sample(answer, corpora, version, "upload_mask_missing_original")
        assert f"mask3_{tag}.png" not in inputs(door)


def check_sample(answer: Answer, corpora: Path, version: str, name: str) -> None:
    """Compare an answer with a captured one."""
    sample = json.loads((corpora / f"protocol-samples/{version}/http_{name}.json").read_text())
    expected = sample["response"]
    assert answer.status == expected["status"]
    assert answer.headers.get("content-type") == expected["headers"].get("Content-Type")
    if "json" in expected:
        assert answer.json() == expected["json"]
    else:
        assert answer.body.decode() == expected["text"]


async def test_files_lie_where_replicas_read_them(door: FileDoor) -> None:
    await door.upload(A)
    await door.upload(B)
    await door.upload(A, "x.png", subfolder="deep/er/../x")
    assert inputs(door) == {"cat.png": A, "cat (1).png": B, "deep/x/x.png": A}
    assert {path.stat().st_mode & 0o777 for path in door.input_dir.rglob("*.png")} == {0o644}
    shown = await door.get("/view?filename=x.png&type=input&subfolder=deep/x")
    assert shown.body == A
    assert leftovers(door) == []


async def test_a_slash_in_the_name_is_a_subfolder(door: FileDoor) -> None:
    form = aiohttp.FormData(quote_fields=False)
    form.add_field("image", A, filename="deep/x.png")
    answer = await door.ask("POST", "/upload/image", data=form)
    assert answer.json() == {"name": "deep/x.png", "subfolder": "", "type": "input"}
    assert inputs(door) == {"deep/x.png": A}


@pytest.mark.parametrize("kind", ["output", "temp"])
async def test_outputs_and_temporary_files_become_assets(door: FileDoor, kind: str) -> None:
    assert (await door.upload(A, type=kind, subfolder="s/./t")).json()["name"] == "cat.png"
    assert (await door.upload(A, type=kind, subfolder="s/t")).json()["name"] == "cat.png"
    assert (await door.upload(B, type=kind, subfolder="s/t")).json()["name"] == "cat (1).png"
    await door.upload(C, type=kind, subfolder="s/t", overwrite="1")
    first = await door.get(f"/view?filename=cat.png&subfolder=s/t&type={kind}")
    second = await door.get(f"/view?filename=cat%20(1).png&subfolder=s/t&type={kind}")
    assert (first.body, second.body) == (C, B)
    asset = await door.store.assets.find(door.deployment.id, "cat.png", "s/t", kind)
    assert asset is not None
    assert asset.job_id is None
    assert (asset.expires_at is not None) == (kind == "temp")
    assert inputs(door) == {}
    assert leftovers(door) == []


async def test_a_mask_keeps_the_original_and_its_texts(door: FileDoor) -> None:
    await door.put_input("cat.png", png((1, 2, 3), prompt='{"1": {}}', note="schön"))
    reference = json.dumps({"filename": "cat.png [input]", "type": "output"})
    answer = await door.upload(png((9, 9, 9, 77)), "m.png", "mask", original_ref=reference)
    assert answer.json()["name"] == "m.png"
    with Image.open(door.input_dir / "m.png") as made:
        assert isinstance(made, PngImagePlugin.PngImageFile)
        assert made.text == {"prompt": '{"1": {}}', "note": "schön"}
        assert (made.mode, made.getpixel((0, 0))) == ("RGBA", (1, 2, 3, 77))


async def test_a_mask_on_an_output(door: FileDoor) -> None:
    await door.put_asset("made.png", png((5, 6, 7)), subfolder="sub")
    reference = json.dumps({"filename": "made.png", "subfolder": "sub"})
    fields = {"original_ref": reference, "type": "output"}
    assert (await door.upload(png((0, 0, 0, 1)), "m.png", "mask", **fields)).status == 200
    shown = await door.get("/view?filename=m.png")
    with Image.open(BytesIO(shown.body)) as made:
        assert made.getpixel((0, 0)) == (5, 6, 7, 1)


@pytest.mark.parametrize(
    ("fields", "filename", "code"),
    [
        ({}, "m.png", "invalid_input"),
        ({"original_ref": "{"}, "m.png", "invalid_json"),
        ({"original_ref": "[]"}, "m.png", "invalid_input"),
        ({"original_ref": "{}"}, "m.png", "invalid_input"),
        ({"original_ref": '{"filename": 1}'}, "m.png", "invalid_input"),
        ({"original_ref": '{"filename": "../cat.png"}'}, "m.png", "invalid_input"),
        ({"original_ref": '{"filename": "/etc/passwd"}'}, "m.png", "invalid_input"),
        ({"original_ref": '{"filename": "a", "subfolder": "../.."}'}, "m.png", "invalid_input"),
        ({"original_ref": '{"filename": "a", "type": "x"}'}, "m.png", "invalid_input"),
        ({"original_ref": '{"filename": "\\ud800"}'}, "m.png", "invalid_json"),
        ({"original_ref": '{"filename": "cat.png", "type": "input"}'}, "m.jpg", "picture_format"),
        ({"original_ref": '{"filename": "cat.png", "type": "input"}'}, "m.eps", "picture_format"),
        ({"original_ref": '{"filename": "big.png", "type": "input"}'}, "m.png", "mask_size"),
        ({"original_ref": '{"filename": "no.png", "type": "input"}'}, "m.png", "not_a_picture"),
    ],
)
async def test_bad_masks_are_refused_and_leave_nothing(
    door: FileDoor, fields: dict[str, str], filename: str, code: str
) -> None:
    await door.put_input("cat.png", png((1, 2, 3)))
    await door.put_input("big.png", png((1, 2, 3), (9, 9)))
    await door.put_input("no.png", b"no")
    before = inputs(door)
    answer = await door.upload(png((0, 0, 0, 9)), filename, "mask", **fields)
    assert refusal(answer) == (400, code)
    assert (inputs(door), leftovers(door)) == (before, [])


async def test_too_much_is_413_and_leaves_nothing(door: FileDoor) -> None:
    told = await door.upload(b"x" * (2 * 1024 * 1024))
    assert refusal(told) == (413, "payload_too_large")

    async def unannounced() -> AsyncIterator[bytes]:
        yield b'--X\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        for _ in range(64):
            yield b"x" * 64 * 1024

    chunked = await door.ask(
        "POST",
        "/upload/image",
        data=unannounced(),
        headers={"Content-Type": "multipart/form-data; boundary=X"},
    )
    assert refusal(chunked) == (413, "payload_too_large")
    assert (inputs(door), leftovers(door)) == ({}, [])


async def test_a_client_that_leaves_leaves_nothing(door: FileDoor) -> None:
    host, port = door.url.removeprefix("http://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(
        b"POST /upload/image HTTP/1.1\r\nHost: x\r\nContent-Length: 900000\r\n"
        b"Content-Type: multipart/form-data; boundary=X\r\n\r\n"
        b'--X\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n'
        + b"x"
        * 800_000
    )
    await writer.drain()
    writer.close()
    await writer.wait_closed()
    assert await reader.read() == b""
    async with asyncio.timeout(10):
        while leftovers(door):
            await door.get("/users")
    assert inputs(door) == {}


async def test_uploads_of_one_name_at_once_all_find_a_place(door: FileDoor) -> None:
    bodies = [bytes([65 + number]) * 50_000 for number in range(12)]
    answers = await asyncio.gather(*(door.upload(body) for body in [*bodies, *bodies]))
    names = {answer.json()["name"] for answer in answers}
    assert names == {"cat.png", *(f"cat ({number}).png" for number in range(1, 12))}
    assert sorted(inputs(door).values()) == bodies


async def test_a_reader_never_sees_half_a_file(door: FileDoor) -> None:
    bodies = [letter * 700_000 for letter in (b"x", b"y")]
    await door.upload(bodies[0])
    seen: set[bytes] = set()
    stop = threading.Event()

    def read_again_and_again() -> None:
        while not stop.is_set():
            seen.add((door.input_dir / "cat.png").read_bytes())

    reading = asyncio.to_thread(read_again_and_again)
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(reading)
        for number in range(10):
            await door.upload(bodies[number % 2], overwrite="true")
        stop.set()
    assert seen <= set(bodies)


async def test_links_are_neither_followed_nor_written_through(
    door: FileDoor, tmp_path: Path
) -> None:
    victim = tmp_path / "victim.txt"
    victim.write_bytes(b"untouched")
    door.input_dir.mkdir(parents=True)
    (door.input_dir / "cat.png").symlink_to(victim)
    (door.input_dir / "out").symlink_to(tmp_path)
    assert (await door.upload(A)).json()["name"] == "cat (1).png"
    assert refusal(await door.upload(A, subfolder="out")) == (400, "invalid_filename")
    assert (await door.upload(B, overwrite="true")).json()["name"] == "cat.png"
    assert victim.read_bytes() == b"untouched"
    assert not (door.input_dir / "cat.png").is_symlink()
    assert sorted(os.listdir(tmp_path)) == ["home", "victim.txt"]


async def test_a_name_that_is_a_directory(door: FileDoor) -> None:
    await door.put_input("cat.png/inner.txt", b"inner")
    assert (await door.upload(A)).json()["name"] == "cat (1).png"
    assert refusal(await door.upload(A, overwrite="1")) == (400, "invalid_filename")
    assert refusal(await door.upload(A, "x.png", subfolder="cat (1).png")) == (
        400,
        "invalid_filename",
    )
    assert refusal(await door.upload(A, "x" * 300)) == (400, "invalid_filename")
    assert leftovers(door) == []


def form(*parts: bytes, boundary: bytes = b"X", end: bytes = b"--X--\r\n") -> dict[str, Any]:
    """A hand-made form."""
    body = b"".join(b"--" + boundary + b"\r\n" + part + b"\r\n" for part in parts) + end
    return {
        "data": body,
        "headers": {"Content-Type": f"multipart/form-data; boundary={boundary.decode()}"},
    }


FILE = b'Content-Disposition: form-data; name="image"; filename="a.png"\r\n\r\nhello'


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        (form(FILE, end=b""), "invalid_form"),
        (form(FILE, b'Content-Disposition: form-data; name="type"\r\n\r\nbad'), "invalid_input"),
        (form(b'Content-Disposition: form-data; name="image"\r\n\r\ntext'), "invalid_input"),
        (form(b"Content-Type: image/png\r\n\r\nhello"), "invalid_form"),
        (form(b"no header at all"), "invalid_form"),
        (form(b'Content-Disposition: form-data; name="x"\r\n\r\n\xff\xfe'), "invalid_form"),
        (form(b"Content-Transfer-Encoding: base64\r\n" + FILE), "invalid_form"),
        (form(*[FILE] * 65), "invalid_form"),
        (
            form(b'Content-Disposition: form-data; name="x"\r\n\r\n' + b"y" * 70_000),
            "invalid_form",
        ),
        (form(FILE, boundary=b"Y" * 500, end=b""), "invalid_form"),
        (
            {"data": b"", "headers": {"Content-Type": "multipart/form-data"}},
            "invalid_form",
        ),
    ],
)
async def test_bad_forms_are_refused_and_leave_nothing(
    door: FileDoor, sent: dict[str, Any], code: str
) -> None:
    answer = await door.ask("POST", "/upload/image", **sent)
    assert refusal(answer) == (400, code)
    assert (inputs(door), leftovers(door)) == ({}, [])


async def test_of_fields_with_one_name_the_first_counts(door: FileDoor) -> None:
    other = FILE.replace(b"a.png", b"b.png").replace(b"hello", b"other")
    unasked = FILE.replace(b'"image"', b'"extra"').replace(b"hello", b"unasked")
    answer = await door.ask("POST", "/upload/image", **form(unasked, FILE, other))
    assert answer.json()["name"] == "a.png"
    assert inputs(door) == {"a.png": b"hello"}


@pytest.mark.parametrize(
    ("disposition", "name"),
    [
        (b"filename*=UTF-8''K%C3%A4tzchen.png", "Kätzchen.png"),
        ('filename="猫.png"'.encode(), "猫.png"),
        (b'filename="a\\"b.png"', 'a"b.png'),
        (b'filename="/a.png"', "a.png"),
        (b"filename=plain.png", "plain.png"),
        (b'filename="semi;colon.png"', "semi;colon.png"),
    ],
)
async def test_file_names_are_read_as_comfyui_reads_them(
    door: FileDoor, disposition: bytes, name: str
) -> None:
    part = b'Content-Disposition: form-data; name="image"; ' + disposition + b"\r\n\r\nhello"
    answer = await door.ask("POST", "/upload/image", **form(part))
    assert answer.json() == {"name": name, "subfolder": "", "type": "input"}
    assert inputs(door) == {name: b"hello"}


@pytest.mark.parametrize(
    "filename", [b"..", b".", b"a/..", b"../a.png", b"a/../../b", b"a\xff.png", b"a\x00.png"]
)
async def test_names_that_lead_out_or_nowhere_store_nothing(
    door: FileDoor, filename: bytes
) -> None:
    part = FILE.replace(b"a.png", filename)
    answer = await door.ask("POST", "/upload/image", **form(part))
    assert answer.status == 400
    assert (inputs(door), leftovers(door)) == ({}, [])
