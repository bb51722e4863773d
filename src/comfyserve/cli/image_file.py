"""Images that a command names: `FILE.py:image`, or the JSON of a spec."""

import json
from pathlib import Path

from comfyserve.domain.errors import InvalidInput, NotFound
from comfyserve.domain.image import read_image
from comfyserve.sdk.image import CompiledImage, Image
from comfyserve.sdk.loading import load_handler
from comfyserve.sdk.source import locate


def read_image_file(text: str) -> CompiledImage:
    """The image that is meant. A Pod or an `@asgi` application stands for its image.

    Raises NotFound, InvalidInput, and what loading the file raises.
    """
    if text.endswith(".json"):
        return CompiledImage(read_image(_read(Path(text))))
    found = load_handler(locate(text))
    image = found if isinstance(found, Image) else getattr(found, "image", None)
    if not isinstance(image, Image):
        raise InvalidInput(
            f"{text} is neither an Image nor has one, but {type(found).__name__}",
            code="not_an_image",
        )
    return image.compile()


def _read(path: Path) -> object:
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise NotFound(f"there is no file '{path}'", code="image_not_found") from None
    except ValueError as error:
        raise InvalidInput(f"'{path}' is not JSON: {error}", code="invalid_json") from error
