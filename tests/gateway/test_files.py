"""`/view` against what two versions of ComfyUI answered, and what they must never give away."""

import json
import os
from collections.abc import AsyncIterator
from io import BytesIO
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from PIL import Image

from comfyserve.testing.file_door import Answer, FileDoor, file_door

SVG = b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>'
SAMPLES = (
    *("abs", "annotated", "bad_type", "channel_a", "channel_rgb", "channel_rgba", "dotdot"),
    *("empty_sub", "head", "no_type", "plain", "preview", "preview_a", "preview_jpeg"),
    *("preview_jpeg_rgb", "preview_png", "rand", "range", "sub", "sub_traversal", "txt"),
)
# What depends on the day and on aiohttp itself.
VOLATILE = {"etag", "last-modified", "server", "content-length", "connection", "date"}


def png(size: tuple[int, int] = (32, 24), mode: str = "RGBA", colour: object = None) -> bytes:
    """A small picture."""
    buffer = BytesIO()
    fill = colour or ((200, 30, 30, 128) if mode == "RGBA" else (200, 30, 30))
    Image.new(mode, size, fill).save(buffer, "PNG")  # type: ignore[arg-type]  # a colour of that mode
    return buffer.getvalue()


def picture(body: bytes) -> Image.Image:
    """An answer as a picture."""
    image = Image.open(BytesIO(body))
    image.load()
    return image


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


@pytest.mark.corpora
@pytest.mark.parametrize(("version", "tag"), [("0.3.64", "cap_b78d00"), ("0.33.0", "cap_82ab8a")])
async def test_answers_as_the_captured_version(
    home: Path, corpora: Path, version: str, tag: str, subtests: pytest.Subtests
) -> None:
    directory = corpora / "protocol-samples" / version
    async with file_door(home, version=version) as door:
        await door.put_input(f"rgba_{tag}.png", png())
        await door.put_input(f"{tag}.png", png((8, 8), "RGB"))
        await door.put_input(f"sub/dir/{tag}.png", png((8, 8), "RGB"))
        await door.put_input("note.txt", b"hello world")
        for name in SAMPLES:
            with subtests.test(name):
                sample = json.loads((directory / f"http_view_{name}.json").read_text())
                asked = sample["request"]
                answer = await door.ask(
                    asked["method"], asked["path"], headers=asked.get("headers")
                )
                check_sample(asked["method"], answer, sample["response"])


def check_sample(method: str, answer: Answer, expected: dict[str, Any]) -> None:
    """Compare an answer with a captured one, but for what depends on the day."""
    assert answer.status == expected["status"]
    headers = {key.lower(): value for key, value in expected["headers"].items()}
    told = {key.lower(): value for key, value in answer.headers.items()}
    assert told.keys() - VOLATILE == headers.keys() - VOLATILE
    for key in headers.keys() - VOLATILE - {"content-range"}:
        assert told[key] == headers[key]
    if expected.get("head_hex", "").startswith("89504e47") and answer.status == 200:
        # Through the size and colour type of the picture, with their checksum.
        assert answer.body[:32].hex() == expected["head_hex"]
    if "text" in expected and method != "HEAD":
        assert answer.body.decode() == expected["text"]


async def test_gives_outputs_from_the_store(door: FileDoor) -> None:
    data = png()
    await door.put_asset("made_00001_.png", data)
    await door.put_asset("made_00001_.png", b"other", subfolder="a/b")
    await door.put_asset("shown.png", b"preview", type="temp")
    plain = await door.get("/view?filename=made_00001_.png")
    assert (plain.status, plain.body) == (200, data)
    assert plain.headers["content-type"] == "image/png"
    assert plain.headers["content-length"] == str(len(data))
    nested = await door.get("/view?filename=made_00001_.png&subfolder=a/x/../b/&type=output")
    assert nested.body == b"other"
    assert (await door.get("/view?filename=shown.png&type=temp")).body == b"preview"
    assert (await door.get("/view?filename=shown.png%20%5Btemp%5D&type=output")).body == b"preview"
    assert (await door.get("/view?filename=shown.png")).status == 404


async def test_an_output_whose_bytes_are_gone_is_not_found(door: FileDoor) -> None:
    asset = await door.put_asset("made.png", b"made")
    await door.store.blobs.delete(asset.digest)
    answer = await door.get("/view?filename=made.png")
    assert (answer.status, answer.body) == (404, b"")


async def test_gives_an_asset_by_its_digest_in_newer_versions(newer: FileDoor) -> None:
    asset = await newer.put_asset("made.png", png())
    found = await newer.get(f"/view?filename=blake3:{asset.digest}")
    assert (found.status, found.body) == (200, png())
    assert found.headers["content-disposition"] == 'filename="made.png"'
    assert (await newer.get(f"/view?filename=blake3:{'0' * 64}")).status == 404
    assert (await newer.get("/view?filename=blake3:../../etc/passwd")).status == 404


