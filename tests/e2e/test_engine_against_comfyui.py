"""The same prompts on a real ComfyUI and on the engine: the same pixels, messages and answers."""

import asyncio
import os
import socket
import subprocess
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from tests.conftest import ComfyUI, find_comfyui
from tests.e2e.engine_process import EngineProcess, running
from tests.unit.engine.pixel_cases import CASES, RESULT, build

pytestmark = [pytest.mark.e2e, pytest.mark.comfyui, pytest.mark.timeout(300)]

INPUT = Path(__file__).parents[1] / "data" / "engine" / "input"
DIFFERENT = {"feather": "FeatherMask of 0.3.x is off by one; the engine follows the mended one"}
ROUNDED = ("blur", "sharpen", "blend-soft", "scale-bilinear")
"""Go through kernels that round by the processor (MKL; bilinear fuses multiply and add on some)."""


@dataclass
class Both:
    """A real ComfyUI and the engine."""

    real: EngineProcess
    ours: EngineProcess


@contextmanager
def real_comfyui(place: ComfyUI, directory: Path) -> Iterator[EngineProcess]:
    """Start a ComfyUI on the CPU with directories of its own."""
    for name in ("input", "output", "user"):
        (directory / name).mkdir(parents=True)
    command = [str(place.python), "main.py", "--cpu", "--port", str(_free_port())]
    for name in ("input", "output", "user"):
        command += [f"--{name}-directory", str(directory / name)]
    command += ["--temp-directory", str(directory), "--database-url", "sqlite:///:memory:"]
    process = subprocess.Popen(
        [*command, "--disable-all-custom-nodes"],
        cwd=place.directory,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    try:
        comfyui = EngineProcess(process, directory)
        comfyui.wait_ready()
        yield comfyui
    finally:
        process.kill()
        process.wait()
        assert process.stderr is not None
        process.stderr.close()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Both]:
    root = tmp_path_factory.mktemp("both")
    with real_comfyui(find_comfyui(), root / "real") as real, running(root / "ours") as ours:
        for path in INPUT.iterdir():
            for engine in (real, ours):
                (engine.directory / "input" / path.name).write_bytes(path.read_bytes())
        rng = np.random.default_rng(7)
        noise = rng.integers(0, 256, (301, 407, 3), np.uint8)
        for engine in (real, ours):
            Image.fromarray(noise).save(engine.directory / "input" / "noise.png")
        yield Both(real, ours)


def images_of(engine: EngineProcess, prompt: dict[str, Any]) -> list[NDArray[np.uint8]]:
    entry = engine.run(prompt)
    assert entry["status"]["status_str"] == "success", entry["status"]
    files = entry["outputs"][RESULT]["images"]
    bodies = [engine.get(f"/view?{urlencode(file)}").body for file in files]
    return [np.asarray(Image.open(BytesIO(body))) for body in bodies]


def difference(both: Both, prompt: dict[str, Any]) -> tuple[int, float]:
    """The largest difference of two values, and the share of values that differ."""
    real, ours = images_of(both.real, prompt), images_of(both.ours, prompt)
    assert [image.shape for image in real] == [image.shape for image in ours]
    apart = np.abs(np.stack(real).astype(int) - np.stack(ours))
    return int(apart.max()), float(np.mean(apart > 0))


@pytest.mark.parametrize("name", [name for name in CASES if name not in DIFFERENT])
def test_pixels(both: Both, name: str) -> None:
    largest, share = difference(both, build(name))
    assert largest <= (1 if name.startswith(ROUNDED) else 0)
    assert share <= 0.005


@pytest.mark.parametrize("method", ["nearest-exact", "bilinear", "area", "bicubic", "lanczos"])
@pytest.mark.parametrize(
    ("width", "height"), [(640, 480), (64, 64), (63, 65), (97, 800), (408, 300)]
)
def test_pixels_of_noise_in_many_sizes(both: Both, method: str, width: int, height: int) -> None:
    scale = {"upscale_method": method, "width": width, "height": height, "crop": "center"}
    prompt = {
        "1": {"class_type": "LoadImage", "inputs": {"image": "noise.png"}},
        "2": {"class_type": "ImageScale", "inputs": {"image": ["1", 0], **scale}},
        RESULT: {"class_type": "SaveImage", "inputs": {"images": ["2", 0], "filename_prefix": "n"}},
    }
    largest, share = difference(both, prompt)
    assert largest <= (1 if method == "bilinear" else 0)
    assert share <= 0.0001


def test_saved_files_are_the_same_to_the_byte(both: Both) -> None:
    # No LoadImage: ComfyUI writes what its change check says into the prompt in the file.
    prompt = {
        "1": _empty(64, 0x336699),
        RESULT: {
            "class_type": "SaveImage",
            "inputs": {"images": ["1", 0], "filename_prefix": "sub/bytes"},
        },
    }
    extra = {"extra_pnginfo": {"workflow": {"nodes": [1, 2.5, "ü"]}}}
    bodies = []
    for engine in (both.real, both.ours):
        entry = engine.run(prompt, extra_data=extra)
        (file,) = entry["outputs"][RESULT]["images"]
        assert file == {"filename": "bytes_00001_.png", "subfolder": "sub", "type": "output"}
        bodies.append(engine.get(f"/view?{urlencode(file)}").body)
    assert bodies[0] == bodies[1]


