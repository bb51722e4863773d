"""Names for inputs and outputs: short, unique, and the same for the same workflow."""

import re
from collections import Counter
from collections.abc import Iterable

NAME = re.compile(r"[a-z][a-z0-9_]{0,99}")
_MAX_LENGTH = 40


def slug(text: str) -> str:
    """Return a text as an identifier: `"Seed (main)"` becomes `"seed_main"`; `""` where nothing is left."""
    spaced = re.sub(r"(?<=[a-z])(?=[A-Z])", " ", text)
    found = re.sub(r"[^a-z0-9]+", "_", spaced.lower()).strip("_")[:_MAX_LENGTH].rstrip("_")
    return f"n{found}" if found[:1].isdigit() else found


def unique(wanted: Iterable[tuple[str, str]]) -> list[str]:
    """Give each its own name. `wanted`: name and title; where names clash the titles come to help."""
    pairs = [(name or "input", title) for name, title in wanted]
    counts = Counter(name for name, _ in pairs)
    taken: set[str] = set()
    # Where counting went on: thousands of nodes may want one name.
    numbers: dict[str, int] = {}
    given = []
    for name, title in pairs:
        base = name
        if counts[name] > 1 and title:
            base = title if name in title else f"{title}_{name}"
        candidate, number = base, numbers.get(base, 2)
        while candidate in taken:
            candidate, number = f"{base}_{number}", number + 1
        numbers[base] = number
        taken.add(candidate)
        given.append(candidate)
    return given
