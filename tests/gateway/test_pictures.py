"""Pictures from anybody: every byte string is encoded or refused, and never does anything else."""

from io import BytesIO

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from comfyserve.domain.errors import InvalidInput, PayloadTooLarge
from comfyserve.gateway.pictures import compose_mask, render
from comfyserve.gateway.studio import Rendering


def encoded(kind: str, mode: str = "RGB", size: tuple[int, int] = (9, 7)) -> bytes:
    """A picture with some structure."""
    image = Image.radial_gradient("L").resize(size).convert(mode)
    buffer = BytesIO()
    image.save(buffer, kind)
    return buffer.getvalue()


SEEDS = [
    encoded("PNG"),
    encoded("PNG", "RGBA"),
    encoded("PNG", "P"),
    encoded("PNG", "I;16"),
    encoded("JPEG"),
    encoded("JPEG", "CMYK"),
    encoded("WEBP", "RGBA"),
    encoded("GIF", "P"),
    encoded("BMP"),
    encoded("TIFF", "F"),
    encoded("PPM"),
    encoded("ICO", "RGBA", (16, 16)),
]
renderings = st.builds(
    Rendering,
    preview=st.one_of(
        st.none(),
        st.sampled_from(["webp", "jpeg", "webp;5", "jpeg;100", "png", "", ";", "jpeg;;7"]),
        st.text(max_size=8),
    ),
    channel=st.sampled_from(["", "rgb", "rgba", "a", "x"]),
)


@pytest.mark.parametrize("seed", SEEDS)
def test_every_kind_can_be_shown(seed: bytes) -> None:
    with Image.open(BytesIO(seed)) as image:
        size = image.size
    for rendering in (
        Rendering("webp", ""),
        Rendering("jpeg;70", ""),
        Rendering("jpeg", "rgba"),
        Rendering(None, "rgb"),
        Rendering(None, "a"),
    ):
        made = render(BytesIO(seed), rendering)
        with Image.open(BytesIO(made.body)) as shown:
            assert shown.size == size
            assert Image.MIME[shown.format or ""] == made.content_type


@st.composite
def damaged(draw: st.DrawFn) -> bytes:
    """A picture with some bytes changed, cut off or added."""
    data = bytearray(draw(st.sampled_from(SEEDS)))
    for _ in range(draw(st.integers(0, 6))):
        data[draw(st.integers(0, len(data) - 1))] = draw(st.integers(0, 255))
    return bytes(data[: draw(st.integers(0, len(data)))]) + draw(st.binary(max_size=8))


# Pillow warns about what is damaged, then reads on or gives up.
@pytest.mark.filterwarnings("ignore::UserWarning")
@given(data=st.one_of(damaged(), st.binary(max_size=200)), rendering=renderings)
def test_anything_is_encoded_or_refused(data: bytes, rendering: Rendering) -> None:
    try:
        made = render(BytesIO(data), rendering)
    except (InvalidInput, PayloadTooLarge):
        return
    with Image.open(BytesIO(made.body)) as image:
        image.load()


@pytest.mark.filterwarnings("ignore::UserWarning")
@given(original=damaged(), mask=damaged(), name=st.sampled_from(["m.png", "m.webp", "m.gif", "m"]))
def test_any_mask_is_composed_or_refused(original: bytes, mask: bytes, name: str) -> None:
    try:
        made = compose_mask(BytesIO(original), BytesIO(mask), name)
    except (InvalidInput, PayloadTooLarge):
        return
    with Image.open(BytesIO(made)) as image:
        image.load()


def test_formats_that_start_programs_are_not_read() -> None:
    script = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n%%EOF\n"
    with pytest.raises(InvalidInput, match="not a picture"):
        render(BytesIO(script), Rendering("webp", ""))
