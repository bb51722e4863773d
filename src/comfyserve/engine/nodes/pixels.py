"""Arithmetic on image arrays that several kinds of nodes share."""

from collections.abc import Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[np.float32]


def to_batch(masks: Array) -> Array:
    """Return masks as (batch, height, width), however they came."""
    return masks.reshape(-1, *masks.shape[-2:])


def repeat_to(images: Array, count: int) -> Array:
    """Repeat or cut a batch to a number of images."""
    if images.shape[0] >= count:
        return images[:count]
    times = -(-count // images.shape[0])
    return np.concatenate([images] * times)[:count]


def total(values: Array) -> np.float32:
    """Sum in the order of PyTorch's reduction on x86-64, so that the last bit agrees.

    Eight lanes, each with four running sums; a running sum is put aside after 16 values, and after 16
    of those again, so that it never meets values much smaller than itself.
    """
    lanes, streams, step = 8, 4, 16
    flat = values.ravel()
    rows = flat[: flat.size // lanes * lanes].reshape(-1, lanes)
    blocks = rows[: len(rows) // streams * streams].reshape(-1, streams, lanes)
    levels = [np.zeros((streams, lanes), np.float32) for _ in range(4)]
    for index, block in enumerate(blocks, start=1):
        levels[0] = levels[0] + block
        if index % step == 0:
            _carry(levels, index, step)
    partial = levels[0] + levels[1] + levels[2] + levels[3]
    return _fold([partial[0], *rows[len(blocks) * streams :]], partial[1:], flat[rows.size :])


def _carry(levels: list[Array], index: int, step: int) -> None:
    """Put the running sums aside, one level up, and further where that one is full too."""
    for level in range(1, len(levels)):
        levels[level] = levels[level] + levels[level - 1]
        levels[level - 1] = np.zeros_like(levels[0])
        if index % step ** (level + 1):
            return


def _fold(first: Sequence[Array], others: Array, rest: Array) -> np.float32:
    """Add up what is left: the streams, then single values and lanes from left to right."""
    lanes = np.zeros_like(first[0])
    for each in (*first, *others):
        lanes = lanes + each
    sum_ = np.float32(0)
    for value in (*rest, *lanes):
        sum_ = np.float32(sum_ + value)
    return sum_
