"""Images as bytes: the conversions of `/view` and `/upload/mask`."""

from io import BytesIO
from pathlib import Path
from typing import IO

from PIL import Image
from PIL.PngImagePlugin import PngInfo

_DEFAULT_QUALITY = 90


def encode_preview(path: Path, wanted: str, channel: str) -> tuple[bytes, str]:
    """Return a smaller version and its content type; `wanted` is `webp`, `jpeg` or such with `;quality`.

    Whatever else is wanted becomes WebP, as does all that keeps its alpha.
    """
    kind, *_, last = wanted.split(";") if ";" in wanted else (wanted, wanted)
    if kind not in ("webp", "jpeg") or "a" in channel:
        kind = "webp"
    quality = int(last) if last.isdecimal() else _DEFAULT_QUALITY
    buffer = BytesIO()
    with Image.open(path) as image:
        shown = image.convert("RGB") if kind == "jpeg" or channel == "rgb" else image
        shown.save(buffer, format=kind, quality=quality)
    return buffer.getvalue(), f"image/{kind}"


def without_alpha(path: Path) -> bytes:
    """Return the image as PNG with its colours alone."""
    with Image.open(path) as image:
        return _png(image.convert("RGB"))


def alpha_only(path: Path) -> bytes:
    """Return a black PNG with the alpha of the image; opaque where it has none."""
    with Image.open(path) as image:
        alpha = image.getchannel("A") if image.mode == "RGBA" else Image.new("L", image.size, 255)
        black = Image.new("RGBA", image.size)
    black.putalpha(alpha)
    return _png(black)


def _png(image: Image.Image) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format="PNG")
    return buffer.getvalue()


def save_with_alpha_of(mask: IO[bytes], original: Path, target: Path) -> None:
    """Write the original with the alpha of the mask, as PNG; texts of the original stay in it."""
    with Image.open(original) as image:
        texts = PngInfo()
        for key, text in getattr(image, "text", {}).items():
            texts.add_text(key, text)
        coloured = image.convert("RGBA")
    with Image.open(mask) as image:
        coloured.putalpha(image.convert("RGBA").getchannel("A"))
    coloured.save(target, compress_level=4, pnginfo=texts)