async def heard(engine: EngineProcess, prompts: list[dict[str, Any]]) -> list[Any]:
    """What a client hears while it runs prompts, without ids, times and names of temporary files."""
    messages: list[Any] = []
    async with (
        aiohttp.ClientSession() as session,
        session.ws_connect(f"{engine.url}/ws?clientId=me", max_msg_size=0) as socket,
    ):
        for prompt in prompts:
            body = {"prompt": prompt, "client_id": "me"}
            async with session.post(f"{engine.url}/prompt", json=body) as reply:
                assert reply.status == 200, await reply.text()
            while True:
                message = await asyncio.wait_for(socket.receive_json(), 30)
                messages.append(outline(message))
                if message["type"] == "executing" and message["data"]["node"] is None:
                    break
    return messages


_CHANGING = {"prompt_id", "timestamp", "filename", "traceback", "current_inputs", "sid"}
_SETS = {"executed", "nodes", "current_outputs"}


def outline(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _outlined(key, each) for key, each in value.items()}
    return [outline(each) for each in value] if isinstance(value, list) else value


def _outlined(key: str, value: Any) -> Any:
    if key in _CHANGING:
        return "…"
    return sorted(value) if key in _SETS and isinstance(value, list) else outline(value)


def _empty(width: object, color: int) -> dict[str, Any]:
    inputs = {"width": width, "height": 16, "batch_size": 1, "color": color}
    return {"class_type": "EmptyImage", "inputs": inputs}


def _branches(color: int, prefix: str) -> dict[str, Any]:
    """A prompt with one output: of several, a ComfyUI takes the first by chance."""
    blend = {"blend_factor": 0.5, "blend_mode": "normal"}
    return {
        "3": _empty(16, color),
        "8": _empty(16, color + 1),
        "4": {"class_type": "ImageInvert", "inputs": {"image": ["3", 0]}},
        "5": {
            "class_type": "ImageBlend",
            "inputs": {"image1": ["8", 0], "image2": ["4", 0], **blend},
        },
        "6": {
            "class_type": "ImageBlend",
            "inputs": {"image1": ["5", 0], "image2": ["3", 0], **blend},
        },
        "7": {"class_type": "SaveImage", "inputs": {"images": ["6", 0], "filename_prefix": prefix}},
    }


def test_messages(both: Both) -> None:
    prompts = [_branches(1, "a"), _branches(1, "a"), _branches(1, "b"), _branches(2, "b")]
    real = asyncio.run(heard(both.real, prompts))
    ours = asyncio.run(heard(both.ours, prompts))
    assert [each["type"] for each in ours] == [each["type"] for each in real]
    assert ours == real


def test_messages_of_an_error(both: Both) -> None:
    prompt = {
        "1": _empty(8, 1),
        "2": {
            "class_type": "ImageBlur",
            "inputs": {"image": ["1", 0], "blur_radius": 30, "sigma": 1.0},
        },
        "3": {"class_type": "PreviewImage", "inputs": {"images": ["2", 0]}},
    }
    real = asyncio.run(heard(both.real, [prompt]))
    ours = asyncio.run(heard(both.ours, [prompt]))
    for messages in (real, ours):
        for each in messages:
            each["data"].pop("exception_message", None)
    assert ours == real


PROBLEMS: dict[str, Any] = {
    "no outputs": {"1": _empty(8, 0)},
    "missing input": {"1": {"class_type": "PreviewImage", "inputs": {}}},
    "not a number": {
        "1": _empty("wide", 0),
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    },
    "too small": {
        "1": _empty(0, 0),
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    },
    "no such file": {
        "1": {"class_type": "LoadImage", "inputs": {"image": "no.png"}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    },
    "wrong type": {
        "1": {"class_type": "SolidMask", "inputs": {"value": 1.0, "width": 4, "height": 4}},
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
    },
    "half valid": {
        "1": _empty(8, 0),
        "2": {"class_type": "PreviewImage", "inputs": {"images": ["1", 0]}},
        "3": {"class_type": "PreviewImage", "inputs": {}},
    },
}


@pytest.mark.parametrize("name", PROBLEMS)
def test_verdicts(both: Both, name: str) -> None:
    body = {"prompt": PROBLEMS[name]}
    real, ours = both.real.post("/prompt", body), both.ours.post("/prompt", body)
    assert ours.status == real.status
    assert verdict(ours.json) == verdict(real.json)


def verdict(body: dict[str, Any]) -> Any:
    errors = {
        node: [(each["type"], each["message"], each["details"]) for each in found["errors"]]
        for node, found in body["node_errors"].items()
    }
    return body.get("error"), errors


def test_history(both: Both) -> None:
    real, ours = (engine.run(_branches(5, "shape")) for engine in (both.real, both.ours))
    # The engine follows a newer release, which adds the time of the prompt to its extra data.
    assert ours["prompt"][3].keys() - real["prompt"][3].keys() == {"create_time"}
    for entry in (real, ours):
        number, prompt_id, prompt, _, outputs = entry["prompt"]
        assert isinstance(number, int)
        assert isinstance(prompt_id, str)
        entry["prompt"] = [prompt, outputs]
    assert outline(ours) == outline(real)


def test_goldens_are_what_this_comfyui_gives(both: Both) -> None:
    archive = Path(__file__).parents[1] / "data" / "engine" / "goldens.zip"
    with zipfile.ZipFile(archive) as goldens:
        for name in ("scale-lanczos-72x60-disabled", "composite-masked", "load-palette.png"):
            (image,) = images_of(both.real, build(name))
            golden = np.asarray(Image.open(BytesIO(goldens.read(f"{name}/0.png"))))
            assert np.array_equal(image, golden)
