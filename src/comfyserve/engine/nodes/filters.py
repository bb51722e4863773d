"""Colours and neighbourhoods: invert, blend, blur, sharpen, quantize."""

import math
from collections.abc import Callable, Mapping
from typing import Final

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from comfyserve.engine.nodes.pixels import Array, total
from comfyserve.engine.nodes.spec import (
    IMAGE,
    NodeClass,
    Style,
    choice,
    image,
    integer,
    number,
)
from comfyserve.engine.resample import fma, resize_cropped

_MODULE = "comfy_extras.nodes_post_processing"
_CATEGORY = "image/filters"
_TILE_ROWS = 16
"""Rows that are filtered at once, so that they stay in the processor's cache."""


def invert(*, image: Array) -> tuple[Array]:
    """Turn light into dark."""
    return (np.float32(1.0) - image,)


def blend(*, image1: Array, image2: Array, blend_factor: float, blend_mode: str) -> tuple[Array]:
    """Lay the second image over the first, by one of the usual formulas."""
    if image1.shape != image2.shape:
        image2 = resize_cropped(image2, image1.shape[2], image1.shape[1], "bicubic")
    mixed = _BLENDS[blend_mode](image1, image2)
    return (np.clip(image1 * (1 - blend_factor) + mixed * blend_factor, 0, 1),)


def _overlay(a: Array, b: Array) -> Array:
    return np.where(a <= 0.5, 2 * a * b, 1 - 2 * (1 - a) * (1 - b))


def _soft_light(a: Array, b: Array) -> Array:
    lifted = np.where(a <= 0.25, ((16 * a - 12) * a + 4) * a, np.sqrt(np.maximum(a, 0)))
    return np.where(b <= 0.5, a - (1 - 2 * b) * a * (1 - a), a + (2 * b - 1) * (lifted - a))


_BLENDS: Final[Mapping[str, Callable[[Array, Array], Array]]] = {
    "normal": lambda _, b: b,
    "multiply": lambda a, b: a * b,
    "screen": lambda a, b: 1 - (1 - a) * (1 - b),
    "overlay": _overlay,
    "soft_light": _soft_light,
    "difference": lambda a, b: a - b,
}


def blur(*, image: Array, blur_radius: int, sigma: float) -> tuple[Array]:
    """Average each pixel with its neighbours, the nearer ones weighing more."""
    return (_convolve(image, _gauss(blur_radius, sigma)),)


def sharpen(*, image: Array, sharpen_radius: int, sigma: float, alpha: float) -> tuple[Array]:
    """Take a multiple of the blurred image away from the image."""
    kernel = _gauss(sharpen_radius, sigma) * np.float32(-(alpha * 10))
    centre = (sharpen_radius, sharpen_radius)
    kernel[centre] = kernel[centre] - total(kernel) + np.float32(1.0)
    return (np.clip(_convolve(image, kernel), 0, 1),)


def _gauss(radius: int, sigma: float) -> Array:
    """Return a kernel that sums up to 1. `sigma` counts in radii, not in pixels."""
    size = 2 * radius + 1
    step = np.float32(2) / np.float32(size - 1)
    # From both ends to the middle, as torch.linspace goes.
    half = np.arange(radius, dtype=np.float32)
    start = fma(half, step, np.float32(-1))
    end = fma(np.arange(radius, -1, -1, dtype=np.float32), -step, np.float32(1))
    line = np.concatenate((start, end))
    distance = np.sqrt(line[:, None] * line[:, None] + line * line)
    exponent = -(distance * distance) / np.float32(2.0 * sigma * sigma)
    weights = np.exp(exponent, dtype=np.float64).astype(np.float32)
    return weights / total(weights)


def _convolve(images: Array, kernel: Array) -> Array:
    """Weigh the neighbourhood of each pixel; beyond the edges the image is mirrored."""
    radius = kernel.shape[0] // 2
    edges = ((0, 0), (radius, radius), (radius, radius), (0, 0))
    if radius >= min(images.shape[1:3]):
        raise RuntimeError(
            f"Padding size should be less than the corresponding input dimension, "
            f"but got: padding {radius} for an image of {images.shape[2]}x{images.shape[1]}"
        )
    padded = np.pad(images, edges, mode="reflect").astype(np.float64)
    filtered = np.empty(images.shape, np.float32)
    for top in range(0, images.shape[1], _TILE_ROWS):
        rows = padded[:, top : top + _TILE_ROWS + 2 * radius]
        filtered[:, top : top + _TILE_ROWS] = _convolve_rows(rows, kernel, images.shape[2])
    return filtered


