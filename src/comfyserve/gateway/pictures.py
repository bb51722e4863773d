"""Pictures decoded and encoded again: previews, single channels, masks. All of it blocks.

Pillow is given the formats that people use, and no picture larger than its own alarm limit: some
of its other readers start programs, and a small file can hold a picture that fills the memory.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from io import BytesIO
from typing import BinaryIO

from PIL import Image, PngImagePlugin, UnidentifiedImageError

from comfyserve.domain.errors import InvalidInput, PayloadTooLarge
from comfyserve.gateway.studio import Picture, Rendering

MAX_PIXELS = 89_478_485
_FORMATS = (
    *("PNG", "JPEG", "WEBP", "GIF", "BMP", "DIB", "TIFF", "AVIF", "PPM", "ICO", "TGA"),
    *("JPEG2000", "QOI"),
)
_DEFAULT_QUALITY = 90
_MASKED_COMPRESSION = 4


def render(file: BinaryIO, rendering: Rendering) -> Picture:
    """Encode a picture as asked. Raises InvalidInput for what is no picture, PayloadTooLarge."""
    with _opened(file) as image:
        if rendering.preview is not None:
            return _preview(image, rendering.preview, rendering.channel)
        return _png(_opaque(image) if rendering.channel == "rgb" else _alpha_only(image))


def compose_mask(original: BinaryIO, mask: BinaryIO, name: str) -> bytes:
    """Put the mask's alpha on the original, keeping its text chunks; the format is that of `name`.

    Raises InvalidInput for what is no picture or does not fit, PayloadTooLarge.
    """
    with _opened(original) as below, _opened(mask) as above:
        if below.size != above.size:
            raise InvalidInput(
                f"the mask has {above.width}x{above.height} pixels, its original "
                f"{below.width}x{below.height}: they must be equal",
                code="mask_size",
            )
        texts = PngImagePlugin.PngInfo()
        for key, text in getattr(below, "text", {}).items():
            texts.add_text(key, str(text))
        masked = below.convert("RGBA")
        masked.putalpha(above.convert("RGBA").getchannel("A"))
    return _save(masked, _format_of(name), compress_level=_MASKED_COMPRESSION, pnginfo=texts)


def _preview(image: Image.Image, wanted: str, channel: str) -> Picture:
    kind, *rest = wanted.split(";")
    if kind not in {"webp", "jpeg"} or "a" in channel:
        kind = "webp"
    shown = image.convert("RGB") if kind == "jpeg" or channel == "rgb" else image
    last = rest[-1] if rest else kind
    quality = min(int(last[:4]), 100) if last.isascii() and last.isdigit() else _DEFAULT_QUALITY
    return Picture(_save(shown, kind, quality=quality), f"image/{kind}")


def _opaque(image: Image.Image) -> Image.Image:
    if image.mode == "RGBA":
        return Image.merge("RGB", image.split()[:3])
    return image.convert("RGB")


def _alpha_only(image: Image.Image) -> Image.Image:
    alpha = image.getchannel("A") if image.mode == "RGBA" else Image.new("L", image.size, 255)
    shown = Image.new("RGBA", image.size)
    shown.putalpha(alpha)
    return shown


def _png(image: Image.Image) -> Picture:
    return Picture(_save(image, "PNG"), "image/png")


def _save(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = BytesIO()
    try:
        image.save(buffer, format=kind, **options)
    except (OSError, ValueError) as error:
        raise InvalidInput(
            f"this picture cannot be written as {kind}: {error}", code="picture_format"
        ) from error
    return buffer.getvalue()


def _format_of(name: str) -> str:
    dot, ending = name.rpartition(".")[1:]
    kind = Image.registered_extensions().get(f"{dot}{ending.lower()}")
    if kind not in _FORMATS:
        raise InvalidInput(
            f"a masked picture cannot be saved as '{name[:80]}'; give it a name that ends in .png",
            code="picture_format",
        )
    return kind


@contextmanager
def _opened(file: BinaryIO) -> Iterator[Image.Image]:
    try:
        with Image.open(file, formats=_readable()) as image:
            if image.width * image.height > MAX_PIXELS:
                raise _too_large()
            image.load()
            yield image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_large() from error
    except (UnidentifiedImageError, OSError, SyntaxError, ValueError) as error:
        raise InvalidInput(
            "this file is not a picture that can be decoded", code="not_a_picture"
        ) from error


def _too_large() -> PayloadTooLarge:
    return PayloadTooLarge(
        f"this picture has more than {MAX_PIXELS} pixels and is only given as it is, without "
        "'preview' and 'channel'",
        code="picture_too_large",
    )


@cache
def _readable() -> tuple[str, ...]:
    """Those of the formats that this Pillow was built with."""
    Image.init()
    return tuple(name for name in _FORMATS if name in Image.OPEN)
