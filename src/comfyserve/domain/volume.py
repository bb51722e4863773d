"""Volumes: named directories of a server, and where in a replica they are seen."""

import re

from comfyserve.domain.errors import InvalidInput

_NAME = re.compile(r"[a-z0-9](?:[a-z0-9_.-]{0,62}[a-z0-9])?")


def check_volume_name(name: str) -> str:
    """Return `name` if it can name a volume, else raise InvalidInput."""
    if _NAME.fullmatch(name) and ".." not in name:
        return name
    raise InvalidInput(
        f"'{name[:80]}' cannot be the name of a volume: use 1 to 64 of a-z, 0-9, '-', '_' and '.', "
        "beginning and ending with a letter or digit",
        code="invalid_name",
    )
