"""Paint `src/comfyserve/examples/postcard.jpg`: a mountain lake in the evening, made of noise alone.

    python -m tests.tools.paint_postcard [TARGET]

A height field with ridges is lit by a low sun and looked at across a lake, column by column from near to
far; haze, clouds and the mirror image in the water make the rest.
"""

import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

Field = NDArray[np.float64]

WIDTH, HEIGHT = 768, 512
SCALE = 2
"""Painted at twice the size, for smooth edges."""
W, H = WIDTH * SCALE, HEIGHT * SCALE
HORIZON = int(H * 0.60)
SIZE = 1024
"""Of the height field."""
SUN = np.array([0.74, 0.40, 0.05])
SUN_AT = (0.665, 0.47)
"""Where the sun stands in the picture, in widths and heights."""
WARM, PALE, BLUE = (
    np.array(each) / 255 for each in ((255, 196, 128), (236, 204, 190), (74, 118, 176))
)
HAZE = np.array((206, 188, 196)) / 255


def noise(shape: tuple[int, int], slope: float, seed: int) -> Field:
    """Return fractal noise that repeats at its edges, with mean 0 and deviation 1."""
    rng = np.random.default_rng(seed)
    fy = np.fft.fftfreq(shape[0])[:, None]
    fx = np.fft.rfftfreq(shape[1])[None]
    frequency = np.hypot(fx, fy)
    frequency[0, 0] = 1
    phases = np.exp(2j * np.pi * rng.random((shape[0], shape[1] // 2 + 1)))
    spectrum = phases * frequency ** (-slope)
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, shape)
    normal: Field = (field - field.mean()) / field.std()
    return normal


def smooth(low: float, high: float, x: Field) -> Field:
    """Go from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def terrain() -> Field:
    """Return heights: mountains behind and beside a basin that lies below 0."""
    z, x = np.mgrid[0:SIZE, 0:SIZE] / SIZE
    ridges = 1 - np.abs(noise((SIZE, SIZE), 2.25, 5)) / 1.7
    ridges = ridges + 0.13 * (1 - np.abs(noise((SIZE, SIZE), 1.95, 12)))
    detail = noise((SIZE, SIZE), 1.7, 8)
    side = np.abs(x - 0.5) * 2
    basin = smooth(
        0.30, 0.62, z + 0.75 * smooth(0.16, 0.9, side) + 0.05 * noise((SIZE, SIZE), 2.0, 3)
    )
    rise = smooth(0.42, 0.95, z)
    return basin * (0.05 + ridges * (0.09 + 0.36 * rise) + 0.012 * detail) - 0.035


def lit(heights: Field) -> tuple[Field, Field]:
    """Return how much sun each point gets, shadows included, and how steep it is."""
    dz, dx = np.gradient(heights * SIZE)
    normal = np.stack([-dx, np.ones_like(dx), -dz])
    normal /= np.linalg.norm(normal, axis=0)
    sun = SUN / np.linalg.norm(SUN)
    light = np.clip(np.tensordot(sun, normal, 1), 0, 1)
    shade = np.ones_like(heights)
    step = sun / np.hypot(sun[0], sun[2])
    for distance in range(2, 110, 3):
        shift = (round(-step[2] * distance), round(-step[0] * distance))
        blocker = np.roll(heights, shift, (0, 1)) - heights
        rise = distance * step[1] / SIZE
        shade = np.minimum(shade, 1 - smooth(0.0, 0.008, blocker - rise))
    return light * (0.25 + 0.75 * shade), 1 - normal[1]


def colours(heights: Field, steepness: Field) -> NDArray[np.float64]:
    """Return what the ground is made of: woods, meadows, rock, snow."""
    patchy = noise((SIZE, SIZE), 1.1, 21)
    wood, meadow = np.array((40, 58, 40)) / 255, np.array((112, 116, 62)) / 255
    rock, snow = np.array((120, 104, 98)) / 255, np.array((250, 246, 250)) / 255
    ground = wood + (meadow - wood) * smooth(-0.6, 1.4, patchy)[..., None]
    rocky = smooth(0.13, 0.27, heights + 0.025 * patchy + 0.12 * (steepness - 0.4))
    ground = ground + (rock * (1 + 0.12 * patchy[..., None]) - ground) * rocky[..., None]
    white = smooth(0.21, 0.33, heights + 0.02 * patchy - 0.16 * (steepness - 0.45))
    return ground + (snow - ground) * white[..., None]


def sky() -> Field:
    """Return the evening sky with a glow around the sun and thin clouds."""
    y, x = np.mgrid[0:H, 0:W]
    up = 1 - y / HORIZON
    picture = PALE + (BLUE - PALE) * smooth(0.05, 1.0, up)[..., None]
    distance = np.hypot((x / W - SUN_AT[0]) * 1.5, y / H - SUN_AT[1])
    glow = np.exp(-distance * 4.2)[..., None]
    picture = picture + (WARM - picture) * np.clip(1.15 * glow, 0, 1)
    picture = picture + 0.75 * np.exp(-((distance / 0.032) ** 2))[..., None]
    cirrus = noise((512, 512), 1.55, 31)
    rows = np.clip(512 * 0.9 * (1.02 - up) ** 0.6, 0, 511).astype(int)
    columns = (x * 0.16 + 60 * up).astype(int) % 512
    cloud = smooth(0.2, 2.0, cirrus[rows, columns]) * smooth(0.0, 0.25, up)
    tint = np.array((255, 226, 206)) / 255
    clouded: Field = picture + (tint - picture) * (0.78 * cloud)[..., None]
    return clouded


def look(picture: NDArray[np.float64]) -> None:
    """Draw the land over the sky, near to far: each column keeps the highest point drawn so far."""
    heights = terrain()
    light, steepness = lit(heights)
    ground = colours(heights, steepness)
    warm, cool = np.array((1.30, 1.05, 0.80)), np.array((0.34, 0.42, 0.56))
    shaded = ground * (light[..., None] * warm + cool)
    highest = np.full(W, HORIZON)
    angles = (np.arange(W) / W - 0.5) * 1.05
    for distance in np.geomspace(0.30, 0.99, 1500):
        z = np.full(W, int(distance * (SIZE - 1)))
        across = (0.5 + angles * distance * 0.92) * SIZE
        x = across.astype(int) % SIZE
        share = across % 1
        height = heights[z, x] * (1 - share) + heights[z, (x + 1) % SIZE] * share
        top = HORIZON - (height * H * 0.78 / distance).astype(int)
        haze = (smooth(0.30, 1.05, np.full(W, distance)) * 0.62)[:, None]
        colour = shaded[z, x] + (HAZE - shaded[z, x]) * haze
        for column in np.flatnonzero(top < highest):
            picture[max(top[column], 0) : highest[column], column] = colour[column]
        highest = np.minimum(highest, top)


def mirror(picture: NDArray[np.float64]) -> None:
    """Fill the lake with what is above it, drawn out by waves that grow towards us."""
    depth = np.arange(1, H - HORIZON + 1)[:, None]
    columns = np.arange(W)[None]
    waves = noise((512, 512), 1.0, 77)
    far = depth / (H - HORIZON)
    row = (190 * np.log1p(6 * far) / np.log(7) * 2.2).astype(int) % 512
    ripple = waves[row, (columns * (0.10 + 0.22 / (0.15 + far))).astype(int) % 512]
    above = HORIZON - 1 - (depth * 1.08 + ripple * (1.5 + 16 * far)).astype(int)
    sideways = np.clip(columns + (ripple * (0.5 + 5 * far)).astype(int), 0, W - 1)
    reflected = picture[np.clip(above, 0, HORIZON - 1), sideways]
    water = np.array((38, 66, 88)) / 255
    strength = (0.80 - 0.42 * far**1.4)[..., None]
    lake = water + (reflected - water) * strength
    path = np.exp(-(((columns / W - SUN_AT[0]) / (0.05 + 0.10 * far)) ** 2))
    glitter = np.clip(ripple - 0.55, 0, 1.6) * path * (0.75 - 0.35 * far)
    picture[HORIZON:] = lake + glitter[..., None] * WARM
    shore = np.exp(-((depth - 1) / 3.0))[..., None] * 0.35
    picture[HORIZON:] += (PALE - picture[HORIZON:]) * shore


def firs(picture: NDArray[np.float64]) -> None:
    """Stand dark firs and a bank on both sides of the foreground."""
    rng = np.random.default_rng(4)
    bank = noise((64, W), 1.4, 90)[3] * 6 * SCALE
    x = np.arange(W) / W
    edge = H - (H * (0.36 * smooth(0.72, 1.04, x) ** 1.3 + 0.22 * smooth(0.20, -0.04, x)))
    edge = (edge + bank * 0.6).astype(int)
    dark = np.array((17, 25, 25)) / 255
    for column in range(W):
        top = edge[column]
        if top < H:
            fade = np.linspace(1.35, 0.8, H - top)[:, None]
            picture[top:, column] = dark * fade + 0.012 * rng.random((H - top, 1))
    places = [*(0.70 + 0.34 * rng.random(26)), *(0.17 * rng.random(15) - 0.02)]
    for place in sorted(places, key=lambda each: -abs(each - 0.45)):
        foot = int(np.clip(place, 0, 0.999) * W)
        tall = H * (0.13 + 0.20 * rng.random()) * (0.65 + 0.9 * abs(place - 0.45))
        _fir(picture, foot, min(edge[foot] + 10 * SCALE, H), tall, rng)


def _fir(
    picture: NDArray[np.float64], foot: int, ground: int, tall: float, rng: np.random.Generator
) -> None:
    rows = np.arange(max(int(ground - tall), 0), min(ground, H))
    share = np.clip((rows - (ground - tall)) / tall, 0, 1)
    period = tall / (9 + 5 * rng.random())
    jag = 0.45 + 0.55 * (((rows - ground) / period) % 1.0)
    half = tall * 0.17 * share**0.9 * jag * (0.8 + 0.4 * rng.random(len(rows)))
    warm = np.array((52, 44, 32)) / 255
    dark = np.array((13, 21, 22)) / 255
    for row, width in zip(rows, half, strict=True):
        left, right = max(int(foot - width - 1), 0), min(int(foot + width + 2), W)
        if left < right:
            lean = np.linspace(1, 0, right - left)[:, None] ** 3
            picture[row, left:right] = dark + (warm - dark) * lean * 0.8


def paint() -> Image.Image:
    """Return the picture."""
    picture = sky()
    look(picture)
    mirror(picture)
    firs(picture)
    y, x = np.mgrid[0:H, 0:W]
    vignette = 1 - 0.22 * ((x / W - 0.5) ** 2 + (y / H - 0.5) ** 2) * 1.6
    pixels = np.clip(picture * vignette[..., None], 0, 1) ** 0.96
    image = Image.fromarray((pixels * 255).astype(np.uint8))
    small = image.resize((WIDTH, HEIGHT), Image.Resampling.LANCZOS)
    return small.filter(ImageFilter.UnsharpMask(1.2, 40, 2))


def main() -> None:
    """Write the picture."""
    default = Path(__file__).parents[2] / "src" / "comfyserve" / "examples" / "postcard.jpg"
    target = Path(sys.argv[1]) if len(sys.argv) > 1 else default
    paint().save(target, quality=86, optimize=True, progressive=True)


if __name__ == "__main__":
    main()
