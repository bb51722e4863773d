"""What a file is, by its name, and which kinds a browser must not run on the gateway's origin."""

import mimetypes
from functools import cache

UNKNOWN = "application/octet-stream"

# What Python's own table lacks, or calls differently from release to release.
_MORE = {
    ".js": "text/javascript",
    ".mjs": "text/javascript",
    ".woff": "font/woff",
    ".woff2": "font/woff2",
    ".md": "text/markdown",
    ".webp": "image/webp",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".mkv": "video/x-matroska",
    ".m4v": "video/x-m4v",
    ".m4a": "audio/mp4",
    ".flac": "audio/flac",
    ".ogg": "audio/ogg",
    ".opus": "audio/ogg",
    ".glb": "model/gltf-binary",
    ".gltf": "model/gltf+json",
    ".obj": "model/obj",
    ".stl": "model/stl",
}
# ComfyUI's list, and the other names of JavaScript.
_PAGES = frozenset(
    {
        "text/html",
        "text/html-sandboxed",
        "application/xhtml+xml",
        "text/javascript",
        "application/javascript",
        "text/css",
    }
)


def content_type_of(name: str) -> str:
    """The content type that a file's name promises."""
    # The slash keeps a name like `data:text/html,x` from being read as a URL.
    return _table().guess_type(f"/{name}")[0] or UNKNOWN


def is_page(content_type: str) -> bool:
    """Whether a browser would show or run it as part of a page: never served as what it is."""
    return _bare(content_type) in _PAGES


def is_markup(content_type: str) -> bool:
    """Whether it is XML of some kind (SVG too), which may hold scripts: harmless as an image."""
    bare = _bare(content_type)
    return bare in {"text/xml", "application/xml"} or bare.endswith("+xml")


def _bare(content_type: str) -> str:
    return content_type.partition(";")[0].strip().lower()


@cache
def _table() -> mimetypes.MimeTypes:
    """Python's table without what the machine adds: answers are the same everywhere."""
    table = mimetypes.MimeTypes()
    for ending, content_type in _MORE.items():
        table.add_type(content_type, ending)
    return table
