"""Masks: make them, change them, lay images over each other by them."""

from collections.abc import Callable, Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from comfyserve.engine.nodes.pixels import Array, repeat_to, to_batch
from comfyserve.engine.nodes.spec import (
    IMAGE,
    MASK,
    NodeClass,
    Style,
    boolean,
    choice,
    image,
    integer,
    mask,
    number,
)
from comfyserve.engine.resample import resize

_MODULE = "comfy_extras.nodes_mask"
_CATEGORY = "image/mask"
_CHANNELS: Final = ("red", "green", "blue", "alpha")


def composite(
    *,
    destination: Array,
    source: Array,
    x: int,
    y: int,
    resize_source: bool,
    mask: Array | None = None,
) -> tuple[Array]:
    """Lay the source over the destination at a place, through a mask where there is one."""
    if resize_source:
        source = resize(source, destination.shape[2], destination.shape[1], "bilinear")
    count, height, width = destination.shape[:3]
    source = repeat_to(source, count)
    x = max(-source.shape[2], min(x, width))
    y = max(-source.shape[1], min(y, height))
    place = (slice(None), slice(y, y + source.shape[1]), slice(x, x + source.shape[2]))
    visible = (slice(None), slice(height - y), slice(width - x))
    weight = np.ones_like(source) if mask is None else _fitted(mask, source)
    weight = weight[visible]
    result = destination.copy()
    result[place] = weight * source[visible] + (np.float32(1) - weight) * destination[place]
    return (result,)


def _fitted(masks: Array, images: Array) -> Array:
    """Return a mask of one channel for each image, in its size."""
    fitted = resize(to_batch(masks)[..., None], images.shape[2], images.shape[1], "bilinear")
    return repeat_to(fitted, images.shape[0])


def solid(*, value: float, width: int, height: int) -> tuple[Array]:
    """Make a mask of one value."""
    return (np.full((1, height, width), value, np.float32),)


def invert(*, mask: Array) -> tuple[Array]:
    """Swap inside and outside."""
    return (np.float32(1.0) - mask,)


def combine(*, destination: Array, source: Array, x: int, y: int, operation: str) -> tuple[Array]:
    """Combine two masks where they overlap, the source at a place of the destination."""
    result = to_batch(destination).copy()
    source = to_batch(source)
    right = min(x + source.shape[2], destination.shape[-1])
    bottom = min(y + source.shape[1], destination.shape[-2])
    place = (slice(None), slice(y, bottom), slice(x, right))
    part = source[:, : bottom - y, : right - x]
    result[place] = _OPERATIONS[operation](result[place], part)
    return (np.clip(result, 0, 1),)


def _on(mask: Array) -> NDArray[np.bool_]:
    return np.round(mask).astype(bool)


_OPERATIONS: Final[Mapping[str, Callable[[Array, Array], NDArray[Any]]]] = {
    "multiply": lambda a, b: a * b,
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "and": lambda a, b: _on(a) & _on(b),
    "or": lambda a, b: _on(a) | _on(b),
    "xor": lambda a, b: _on(a) ^ _on(b),
}


def feather(*, mask: Array, left: int, top: int, right: int, bottom: int) -> tuple[Array]:
    """Fade a mask out towards its sides, each over so many pixels."""
    result = to_batch(mask).copy()
    height, width = result.shape[1:]
    # Side by side, because corners are faded twice and each step rounds.
    for columns, step in ((result, left), (result[:, :, ::-1], right)):
        _fade(columns, min(step, width), axis=2)
    for rows, step in ((result, top), (result[:, ::-1], bottom)):
        _fade(rows, min(step, height), axis=1)
    return (result,)


def _fade(masks: Array, count: int, axis: int) -> None:
    """Multiply the first `count` rows or columns by 1/count, 2/count, ... 1."""
    rates = (np.arange(1, count + 1) / max(count, 1)).astype(np.float32)
    if axis == 2:
        masks[:, :, :count] *= rates
    else:
        masks[:, :count] *= rates[:, None]


