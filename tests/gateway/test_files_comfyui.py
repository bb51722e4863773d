"""The same requests to a real ComfyUI and to our files of a deployment of that version."""

import asyncio
import json
import os
import re
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Protocol

import aiohttp
import pytest
from PIL import Image, ImageChops, PngImagePlugin

from comfyserve.domain.spec import DeploymentSpec, EngineKind, EngineSpec
from comfyserve.testing.file_door import Answer, FileDoor, file_door

pytestmark = [pytest.mark.comfyui, pytest.mark.e2e, pytest.mark.timeout(300)]

START_S = 200.0
COMPARED = (
    "content-type",
    "content-disposition",
    "accept-ranges",
    "content-range",
    "cache-control",
)


class Installation(Protocol):
    """What the fixture `comfyui` gives."""

    directory: Path
    python: Path


def png(mode: str, colour: tuple[int, ...], size: tuple[int, int] = (32, 24)) -> bytes:
    """A picture with a text chunk."""
    info = PngImagePlugin.PngInfo()
    info.add_text("prompt", '{"1": "ü"}')
    buffer = BytesIO()
    Image.new(mode, size, colour).save(buffer, "PNG", pnginfo=info)
    return buffer.getvalue()


RGBA, RGB = png("RGBA", (200, 30, 40, 128)), png("RGB", (10, 200, 30))
MASK = png("RGBA", (0, 0, 0, 60))
FILES = {
    "rgba.png": RGBA,
    "rgb.png": RGB,
    "sub/deep/rgb.png": RGB,
    "note.txt": b"hello world",
    "page.html": b"<html></html>",
    "look.css": b"body {}",
    "clip.mp4": b"not really",
    "song.flac": b"not really",
    "odd.nosuchtype": b"odd",
    "empty.png": b"",
}
VIEWS = (
    "?filename=rgba.png&type=input",
    "?filename=rgba.png%20%5Binput%5D",
    "?filename=rgba.png%20%5Binput%5D&type=zzz",
    "?filename=rgba.png",
    "?filename=rgba.png&type=temp",
    "?filename=rgba.png&type=zzz",
    "?filename=x/y/rgba.png&type=input",
    "?filename=rgba.png&filename=rgb.png&type=input",
    "?filename=rgb.png&type=input&subfolder=sub/deep",
    "?filename=rgb.png&type=input&subfolder=sub/../sub/./deep/",
    "?filename=rgb.png&type=input&subfolder=",
    "?filename=rgb.png&type=input&subfolder=..",
    "?filename=rgb.png&type=input&subfolder=/etc",
    "?filename=../rgb.png&type=input",
    "?filename=a..b&type=input",
    "?filename=/etc/passwd&type=input",
    "?filename=&type=input",
    "?type=input",
    "",
    "?filename=nope.png&type=input",
    "?filename=sub&type=input",
    "?filename=note.txt&type=input",
    "?filename=page.html&type=input",
    "?filename=look.css&type=input",
    "?filename=clip.mp4&type=input",
    "?filename=odd.nosuchtype&type=input",
    "?filename=empty.png&type=input",
    "?filename=rgba.png&type=input&channel=x",
)
PICTURES = tuple(
    f"?filename={name}.png&type=input&{query}"
    for name in ("rgba", "rgb")
    for query in (
        "preview=webp",
        "preview=jpeg",
        "preview=jpeg;60",
        "preview=png;70",
        "preview=jpeg&channel=rgb",
        "preview=jpeg&channel=rgba",
        "preview=webp&channel=rgb",
        "preview=jpeg&channel=a",
        "preview=",
        "preview=;5",
        "channel=rgb",
        "channel=a",
        "channel=rgba",
    )
)
RANGES = (
    "bytes=0-9", "bytes=5-", "bytes=-4", "bytes=-0", "bytes=-999", "bytes=3-2", "bytes=11-",
    "bytes=10-99", "bytes=0-1,3-4", "items=0-1", "bytes=-", "BYTES=1-2",
)  # fmt: skip


