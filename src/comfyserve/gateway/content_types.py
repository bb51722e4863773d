"""What a file is, by its name, and which kinds a browser must not run on the gateway's origin."""

UNKNOWN = "application/octet-stream"

# A table of our own: the machine's differs from host to host, and Python's from release to release.
_BY_ENDING = {
    ".png": "image/png", ".apng": "image/apng", ".jpg": "image/jpeg", ".jpeg": "image/jpeg",
    ".jpe": "image/jpeg", ".webp": "image/webp", ".gif": "image/gif", ".bmp": "image/bmp",
    ".tif": "image/tiff", ".tiff": "image/tiff", ".avif": "image/avif", ".heic": "image/heic",
    ".heif": "image/heif", ".ico": "image/vnd.microsoft.icon", ".svg": "image/svg+xml",
    ".ppm": "image/x-portable-pixmap", ".pgm": "image/x-portable-graymap", ".jp2": "image/jp2",
    ".exr": "image/x-exr", ".hdr": "image/vnd.radiance", ".psd": "image/vnd.adobe.photoshop",
    ".mp4": "video/mp4", ".m4v": "video/x-m4v", ".webm": "video/webm", ".mkv": "video/x-matroska",
    ".mov": "video/quicktime", ".qt": "video/quicktime", ".avi": "video/x-msvideo",
    ".mpg": "video/mpeg", ".mpeg": "video/mpeg", ".ogv": "video/ogg", ".3gp": "video/3gpp",
    ".mp3": "audio/mpeg", ".wav": "audio/x-wav", ".flac": "audio/flac", ".ogg": "audio/ogg",
    ".oga": "audio/ogg", ".opus": "audio/ogg", ".m4a": "audio/mp4", ".aac": "audio/aac",
    ".aif": "audio/x-aiff", ".aiff": "audio/x-aiff", ".mid": "audio/midi",
    ".glb": "model/gltf-binary", ".gltf": "model/gltf+json", ".obj": "model/obj",
    ".stl": "model/stl", ".mtl": "model/mtl",
    ".txt": "text/plain", ".log": "text/plain", ".csv": "text/csv", ".md": "text/markdown",
    ".srt": "text/plain", ".vtt": "text/vtt", ".yaml": "text/yaml", ".yml": "text/yaml",
    ".json": "application/json", ".map": "application/json", ".pdf": "application/pdf",
    ".zip": "application/zip", ".gz": "application/gzip", ".tar": "application/x-tar",
    ".wasm": "application/wasm", ".xml": "text/xml", ".xsl": "application/xml",
    ".html": "text/html", ".htm": "text/html", ".shtml": "text/html",
    ".xhtml": "application/xhtml+xml", ".xht": "application/xhtml+xml",
    ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
    ".woff": "font/woff", ".woff2": "font/woff2", ".ttf": "font/ttf", ".otf": "font/otf",
    ".eot": "application/vnd.ms-fontobject", ".webmanifest": "application/manifest+json",
}  # fmt: skip
_PAGES = frozenset({"text/html", "application/xhtml+xml", "text/javascript", "text/css"})


def content_type_of(name: str) -> str:
    """The content type that a file's name promises."""
    stem, dot, ending = name.rpartition(".")
    return _BY_ENDING.get(f"{dot}{ending.lower()}", UNKNOWN) if stem else UNKNOWN


def is_page(content_type: str) -> bool:
    """Whether a browser would run it, or show it as a page: it is never given as what it is."""
    return content_type in _PAGES


def is_markup(content_type: str) -> bool:
    """Whether it is XML of some kind (SVG too), which may hold scripts: harmless as an image."""
    return content_type in {"text/xml", "application/xml"} or content_type.endswith("+xml")
