"""Size, shape and number of images."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

from comfyserve.engine.nodes.pixels import Array
from comfyserve.engine.nodes.spec import (
    IMAGE,
    MASK,
    NodeClass,
    Style,
    choice,
    image,
    integer,
    number,
)
from comfyserve.engine.resample import METHODS, resize, resize_cropped

_MODULE = "comfy_extras.nodes_images"
_METHODS: Final = choice("upscale_method", *METHODS)


def scale(*, image: Array, upscale_method: str, width: int, height: int, crop: str) -> tuple[Array]:
    """Resize to a size; 0 on one side keeps the proportions, 0 on both keeps the image."""
    old_height, old_width = image.shape[1:3]
    if width == 0 and height == 0:
        return (image,)
    if width == 0:
        width = max(1, round(old_width * height / old_height))
    elif height == 0:
        height = max(1, round(old_height * width / old_width))
    fit = resize_cropped if crop == "center" else resize
    return (fit(image, width, height, upscale_method),)


def scale_by(*, image: Array, upscale_method: str, scale_by: float) -> tuple[Array]:
    """Resize by a factor."""
    height, width = (round(side * scale_by) for side in image.shape[1:3])
    return (resize(image, width, height, upscale_method),)


def crop(*, image: Array, width: int, height: int, x: int, y: int) -> tuple[Array]:
    """Cut out a rectangle; what lies outside of the image is left out."""
    x = min(x, image.shape[2] - 1)
    y = min(y, image.shape[1] - 1)
    return (image[:, y : y + height, x : x + width],)


def flip(*, image: Array, flip_method: str) -> tuple[Array]:
    """Mirror upside down, or left to right."""
    axis = 1 if flip_method.startswith("x") else 2
    return (np.flip(image, axis),)


def rotate(*, image: Array, rotation: str) -> tuple[Array]:
    """Turn clockwise by quarters."""
    quarters = {"90 degrees": 1, "180 degrees": 2, "270 degrees": 3}.get(rotation, 0)
    return (np.rot90(image, quarters, axes=(2, 1)),)


def pad_for_outpaint(
    *, image: Array, left: int, top: int, right: int, bottom: int, feathering: int
) -> tuple[Array, Array]:
    """Add grey borders, and a mask that is 1 there and fades out into the image."""
    batch, height, width, channels = image.shape
    shape = (height + top + bottom, width + left + right)
    inside = (slice(top, top + height), slice(left, left + width))
    padded = np.full((batch, *shape, channels), 0.5, np.float32)
    padded[:, inside[0], inside[1]] = image
    mask = np.ones(shape, np.float32)
    mask[inside] = 0
    if 0 < feathering * 2 < min(height, width):
        rows = _distance(height, from_start=top != 0, from_end=bottom != 0)
        columns = _distance(width, from_start=left != 0, from_end=right != 0)
        distance = np.minimum(rows[:, None], columns)
        fade = np.clip((feathering - distance) / feathering, 0, None)
        mask[inside] = (fade * fade).astype(np.float32)
    return padded, mask[None]


def _distance(length: int, *, from_start: bool, from_end: bool) -> NDArray[np.intp]:
    """Return how far each pixel is from the sides that got a border."""
    index = np.arange(length)
    from_first = index if from_start else np.full_like(index, length)
    from_last = length - index if from_end else np.full_like(index, length)
    distance: NDArray[np.intp] = np.minimum(from_first, from_last)
    return distance


def batch(*, image1: Array, image2: Array) -> tuple[Array]:
    """Put two batches into one; the second takes the size of the first."""
    if image1.shape[1:3] != image2.shape[1:3]:
        image2 = resize_cropped(image2, image1.shape[2], image1.shape[1], "bilinear")
    return (np.concatenate((image1, image2)),)


def repeat_batch(*, image: Array, amount: int) -> tuple[Array]:
    """Repeat a batch as a whole."""
    return (np.tile(image, (amount, 1, 1, 1)),)


def from_batch(*, image: Array, batch_index: int, length: int) -> tuple[Array]:
    """Take some images out of a batch; a negative index counts from the end."""
    count = image.shape[0]
    start = batch_index + count if batch_index < 0 else batch_index
    start = max(0, min(count - 1, start))
    return (image[start : start + length],)


NODES: Final = (
    NodeClass(
        name="ImageScale",
        title="Upscale Image",
        category="image/upscaling",
        run=scale,
        inputs=(
            image("image"),
            _METHODS,
            integer("width", default=512, min=0, max=16384, step=1),
            integer("height", default=512, min=0, max=16384, step=1),
            choice("crop", "disabled", "center"),
        ),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="ImageScaleBy",
        title="Upscale Image By",
        category="image/upscaling",
        run=scale_by,
        inputs=(
            image("image"),
            _METHODS,
            number("scale_by", default=1.0, min=0.01, max=8.0, step=0.01),
        ),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="ImageCrop",
        title="Crop Image (DEPRECATED)",
        category="image/transform",
        run=crop,
        style=Style.SCHEMA,
        module=_MODULE,
        is_deprecated=True,
        inputs=(
            image("image"),
            integer("width", default=512, min=1, max=16384, step=1),
            integer("height", default=512, min=1, max=16384, step=1),
            integer("x", default=0, min=0, max=16384, step=1),
            integer("y", default=0, min=0, max=16384, step=1),
        ),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="ImageFlip",
        title="Flip Image",
        category="image/transform",
        run=flip,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            image("image"),
            choice("flip_method", "x-axis: vertically", "y-axis: horizontally"),
        ),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="ImageRotate",
        title="Rotate Image",
        category="image/transform",
        run=rotate,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            image("image"),
            choice("rotation", "none", "90 degrees", "180 degrees", "270 degrees"),
        ),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="ImagePadForOutpaint",
        title="Pad Image for Outpainting",
        category="image/transform",
        run=pad_for_outpaint,
        inputs=(
            image("image"),
            *(
                integer(side, default=0, min=0, max=16384, step=8)
                for side in ("left", "top", "right", "bottom")
            ),
            integer("feathering", default=40, min=0, max=16384, step=1, advanced=True),
        ),
        outputs=(IMAGE, MASK),
    ),
    NodeClass(
        name="ImageBatch",
        title="Batch Images (DEPRECATED)",
        category="image/batch",
        run=batch,
        is_deprecated=True,
        inputs=(image("image1"), image("image2")),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="RepeatImageBatch",
        title="Repeat Image Batch",
        category="image/batch",
        run=repeat_batch,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(image("image"), integer("amount", default=1, min=1, max=4096)),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="ImageFromBatch",
        title="Get Image from Batch",
        category="image/batch",
        run=from_batch,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            image("image"),
            integer("batch_index", default=0, min=-16384, max=16384),
            integer("length", default=1, min=1, max=4096),
        ),
        outputs=(IMAGE,),
    ),
)
