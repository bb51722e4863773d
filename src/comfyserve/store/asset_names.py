"""Public file names: which family a name belongs to, and how its next free name reads."""

import re
from dataclasses import dataclass

# ComfyUI's SaveImage writes `prefix_00001_.png`, video nodes `prefix_00001.mp4`.
_COUNTED = re.compile(
    r"(?P<stem>.+)_(?P<digits>\d{5,18})(?P<tail>_?)(?P<suffix>\.[^.]*)?", re.DOTALL
)
_COPY = re.compile(r"(?P<stem>.+) \((?P<digits>[1-9]\d{0,17})\)(?P<suffix>\.[^.]*)?", re.DOTALL)
_PLAIN = re.compile(r"(?P<stem>.+?)(?P<suffix>\.[^.]*)?", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a name stands: `ordinal` among the names of its `family`, which share a stem."""

    family: str
    ordinal: int


def place_of(name: str) -> Place:
    """The family and ordinal under which a name is stored."""
    if (counted := _COUNTED.fullmatch(name)) is not None:
        return Place(_counted_family(counted["stem"]), int(counted["digits"]))
    if (copy := _COPY.fullmatch(name)) is not None:
        return Place(_copy_family(copy["stem"] + (copy["suffix"] or "")), int(copy["digits"]))
    return Place(_copy_family(name), 0)


def is_counted(name: str) -> bool:
    """Whether a name has ComfyUI's counter, which goes on instead of getting a ` (1)`."""
    return _COUNTED.fullmatch(name) is not None


def alternatives_of(name: str) -> str:
    """The family of the names that may stand in for `name`."""
    counted = _COUNTED.fullmatch(name)
    return _copy_family(name) if counted is None else _counted_family(counted["stem"])


def alternative(name: str, ordinal: int) -> str:
    """The name with this ordinal among the alternatives of `name`."""
    if (counted := _COUNTED.fullmatch(name)) is not None:
        digits = f"{ordinal:0{len(counted['digits'])}}"
        return f"{counted['stem']}_{digits}{counted['tail']}{counted['suffix'] or ''}"
    plain = _PLAIN.fullmatch(name)
    stem, suffix = (name, "") if plain is None else (plain["stem"], plain["suffix"] or "")
    return f"{stem} ({ordinal}){suffix}"


def _counted_family(stem: str) -> str:
    # Whatever the type of file: ComfyUI counts all files of a prefix together.
    return f"{stem}_#"


def _copy_family(name: str) -> str:
    return f"{name} ()"
