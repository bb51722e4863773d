"""Images from files and into files."""

import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from io import BytesIO
from typing import Any, Final

import numpy as np
from PIL import Image, ImageOps, ImageSequence
from PIL.PngImagePlugin import PngInfo

from comfyserve.engine.folders import FileType, Folders, SavePlace
from comfyserve.engine.hub import ImageType, Preview
from comfyserve.engine.nodes.pixels import Array
from comfyserve.engine.nodes.spec import (
    IMAGE,
    MASK,
    Context,
    Hidden,
    Input,
    NodeClass,
    Outcome,
    Output,
    Style,
    boolean,
    choice,
    image,
    integer,
    number,
    string,
)
from comfyserve.engine.resample import to_bytes

_CHANNELS: Final = {"alpha": "A", "red": "R", "green": "G", "blue": "B"}
_METHODS: Final = {"default": 4, "fastest": 0, "slowest": 6}
_MODEL_TAG, _MAKE_TAG = 0x0110, 0x010F
"""EXIF tags that ComfyUI puts the prompt and, counting down, the further texts into."""


def load(*, image: str, context: Context) -> tuple[Array, Array]:
    """Read all frames of an image file, and its alpha as an inverted mask."""
    pictures: list[Array] = []
    masks: list[Array] = []
    size: tuple[int, int] | None = None
    with Image.open(context.folders.input_path(image)) as file:
        for frame in _frames(file):
            picture = frame.convert("RGB")
            size = size or picture.size
            if picture.size == size:
                pictures.append(_to_floats(picture))
                masks.append(_alpha_mask(frame))
    return np.stack(pictures), np.stack(masks)


def _frames(file: Image.Image) -> Iterator[Image.Image]:
    """Go through the frames, upright; of a multi-picture JPEG only the first one is meant."""
    for frame in ImageSequence.Iterator(file):
        upright = ImageOps.exif_transpose(frame)
        # 16 bits of grey come as 32-bit integers that Pillow would cut off at 255.
        yield upright.point(lambda value: value * (1 / 255)) if upright.mode == "I" else upright
        if file.format == "MPO":
            return


def _to_floats(picture: Image.Image) -> Array:
    return np.asarray(picture).astype(np.float32) / np.float32(255.0)


def _alpha_mask(frame: Image.Image) -> Array:
    """Return 1 where the image is transparent; 64x64 zeros where it has no alpha, as in ComfyUI."""
    if "A" in frame.getbands():
        return np.float32(1) - _to_floats(frame.getchannel("A"))
    if frame.mode == "P" and "transparency" in frame.info:
        return np.float32(1) - _to_floats(frame.convert("RGBA").getchannel("A"))
    return np.zeros((64, 64), np.float32)


def load_mask(*, image: str, channel: str, context: Context) -> tuple[Array]:
    """Read one channel of an image file; alpha is inverted."""
    with Image.open(context.folders.input_path(image)) as file:
        frame = next(_frames(file)).convert("RGBA")
    mask = _to_floats(frame.getchannel(_CHANNELS[channel]))
    return ((np.float32(1) - mask if channel == "alpha" else mask)[None],)


def file_digest(folders: Folders, *, image: str, **_: object) -> str:
    """Return what the file holds, so that another one of the same name is read again."""
    return hashlib.sha256(folders.input_path(image).read_bytes()).hexdigest()


def save(
    *,
    images: Array,
    filename_prefix: str = "ComfyUI",
    prompt: Mapping[str, Any],
    extra_pnginfo: Mapping[str, Any] | None,
    context: Context,
) -> Outcome:
    """Write each image as PNG into the output directory, with the prompt as text in it."""
    place = save_place(context, filename_prefix, FileType.OUTPUT, images)
    texts = _png_texts(prompt, extra_pnginfo) if context.has_metadata else None
    return Outcome((images,), {"images": _save_pngs(images, place, FileType.OUTPUT, texts, 4)})


def preview(
    *,
    images: Array,
    prompt: Mapping[str, Any],
    extra_pnginfo: Mapping[str, Any] | None,
    context: Context,
) -> Outcome:
    """Write each image as PNG into the temp directory."""
    place = save_place(context, f"ComfyUI_temp_{context.temp_tag}", FileType.TEMP, images)
    texts = _png_texts(prompt, extra_pnginfo) if context.has_metadata else None
    return Outcome((images,), {"images": _save_pngs(images, place, FileType.TEMP, texts, 1)})


def save_place(context: Context, prefix: str, file_type: FileType, images: Array) -> SavePlace:
    """Return where files of a prefix go; the first image gives `%width%` and `%height%`."""
    height, width = images.shape[1:3]
    return context.folders.save_place(prefix, file_type, width, height, time.localtime())


def _png_texts(prompt: Mapping[str, Any], extra: Mapping[str, Any] | None) -> PngInfo:
    texts = PngInfo()
    texts.add_text("prompt", json.dumps(prompt))
    for key, value in (extra or {}).items():
        texts.add_text(key, json.dumps(value))
    return texts


def _save_pngs(
    images: Array, place: SavePlace, file_type: FileType, texts: PngInfo | None, level: int
) -> list[dict[str, str]]:
    files = []
    for index, pixels in enumerate(to_bytes(images)):
        name = place.name(index, ".png")
        path = place.directory / name
        Image.fromarray(pixels).save(path, pnginfo=texts, compress_level=level)
        files.append(file_entry(name, place, file_type))
    return files