async def test_a_digest_is_an_ordinary_name_in_older_versions(door: FileDoor) -> None:
    asset = await door.put_asset("made.png", png())
    assert (await door.get(f"/view?filename=blake3:{asset.digest}")).status == 404


async def test_another_deployments_file_is_not_found(door: FileDoor, tmp_path: Path) -> None:
    asset = await door.put_asset("mine.png", b"mine")
    async with file_door(tmp_path / "other", version="0.33.0") as other:
        await other.put_asset("theirs.png", b"theirs")
        assert (await other.get(f"/view?filename=blake3:{asset.digest}")).status == 404


async def test_content_types_never_make_a_page(door: FileDoor, subtests: pytest.Subtests) -> None:
    unknown = "application/octet-stream"
    expected = {
        "a.png": "image/png",
        "a.WEBP": "image/webp",
        "a.mp4": "video/mp4",
        "a.webm": "video/webm",
        "a.flac": "audio/flac",
        "a.glb": "model/gltf-binary",
        "a.json": "application/json",
        "a": unknown,
        ".png": unknown,
        "a.nosuchtype": unknown,
        "page.html": unknown,
        "page.HTM": unknown,
        "page.xhtml": unknown,
        "run.js": unknown,
        "run.mjs": unknown,
        "look.css": unknown,
    }
    for name, content_type in expected.items():
        with subtests.test(name):
            await door.put_asset(name, b"<html>")
            answer = await door.get(f"/view?filename={name}")
            assert (answer.status, answer.headers["content-type"]) == (200, content_type)


async def test_newer_versions_hand_active_content_over_as_a_download(newer: FileDoor) -> None:
    for name in ("drawing.svg", "feed.xml", "page.html", "run.js"):
        await check_download(newer, name)


async def check_download(newer: FileDoor, name: str) -> None:
    """A file of that name is given as a download."""
    await newer.put_asset(name, SVG)
    answer = await newer.get(f"/view?filename={name}", Sec_Fetch_Dest="document")
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == f'attachment; filename="{name}"'
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["cache-control"] == "no-store"


async def test_an_svg_is_an_image_where_it_is_shown_as_one(newer: FileDoor) -> None:
    await newer.put_asset("drawing.svg", SVG)
    answer = await newer.get("/view?filename=drawing.svg", Sec_Fetch_Dest="image")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-security-policy"] == "sandbox"
    assert answer.headers["cache-control"] == "no-store"


async def test_scripts_in_an_svg_do_not_run_in_older_versions(door: FileDoor) -> None:
    await door.put_asset("drawing.svg", SVG)
    answer = await door.get("/view?filename=drawing.svg")
    assert answer.headers["content-type"] == "image/svg+xml"
    assert answer.headers["content-security-policy"] == "sandbox"


async def test_names_of_all_scripts(door: FileDoor) -> None:
    name = 'Bild "ü" 猫\u3000.png'
    await door.put_asset(name, b"x")
    answer = await door.get("/view?filename=Bild%20%22%C3%BC%22%20%E7%8C%AB%E3%80%80.png")
    assert answer.status == 200
    raw = answer.headers["content-disposition"]
    assert raw.encode("utf-8", "surrogateescape").decode() == (
        'filename="Bild \\"ü\\" 猫\u3000.png"'
    )


async def test_previews_are_bounded_and_named(door: FileDoor) -> None:
    await door.put_input("a.png", png((300, 200)))
    webp = await door.get("/view?filename=a.png&type=input&preview=webp;999999999999")
    assert (webp.headers["content-type"], picture(webp.body).format) == ("image/webp", "WEBP")
    jpeg = await door.get("/view?filename=a.png&type=input&preview=jpeg;%C2%B2")
    assert picture(jpeg.body).format == "JPEG"
    assert len((await door.get("/view?filename=a.png&type=input&preview=jpeg;1")).body) < len(
        jpeg.body
    )


async def test_channels(door: FileDoor) -> None:
    await door.put_asset("a.png", png((4, 4), colour=(10, 20, 30, 40)))
    rgb = picture((await door.get("/view?filename=a.png&channel=rgb")).body)
    assert (rgb.mode, rgb.getpixel((0, 0))) == ("RGB", (10, 20, 30))
    alpha = picture((await door.get("/view?filename=a.png&channel=a")).body)
    assert (alpha.mode, alpha.getpixel((0, 0))) == ("RGBA", (0, 0, 0, 40))
    await door.put_asset("b.png", png((4, 4), "RGB"))
    opaque = picture((await door.get("/view?filename=b.png&channel=a")).body)
    assert opaque.getpixel((0, 0)) == (0, 0, 0, 255)


