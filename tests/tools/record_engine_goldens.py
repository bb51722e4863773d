"""Make the input images of the pixel cases, and record what a running ComfyUI makes of the cases.

    python -m tests.tools.record_engine_goldens http://127.0.0.1:8188 COMFYUI_INPUT_DIRECTORY [CASE ...]

Writes `tests/data/engine/input/*` where they are missing, and `tests/data/engine/goldens.zip`. What is
there was recorded from 0.3.64, except `feather`: FeatherMask of that release is off by one pixel on the
right and below; that case is from 0.26.0. All others were equal there too, but for files that 0.26.0
reads with FFmpeg (16-bit grey, turned JPEG, GIF).
"""

import json
import shutil
import sys
import time
import urllib.request
import zipfile
from io import BytesIO
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tests.unit.engine.pixel_cases import CASES, RESULT, build

DATA = Path(__file__).parents[1] / "data" / "engine"
INPUT = DATA / "input"
GOLDENS = DATA / "goldens.zip"


def make_inputs() -> None:
    """Draw the input images: smooth colours with an edge, one flat, and the odd formats."""
    INPUT.mkdir(parents=True, exist_ok=True)
    photo = _photo(44, 36)
    photo.save(INPUT / "photo.png")
    Image.new("RGB", (33, 47), (201, 99, 52)).save(INPUT / "flat.png")
    alpha = _photo(30, 24).transpose(Image.Transpose.ROTATE_180).convert("RGBA")
    alpha.putalpha(_blob(30, 24))
    alpha.save(INPUT / "alpha.png")
    palette = photo.crop((0, 0, 20, 18)).quantize(12)
    palette.save(INPUT / "palette.png", transparency=3)
    grey = (np.asarray(photo.convert("L")).astype(np.uint16) * 257)[:18, :25]
    Image.fromarray(grey).save(INPUT / "grey.png")
    exif = Image.Exif()
    exif[0x0112] = 6
    photo.crop((0, 0, 28, 20)).save(INPUT / "turned.jpg", exif=exif, quality=90)
    frames = [photo.crop((step, 0, step + 16, 12)).quantize(16) for step in (0, 9, 18)]
    frames[0].save(INPUT / "moving.gif", save_all=True, append_images=frames[1:], duration=90)


def _photo(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    waves = np.stack(
        [
            128 + 110 * np.sin(x / 5.0 + y / 11.0),
            128 + 120 * np.cos(x / 9.0 - y / 4.0),
            255 * (x + y) / (width + height),
        ],
        axis=-1,
    )
    waves[height // 3 : height // 2, width // 4 : width // 2] = (250, 240, 10)
    return Image.fromarray(np.clip(waves, 0, 255).astype(np.uint8))


def _blob(width: int, height: int) -> Image.Image:
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    distance = np.hypot((x - width / 2) / width, (y - height / 2) / height)
    return Image.fromarray(np.clip(330 - 700 * distance, 0, 255).astype(np.uint8))


def run(server: str, prompt: dict[str, Any]) -> list[NDArray[np.uint8]]:
    """Run a prompt on a ComfyUI; return the images of its result."""
    body = json.dumps({"prompt": prompt}).encode()
    with urllib.request.urlopen(urllib.request.Request(f"{server}/prompt", data=body)) as reply:
        prompt_id = json.load(reply)["prompt_id"]
    while True:
        with urllib.request.urlopen(f"{server}/history/{prompt_id}") as reply:
            history = json.load(reply)
        if prompt_id in history:
            break
        time.sleep(0.02)
    status = history[prompt_id]["status"]
    if status["status_str"] != "success":
        raise RuntimeError(json.dumps(status["messages"][-1])[:2000])
    files = history[prompt_id]["outputs"][RESULT]["images"]
    return [_view(server, file) for file in files]


def _view(server: str, file: dict[str, str]) -> NDArray[np.uint8]:
    with urllib.request.urlopen(f"{server}/view?{urlencode(file)}") as reply:
        return np.asarray(Image.open(BytesIO(reply.read())))


def main() -> None:
    """Record all cases."""
    server, input_directory, *names = sys.argv[1:]
    if not INPUT.exists():
        make_inputs()
    for path in INPUT.iterdir():
        shutil.copy(path, input_directory)
    members: dict[str, bytes] = {}
    if names:
        with zipfile.ZipFile(GOLDENS) as archive:
            members = {member: archive.read(member) for member in archive.namelist()}
    for name in names or CASES:
        for index, pixels in enumerate(run(server, build(name))):
            # PNGs, because their filters make them half as large as packed arrays.
            buffer = BytesIO()
            Image.fromarray(pixels).save(buffer, format="PNG", optimize=True)
            members[f"{name}/{index}.png"] = buffer.getvalue()
    with zipfile.ZipFile(GOLDENS, "w") as archive:
        for member, data in members.items():
            archive.writestr(zipfile.ZipInfo(member), data)


if __name__ == "__main__":
    main()