def file_entry(name: str, place: SavePlace, file_type: FileType) -> dict[str, str]:
    """Return how a file is reported to the client."""
    return {"filename": name, "subfolder": place.subfolder, "type": file_type.value}


def save_webp(  # noqa: PLR0913 - one parameter for each input
    *,
    images: Array,
    filename_prefix: str,
    fps: float,
    lossless: bool,
    quality: int,
    method: str,
    prompt: Mapping[str, Any],
    extra_pnginfo: Mapping[str, Any] | None,
    context: Context,
) -> Outcome:
    """Write a batch as one animated WebP into the output directory."""
    place = save_place(context, filename_prefix, FileType.OUTPUT, images)
    first, *others = [Image.fromarray(pixels) for pixels in to_bytes(images)]
    exif = first.getexif()
    if context.has_metadata:
        exif[_MODEL_TAG] = f"prompt:{json.dumps(prompt)}"
        for index, (key, value) in enumerate((extra_pnginfo or {}).items()):
            exif[_MAKE_TAG - index] = f"{key}:{json.dumps(value)}"
    name = place.name(0, ".webp")
    first.save(
        place.directory / name,
        save_all=True,
        append_images=others,
        duration=int(1000.0 / fps),
        lossless=lossless,
        quality=quality,
        method=_METHODS[method],
        exif=exif,
    )
    files = [file_entry(name, place, FileType.OUTPUT)]
    return Outcome((images,), {"images": files, "animated": [len(images) != 1]})


def send(*, images: Array, context: Context) -> Outcome:
    """Send each image whole, as the preview of a step, to the client that waits for it."""
    for step, pixels in enumerate(to_bytes(images)):
        buffer = BytesIO()
        Image.fromarray(pixels).save(buffer, "PNG", compress_level=1)
        context.progress(step, len(images), Preview(ImageType.PNG, buffer.getvalue()))
    return Outcome()


def now(_: Folders, **__: object) -> float:
    """Another answer at each run: what was sent to somebody cannot be reused."""
    return time.time()


def empty(*, width: int, height: int, batch_size: int, color: int) -> tuple[Array]:
    """Make images of one colour, given as 0xRRGGBB."""
    pixel = [(color >> shift & 0xFF) / 0xFF for shift in (16, 8, 0)]
    return (np.full((batch_size, height, width, 3), pixel, np.float32),)


_PNG_HIDDEN: Final = (Hidden.PROMPT, Hidden.EXTRA_PNGINFO, Hidden.CONTEXT)
_IMAGES: Final = Output("IMAGE", "images")
_FILE: Final = Input("image", "COMBO", {"image_upload": True}, Folders.input_images)

NODES: Final = (
    NodeClass(
        name="LoadImage",
        title="Load Image",
        category="image",
        run=load,
        inputs=(_FILE,),
        outputs=(IMAGE, MASK),
        hidden=(Hidden.CONTEXT,),
        changed=file_digest,
    ),
    NodeClass(
        name="LoadImageMask",
        title="Load Image (as Mask)",
        category="image",
        run=load_mask,
        inputs=(_FILE, choice("channel", *_CHANNELS)),
        outputs=(MASK,),
        hidden=(Hidden.CONTEXT,),
        changed=file_digest,
    ),
    NodeClass(
        name="SaveImage",
        title="Save Image",
        category="image",
        run=save,
        inputs=(image("images"), string("filename_prefix", default="ComfyUI")),
        outputs=(_IMAGES,),
        hidden=_PNG_HIDDEN,
        is_output=True,
    ),
    NodeClass(
        name="PreviewImage",
        title="Preview Image",
        category="image",
        run=preview,
        inputs=(image("images"),),
        outputs=(_IMAGES,),
        hidden=_PNG_HIDDEN,
        is_output=True,
    ),
    NodeClass(
        name="SaveImageWebsocket",
        title="Save Image (Websocket)",
        category="image",
        run=send,
        module="custom_nodes.websocket_image_save",
        inputs=(image("images"),),
        hidden=(Hidden.CONTEXT,),
        is_output=True,
        changed=now,
    ),
    NodeClass(
        name="EmptyImage",
        title="Empty Image",
        category="image",
        run=empty,
        inputs=(
            integer("width", default=512, min=1, max=16384, step=1),
            integer("height", default=512, min=1, max=16384, step=1),
            integer("batch_size", default=1, min=1, max=4096),
            integer("color", default=0, min=0, max=0xFFFFFF, step=1, display="color"),
        ),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="SaveAnimatedWEBP",
        title="Save Animated WEBP",
        category="image",
        run=save_webp,
        style=Style.SCHEMA,
        module="comfy_extras.nodes_images",
        inputs=(
            image("images"),
            string("filename_prefix", default="ComfyUI", multiline=False),
            number("fps", default=6.0, min=0.01, max=1000.0, step=0.01),
            boolean("lossless", default=True),
            integer("quality", default=80, min=0, max=100),
            choice("method", *_METHODS),
        ),
        outputs=(_IMAGES,),
        hidden=_PNG_HIDDEN,
        is_output=True,
    ),
)
