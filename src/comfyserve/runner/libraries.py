"""What an image's Python lacks to serve an application: taken from our own, behind all of its own."""

import os
import sys
from importlib.util import find_spec

VARIABLE = "COMFYSERVE_LIBRARIES"
"""Where our libraries are and for which Python: `3.11:/path`, set by the launcher."""
_NEEDED = "uvicorn"


def add_missing() -> None:
    """Append our libraries to the path if the server is not there. What the image has goes first.

    Raises SystemExit saying what to install where they are for another Python.
    """
    version, _, path = os.environ.pop(VARIABLE, "").partition(":")
    if find_spec(_NEEDED) is not None:
        return
    ours = f"{sys.version_info.major}.{sys.version_info.minor}"
    if not path or version != ours:
        raise SystemExit(
            f"this Python {ours} has no module '{_NEEDED}', which serves applications: add it to "
            f'the image, .add_python_packages(["{_NEEDED}"])'
        )
    sys.path.append(path)