@asynccontextmanager
async def running(comfyui: Installation, base: Path, port: int) -> AsyncIterator[str]:
    """A real ComfyUI; gives its URL."""
    for name in ("input", "output", "user"):
        (base / name).mkdir(parents=True)
    command = [
        *(str(comfyui.python), "main.py", "--cpu", "--listen", "127.0.0.1", "--port", str(port)),
        *("--input-directory", str(base / "input"), "--output-directory", str(base / "output")),
        *("--temp-directory", str(base), "--user-directory", str(base / "user")),
        *("--database-url", "sqlite:///:memory:", "--disable-all-custom-nodes"),
        *("--disable-api-nodes", "--disable-auto-launch"),
    ]
    with (base / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(
            *command, cwd=comfyui.directory, stdout=log, stderr=subprocess.STDOUT
        )
        try:
            url = f"http://127.0.0.1:{port}"
            await until_up(url, process)
            yield url
        finally:
            process.kill()
            await process.wait()


async def until_up(url: str, process: asyncio.subprocess.Process) -> None:
    """Wait until it answers."""
    async with asyncio.timeout(START_S), aiohttp.ClientSession() as client:
        while True:
            assert process.returncode is None
            try:
                async with client.get(f"{url}/system_stats"):
                    return
            except aiohttp.ClientError:
                await asyncio.sleep(0.25)


def version_of(comfyui: Installation) -> str:
    """Its version, as its own file says."""
    text = (comfyui.directory / "comfyui_version.py").read_text()
    found = re.search(r'"([\d.]+)"', text)
    assert found is not None
    return found[1]


@pytest.fixture
async def doors(
    comfyui: Installation, tmp_path: Path, free_port: int
) -> AsyncIterator[tuple[FileDoor, FileDoor]]:
    """The real one and ours, over the same files."""
    engine = EngineSpec(EngineKind.COMFYUI, str(comfyui.directory), str(comfyui.python))
    async with (
        running(comfyui, tmp_path / "real", free_port) as url,
        file_door(
            tmp_path / "home", version=version_of(comfyui), spec=DeploymentSpec(engine=engine)
        ) as ours,
    ):
        for name, data in FILES.items():
            path = await ours.put_input(name, data)
            twin = tmp_path / "real" / "input" / name
            twin.parent.mkdir(parents=True, exist_ok=True)
            twin.write_bytes(data)
            for each in (path, twin):
                os.utime(each, (1_700_000_000.25, 1_700_000_000.25))
        yield replace(ours, url=url), ours


def facts(answer: Answer) -> dict[str, object]:
    """What must be equal of two answers."""
    told = {name: answer.headers.get(name) for name in COMPARED}
    return {"status": answer.status, **told}


def check_facts(told: Answer, expected: Answer) -> None:
    """The same facts, or more protection: ours comes to all versions since 0.4, theirs later."""
    if told.headers.get("cache-control") == "no-store":
        assert told.headers["content-disposition"].endswith(expected.headers["content-disposition"])
        assert told.headers["content-type"] == expected.headers["content-type"]
    else:
        assert facts(told) == facts(expected)


async def test_the_same_answers(
    doors: tuple[FileDoor, FileDoor], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    real = doors[0]
    for query in VIEWS:
        for verb in ("GET", "HEAD"):
            with subtests.test(f"{verb} {query}"):
                expected, told = [await d.ask(verb, f"/view{query}") for d in doors]
                check_facts(told, expected)
                assert told.body == expected.body
                assert told.headers.get("etag") == expected.headers.get("etag")
                assert told.headers.get("last-modified") == expected.headers.get("last-modified")
    for query in PICTURES:
        with subtests.test(query):
            expected, told = [await d.get(f"/view{query}") for d in doors]
            assert facts(told) == facts(expected)
            check_picture(told.body, expected.body)
    for wanted in RANGES:
        with subtests.test(wanted):
            path = "/view?filename=note.txt&type=input"
            expected, told = [await d.get(path, Range=wanted) for d in doors]
            assert facts(told) == facts(expected)
            assert told.body == expected.body
    for headers in conditions(await real.get("/view?filename=note.txt&type=input")):
        with subtests.test(str(headers)):
            path = "/view?filename=note.txt&type=input"
            expected, told = [await d.ask("GET", path, headers=headers) for d in doors]
            assert (told.status, told.body) == (expected.status, expected.body)
    await check_uploads(doors, tmp_path, subtests)
    await check_page(doors, subtests)
    await check_user(doors, subtests)


def conditions(plain: Answer) -> list[dict[str, str]]:
    """Conditional requests for a file."""
    tag, date = plain.headers["etag"], plain.headers["last-modified"]
    early = "Tue, 14 Nov 2020 22:13:20 GMT"
    return [
        {"If-None-Match": tag},
        {"If-None-Match": f'W/{tag}, "x"'},
        {"If-None-Match": "*"},
        {"If-None-Match": '"x"'},
        {"If-Match": '"x"'},
        {"If-Match": tag},
        {"If-Modified-Since": date},
        {"If-Modified-Since": early},
        {"If-Modified-Since": "nonsense"},
        {"If-Unmodified-Since": early},
        {"If-Unmodified-Since": date},
        {"If-None-Match": '"x"', "If-Modified-Since": date},
        {"Range": "bytes=0-1", "If-Range": date},
        {"Range": "bytes=0-1", "If-Range": early},
    ]


def check_picture(told: bytes, expected: bytes) -> None:
    """Two pictures of one kind that look the same; encoders differ from Pillow to Pillow."""
    with Image.open(BytesIO(told)) as mine, Image.open(BytesIO(expected)) as theirs:
        assert (mine.format, mine.mode, mine.size) == (theirs.format, theirs.mode, theirs.size)
        apart = ImageChops.difference(mine.convert("RGBA"), theirs.convert("RGBA"))
        assert max(apart.tobytes()) <= 2


async def check_uploads(
    doors: tuple[FileDoor, FileDoor], tmp_path: Path, subtests: pytest.Subtests
) -> None:
    """The same uploads, and afterwards the same files."""
    reference = json.dumps({"filename": "rgb.png", "type": "input", "subfolder": "sub/deep"})
    gone = json.dumps({"filename": "gone.png [input]"})
    steps: tuple[tuple[bytes, str, str, dict[str, str]], ...] = (
        (b"a", "up.png", "image", {}),
        (b"a", "up.png", "image", {}),
        (b"b", "up.png", "image", {}),
        (b"b", "up.png", "image", {}),
        (b"c", "up.png", "image", {"overwrite": "True"}),
        (b"d", "up.png", "image", {"overwrite": "true"}),
        (b"c", "up.png", "image", {"overwrite": "1"}),
        (b"c", "up.png", "image", {"overwrite": "0"}),
        (b"x", "no ending", "image", {}),
        (b"y", "no ending", "image", {}),
        (b"x", ".png", "image", {}),
        (b"y", ".png", "image", {}),
        (b"x", "a.tar.gz", "image", {}),
        (b"y", "a.tar.gz", "image", {}),
        (b"x", "ünï 猫.png", "image", {}),
        (b"x", "x/y.png", "image", {}),
        (b"", "nothing.png", "image", {}),
        (b"x", "up.png", "image", {"subfolder": "a/../b//c"}),
        (b"x", "up.png", "image", {"subfolder": "../x"}),
        (b"x", "up.png", "image", {"subfolder": "/tmp"}),
        (b"x", "up.png", "image", {"type": "temp"}),
        (b"x", "up.png", "image", {"type": "output"}),
        (b"y", "up.png", "image", {"type": "output"}),
        (MASK, "mask.png", "mask", {"original_ref": reference, "subfolder": "clipspace"}),
        (MASK, "mask.png", "mask", {"original_ref": reference, "subfolder": "clipspace"}),
        (MASK, "never.png", "mask", {"original_ref": gone}),
    )
    for number, (data, name, route, fields) in enumerate(steps):
        with subtests.test(f"upload {number} {name} {fields}"):
            expected, told = [await d.upload(data, name, route, **fields) for d in doors]
            assert told.status == expected.status
            assert told.headers.get("content-type") == expected.headers.get("content-type")
            assert (told.json() if told.body else None) == (
                expected.json() if expected.body else None
            )
    with subtests.test("files"):
        theirs, mine = files_in(tmp_path / "real" / "input"), files_in(doors[1].input_dir)
        assert mine.keys() == theirs.keys()
        for name, data in theirs.items():
            if "mask" not in name:
                assert mine[name] == data
                continue
            check_picture(mine[name], data)
            with Image.open(BytesIO(mine[name])) as made, Image.open(BytesIO(data)) as meant:
                assert made.info == meant.info
    for name in ("up.png", "up%20(1).png"):
        expected, told = [await d.get(f"/view?filename={name}") for d in doors]
        assert (told.status, told.body) == (expected.status, expected.body) != (404, b"")


def files_in(directory: Path) -> dict[str, bytes]:
    """All files beneath a directory."""
    found = (path for path in directory.rglob("*") if path.is_file())
    return {str(path.relative_to(directory)): path.read_bytes() for path in found}


async def check_page(doors: tuple[FileDoor, FileDoor], subtests: pytest.Subtests) -> None:
    """Every file of the page, and some that are not there."""
    front = (await doors[0].get("/")).body.decode()
    linked = re.findall(r'(?:src|href)="\.?/?([\w./-]+)"', front)
    extensions = (await doors[0].get("/extensions")).json()
    paths = ["/", *(f"/{path}" for path in linked), *extensions, "/nope.html", "/assets/nope.bin"]
    paths += ["/templates/index.json", "/docs/KSampler/en.md", "/docs/nope.md"]
    for path in dict.fromkeys(paths):
        with subtests.test(path):
            expected, told = [await d.get(path) for d in doors]
            assert told.status == expected.status
            if expected.status == 200:
                assert told.body == expected.body
                assert told.headers.get("cache-control") == expected.headers.get("cache-control")
                check_type(told.headers["content-type"], expected.headers["content-type"])


def check_type(told: str, expected: str) -> None:
    """The same type: JavaScript has two names, and we know some files that Python does not."""
    if expected != "application/octet-stream":
        assert told.replace("text/j", "application/j") == expected.replace(
            "text/j", "application/j"
        )


async def check_user(doors: tuple[FileDoor, FileDoor], subtests: pytest.Subtests) -> None:
    """The same files and settings of the page, in the same shapes."""
    steps = (
        ("GET", "/userdata?dir=workflows", None),
        ("GET", "/userdata", None),
        ("GET", "/userdata?dir=..", None),
        ("POST", "/userdata/workflows%2Fb.json", b"[1]"),
        ("POST", "/userdata/workflows%2Fa%20%C3%BC.json?overwrite=false", b"2"),
        ("POST", "/userdata/workflows%2Fa%20%C3%BC.json?overwrite=false", b"2"),
        ("POST", "/userdata/workflows%2Fdeep%2Fc.json", b"3"),
        ("POST", "/userdata/..%2Fc.json", b"c"),
        ("GET", "/userdata/workflows%2Fb.json", None),
        ("GET", "/userdata/workflows%252Fb.json", None),
        ("GET", "/userdata/nope", None),
        ("GET", "/userdata?dir=workflows&recurse=true", None),
        ("GET", "/userdata?dir=workflows&recurse=true&split=true", None),
        ("POST", "/userdata/workflows%2Fb.json/move/moved%2Fb.json", None),
        ("POST", "/userdata/workflows%2Fb.json/move/moved%2Fb.json", None),
        ("DELETE", "/userdata/moved%2Fb.json", None),
        ("DELETE", "/userdata/moved%2Fb.json", None),
        ("GET", "/users", None),
        ("POST", "/settings", b'{"A": 1, "B": [true]}'),
        ("POST", "/settings/B", b'"new"'),
        ("GET", "/settings/B", None),
        ("GET", "/settings/C", None),
        ("GET", "/settings", None),
        ("GET", "/v2/userdata?path=nope", None),
        ("GET", "/v2/userdata?path=..", None),
    )
    for number, (verb, path, data) in enumerate(steps):
        with subtests.test(f"user {number} {verb} {path}"):
            expected, told = [await d.ask(verb, path, data=data) for d in doors]
            assert told.status == expected.status
            assert told.headers.get("content-type") == expected.headers.get("content-type")
            if expected.headers.get("content-type", "").startswith("application/json"):
                told_json, meant = told.json(), expected.json()
                if isinstance(meant, list):
                    # ComfyUI lists in the order of the disk.
                    told_json, meant = sorted(told_json), sorted(meant)
                assert told_json == meant
            else:
                assert told.body == expected.body