def _convolve_rows(padded: NDArray[np.float64], kernel: Array, width: int) -> Array:
    """Filter a stripe. Each product goes into the float32 sum unrounded, in the kernel's order."""
    size = kernel.shape[0]
    height = padded.shape[1] - size + 1
    sums = np.zeros((padded.shape[0], height, width, padded.shape[3]), np.float32)
    products = np.empty(sums.shape, np.float64)
    for y in range(size):
        for x in range(size):
            window = padded[:, y : y + height, x : x + width]
            np.multiply(window, np.float64(kernel[y, x]), out=products)
            np.add(products, sums, out=products)
            sums = products.astype(np.float32)
    return sums


def quantize(*, image: Array, colors: int, dither: str) -> tuple[Array]:
    """Keep so many colours, the best ones of each image."""
    pixels = (image * np.float32(255)).astype(np.uint8)
    reduced = [_quantize_one(Image.fromarray(each), colors, dither) for each in pixels]
    return (np.stack(reduced).astype(np.float32) / np.float32(255),)


def _quantize_one(picture: Image.Image, colors: int, dither: str) -> NDArray[np.uint8]:
    palette = picture.quantize(colors=colors)
    spread = Image.Dither.NONE
    if dither == "floyd-steinberg":
        spread = Image.Dither.FLOYDSTEINBERG
    elif dither.startswith("bayer"):
        picture = _ordered(picture, palette, int(dither.split("-")[1]))
    return np.array(picture.quantize(palette=palette, dither=spread).convert("RGB"))


def _ordered(picture: Image.Image, palette: Image.Image, order: int) -> Image.Image:
    """Add a regular pattern that spreads each colour over two of the palette."""
    colors = len(palette.getpalette() or ()) // 3
    pattern = np.float32(2 * 256 / colors) * _bayer(round(math.log2(order))) + np.float32(0.5)
    pixels = np.asarray(picture).astype(np.float32)
    height, width = pixels.shape[:2]
    times = (-(-height // order), -(-width // order))
    pixels += np.tile(pattern, times)[:height, :width, None]
    return Image.fromarray(np.clip(pixels, 0, 255).astype(np.uint8))


def _bayer(level: int) -> Array:
    """Return the pattern of thresholds with 2^level values on each side."""
    if level == 0:
        return np.zeros((1, 1), np.float32)
    count = np.float32(4**level)
    inner = count * _bayer(level - 1)
    half = np.float32(0.5)
    blocks = [[inner - 3 * half, inner + half], [inner + 3 * half, inner - half]]
    return (np.block(blocks) / count).astype(np.float32)


NODES: Final = (
    NodeClass(
        name="ImageInvert",
        title="Invert Image Colors",
        category="image/color",
        run=invert,
        inputs=(image("image"),),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="ImageBlend",
        title="Blend Images",
        category=_CATEGORY,
        run=blend,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            image("image1"),
            image("image2"),
            number("blend_factor", default=0.5, min=0.0, max=1.0, step=0.01),
            choice("blend_mode", *_BLENDS),
        ),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="ImageBlur",
        title="Blur Image",
        category=_CATEGORY,
        run=blur,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            image("image"),
            integer("blur_radius", default=1, min=1, max=31, step=1),
            number("sigma", default=1.0, min=0.1, max=10.0, step=0.1),
        ),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="ImageSharpen",
        title="Sharpen Image",
        category=_CATEGORY,
        run=sharpen,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            image("image"),
            integer("sharpen_radius", default=1, min=1, max=31, step=1, advanced=True),
            number("sigma", default=1.0, min=0.1, max=10.0, step=0.01, advanced=True),
            number("alpha", default=1.0, min=0.0, max=5.0, step=0.01, advanced=True),
        ),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="ImageQuantize",
        title="Quantize Image",
        category=_CATEGORY,
        run=quantize,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            image("image"),
            integer("colors", default=256, min=1, max=256, step=1),
            choice(
                "dither",
                *("none", "floyd-steinberg", "bayer-2", "bayer-4", "bayer-8", "bayer-16"),
            ),
        ),
        outputs=(IMAGE,),
    ),
)
