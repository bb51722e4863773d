"""Properties of resizing that hold for every size. The exact pixels are in `test_pixels`."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from comfyserve.engine.nodes.pixels import repeat_to, total
from comfyserve.engine.resample import METHODS, Array, fma, resize, resize_cropped, to_bytes

sides = st.integers(1, 40)
methods = st.sampled_from(METHODS)


def noise(height: int, width: int, seed: int) -> Array:
    values = np.random.default_rng(seed).integers(0, 256, (2, height, width, 3))
    return values.astype(np.float32) / np.float32(255)


@given(sides, sides, sides, sides, methods)
def test_shape_and_type(
    height: int, width: int, new_height: int, new_width: int, method: str
) -> None:
    resized = resize(noise(height, width, 1), new_width, new_height, method)
    assert resized.shape == (2, new_height, new_width, 3)
    assert resized.dtype == np.float32


@given(sides, sides, methods)
def test_the_same_size_is_the_same_image(height: int, width: int, method: str) -> None:
    image = noise(height, width, 2)
    resized = resize(image, width, height, method)
    assert np.array_equal(to_bytes(resized), to_bytes(image))


@given(sides, sides, sides, sides, methods, st.integers(0, 255))
def test_one_colour_stays_one_colour(
    height: int, width: int, new_height: int, new_width: int, method: str, value: int
) -> None:
    image = np.full((1, height, width, 3), value / 255, np.float32)
    resized = resize(image, new_width, new_height, method)
    assert np.abs(resized - image[0, 0, 0, 0]).max() < 1e-5


@given(sides, sides, sides, sides, st.sampled_from(["nearest-exact", "bilinear", "area"]))
def test_no_value_leaves_the_range_of_the_image(
    height: int, width: int, new_height: int, new_width: int, method: str
) -> None:
    image = noise(height, width, 3)
    resized = resize(image, new_width, new_height, method)
    assert resized.min() >= image.min() - 1e-6
    assert resized.max() <= image.max() + 1e-6


@pytest.mark.parametrize(("width", "height"), [(10, 10), (40, 10), (10, 40)])
def test_cropping_keeps_the_middle(width: int, height: int) -> None:
    image = np.zeros((1, 30, 30, 3), np.float32)
    image[:, 14:16, 14:16] = 1
    resized = resize_cropped(image, width, height, "area")
    assert np.allclose(resized, resized[:, ::-1, ::-1], atol=1e-6)
    assert resized.max() > 0


def test_fma_rounds_once() -> None:
    a = np.array([1 + 2**-12], np.float32)
    assert fma(a, a, -np.float32(1 + 2**-11)) == np.float32(2**-24)


@given(st.integers(1, 3000), st.integers(0, 10))
def test_total_is_a_sum(count: int, seed: int) -> None:
    values = np.random.default_rng(seed).random(count).astype(np.float32)
    assert total(values) == pytest.approx(values.sum(dtype=np.float64), rel=1e-5)


@pytest.mark.parametrize(("count", "expected"), [(1, [0]), (3, [0, 1, 0]), (5, [0, 1, 0, 1, 0])])
def test_batches_repeat(count: int, expected: list[int]) -> None:
    images = np.arange(2, dtype=np.float32).reshape(2, 1, 1, 1)
    assert repeat_to(images, count).ravel().tolist() == expected