async def test_what_is_no_picture_is_refused_clearly(door: FileDoor) -> None:
    for data in (b"hello", b"", png()[:60], b"%!PS-Adobe-3.0 EPSF-3.0\n"):
        await door.put_input("a.png", data)
        for query in ("preview=webp", "channel=rgb", "channel=a"):
            answer = await door.get(f"/view?filename=a.png&type=input&{query}")
            assert answer.status == 400
            assert answer.json()["error"]["type"] == "not_a_picture"


async def test_a_picture_that_would_fill_the_memory_is_not_decoded(door: FileDoor) -> None:
    buffer = BytesIO()
    Image.new("1", (10_000, 10_000)).save(buffer, "PNG")
    await door.put_input("bomb.png", buffer.getvalue())
    answer = await door.get("/view?filename=bomb.png&type=input&preview=webp")
    assert answer.status == 413
    assert answer.json()["error"]["type"] == "picture_too_large"
    assert (await door.get("/view?filename=bomb.png&type=input")).body == buffer.getvalue()


async def test_links_and_special_files_are_not_followed(door: FileDoor, tmp_path: Path) -> None:
    secret = tmp_path / "secret.txt"
    secret.write_text("secret")
    await door.put_input("sub/real.txt", b"real")
    (door.input_dir / "link.txt").symlink_to(secret)
    (door.input_dir / "outside").symlink_to(tmp_path)
    os.mkfifo(door.input_dir / "pipe.txt")
    assert (await door.get("/view?filename=link.txt&type=input")).status == 404
    assert (await door.get("/view?filename=secret.txt&type=input&subfolder=outside")).status == 404
    assert (await door.get("/view?filename=pipe.txt&type=input")).status == 404
    assert (await door.get("/view?filename=sub&type=input")).status == 404
    assert (await door.get("/view?filename=real.txt&type=input&subfolder=sub")).body == b"real"


NAMES = (
    ("filename=", 400),
    ("filename=%20%5Binput%5D", 400),
    ("filename=..", 400),
    ("filename=x&type=output&subfolder=..", 403),
    ("filename=a..b.png", 400),
    ("filename=%2Fetc%2Fpasswd", 400),
    ("filename=%00.png", 404),
    ("filename=a%00/../b.png", 400),
    ("filename=%FF.png", 404),
    (f"filename={'x' * 300}.png", 404),
    ("filename=.", 404),
    ("filename=real.txt/", 404),
    ("filename=real.txt&subfolder=%00", 403),
    ("filename=real.txt&subfolder=/", 403),
    ("filename=real.txt&subfolder=..", 403),
    ("filename=real.txt&subfolder=a/../../b", 403),
    ("filename=real.txt&subfolder=%2E%2E%2F", 403),
    ("filename=real.txt&subfolder=real.txt", 404),
    ("filename=real.txt&subfolder=./", 200),
    ("filename=deep/er/real.txt", 200),
    ("filename=real.txt&filename=other.txt", 200),
)


async def test_names_stay_inside(door: FileDoor, subtests: pytest.Subtests) -> None:
    await door.put_input("real.txt", b"real")
    for query, status in NAMES:
        with subtests.test(query):
            answer = await door.get(f"/view?type=input&{query}")
            assert (answer.status, answer.body) == (status, b"real" if status == 200 else b"")


async def test_an_empty_type_is_no_type(door: FileDoor) -> None:
    await door.put_asset("made.png", b"made")
    assert (await door.get("/view?filename=made.png&type=")).status == 400


async def test_the_api_prefix_is_the_same_door(door: FileDoor) -> None:
    await door.put_input("real.txt", b"real")
    assert (await door.get("/api/view?filename=real.txt&type=input")).body == b"real"


async def test_a_large_file_streams_and_a_client_that_leaves_holds_nothing(door: FileDoor) -> None:
    data = os.urandom(3 * 1024 * 1024)
    await door.put_input("big.bin", data)
    assert (await door.get("/view?filename=big.bin&type=input")).body == data
    async with door.client.get(f"{door.url}/view?filename=big.bin&type=input") as response:
        await response.content.readexactly(1024)
        response.close()
    before = len(os.listdir("/proc/self/fd"))
    async with aiohttp.ClientSession() as client:
        for _ in range(5):
            async with client.get(f"{door.url}/view?filename=big.bin&type=input") as response:
                await response.content.readexactly(1024)
                response.close()
    assert (await door.get("/view?filename=big.bin&type=input")).body == data
    assert len(os.listdir("/proc/self/fd")) <= before + 2