def grow(*, mask: Array, expand: int, tapered_corners: bool) -> tuple[Array]:
    """Widen a mask by so many pixels, or narrow it where negative; corners tapered or square."""
    result = to_batch(mask)
    pick = np.minimum if expand < 0 else np.maximum
    for _ in range(abs(expand)):
        result = _spread(result, pick, with_corners=not tapered_corners)
    return (result,)


def _spread(masks: Array, pick: Callable[[Array, Array], Array], *, with_corners: bool) -> Array:
    """Give each pixel the most (or least) of itself and its neighbours."""
    edged = np.pad(masks, ((0, 0), (1, 1), (1, 1)), mode="edge")
    across = pick(pick(edged[:, :, :-2], edged[:, :, 2:]), edged[:, :, 1:-1])
    middle = across if with_corners else edged[:, :, 1:-1]
    return pick(pick(middle[:, :-2], middle[:, 2:]), across[:, 1:-1])


def to_image(*, mask: Array) -> tuple[Array]:
    """Turn a mask into a grey image."""
    return (np.repeat(to_batch(mask)[..., None], 3, axis=-1),)


def from_image(*, image: Array, channel: str) -> tuple[Array]:
    """Take one channel as a mask."""
    return (image[..., _CHANNELS.index(channel)],)


NODES: Final = (
    NodeClass(
        name="ImageCompositeMasked",
        title="Image Composite Masked",
        category="image/compositing",
        run=composite,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            image("destination"),
            image("source"),
            integer("x", default=0, min=0, max=16384, step=1),
            integer("y", default=0, min=0, max=16384, step=1),
            boolean("resize_source", default=False),
            mask("mask", optional=True),
        ),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="SolidMask",
        title="Create Solid Mask",
        category=_CATEGORY,
        run=solid,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            number("value", default=1.0, min=0.0, max=1.0, step=0.01),
            integer("width", default=512, min=1, max=16384, step=1),
            integer("height", default=512, min=1, max=16384, step=1),
        ),
        outputs=(MASK,),
    ),
    NodeClass(
        name="InvertMask",
        title="Invert Mask",
        category=_CATEGORY,
        run=invert,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(mask("mask"),),
        outputs=(MASK,),
    ),
    NodeClass(
        name="MaskComposite",
        title="Combine Masks",
        category=_CATEGORY,
        run=combine,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            mask("destination"),
            mask("source"),
            integer("x", default=0, min=0, max=16384, step=1),
            integer("y", default=0, min=0, max=16384, step=1),
            choice("operation", *_OPERATIONS),
        ),
        outputs=(MASK,),
    ),
    NodeClass(
        name="FeatherMask",
        title="Feather Mask",
        category=_CATEGORY,
        run=feather,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            mask("mask"),
            *(
                integer(side, default=0, min=0, max=16384, step=1)
                for side in ("left", "top", "right", "bottom")
            ),
        ),
        outputs=(MASK,),
    ),
    NodeClass(
        name="GrowMask",
        title="Grow Mask",
        category=_CATEGORY,
        run=grow,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(
            mask("mask"),
            integer("expand", default=0, min=-16384, max=16384, step=1),
            boolean("tapered_corners", default=True, advanced=True),
        ),
        outputs=(MASK,),
    ),
    NodeClass(
        name="MaskToImage",
        title="Convert Mask to Image",
        category=_CATEGORY,
        run=to_image,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(mask("mask"),),
        outputs=(IMAGE,),
    ),
    NodeClass(
        name="ImageToMask",
        title="Convert Image to Mask",
        category=_CATEGORY,
        run=from_image,
        style=Style.SCHEMA,
        module=_MODULE,
        inputs=(image("image"), choice("channel", *_CHANNELS)),
        outputs=(MASK,),
    ),
)
