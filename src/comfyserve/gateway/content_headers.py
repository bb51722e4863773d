"""Headers of a file that is shown where it can be, and never acts as a page of the gateway's origin."""

from comfyserve.gateway.content_types import UNKNOWN, is_markup, is_page
from comfyserve.gateway.files import disposition


def file_headers(name: str, content_type: str) -> dict[str, str]:
    """Content headers: inline, but for what a browser would run."""
    is_active = is_page(content_type) or is_markup(content_type)
    headers = {
        "content-type": UNKNOWN if is_page(content_type) else content_type,
        "content-disposition": disposition(name, "attachment; " if is_active else "inline; "),
        "x-content-type-options": "nosniff",
        "cache-control": "private, no-cache",
    }
    return {**headers, "content-security-policy": "sandbox"} if is_active else headers
