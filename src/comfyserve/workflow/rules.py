"""ComfyUI's validation rules and the releases in which they changed.

Read from the history of `execution.py` and `comfy_execution/validation.py`, checked against recorded verdicts
of 0.3.64 and 0.26.0. 0.36.0 still has the rules of 0.21.0.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

NEWEST = (0, 21, 0)
OLDEST = (0, 3, 64)


@dataclass(frozen=True, slots=True)
class Rules:
    """Which rules one ComfyUI follows."""

    matches_template_types: bool
    """`COMFY_MATCHTYPE_V3` fits every type (0.4.0)."""
    matches_any_type: bool
    """`*` in a list of types fits every type, a list of values fits `COMBO` (0.8.0)."""
    expands_inputs: bool
    """Dynamic combos and growing inputs become plain inputs before they are checked (0.8.0)."""
    checks_combo_type: bool
    """The values of a `COMBO` are checked, not only those of the older list spelling (0.8.0)."""
    names_missing_class: bool
    """An unknown class is `missing_node_type` instead of `invalid_prompt` (0.12.0)."""
    replaces_classes: bool
    """Classes that are gone are rewritten to their successors first (0.14.0)."""
    finds_cycles: bool
    """A cycle is `dependency_cycle` on each of its nodes instead of nothing (0.20.0)."""
    checks_each_choice: bool
    """A multi-select combo takes a list, each value is checked and shown quoted (0.21.0)."""
    shares_mask_loader: bool
    """`LoadImageMask` has no validation function of its own any more (0.21.0)."""


def rules_for(version: tuple[int, ...]) -> Rules:
    """Return the rules of one ComfyUI version."""
    return Rules(
        matches_template_types=version >= (0, 4, 0),
        matches_any_type=version >= (0, 8, 0),
        expands_inputs=version >= (0, 8, 0),
        checks_combo_type=version >= (0, 8, 0),
        names_missing_class=version >= (0, 12, 0),
        replaces_classes=version >= (0, 14, 0),
        finds_cycles=version >= (0, 20, 0),
        checks_each_choice=version >= (0, 21, 0),
        shares_mask_loader=version >= (0, 21, 0),
    )


def parse_version(text: str) -> tuple[int, ...] | None:
    """Read `0.3.64`, `v0.26.0`, `0.33.0-4-gabc`; `None` where there is no number in it."""
    found = re.search(r"(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?", text)
    return tuple(int(part or 0) for part in found.groups()) if found else None


# Keys that newer servers put into every entry of `/object_info`, and from which release on.
_MARKS = (
    ("has_intermediate_output", NEWEST),
    ("is_input_list", (0, 18, 0)),
    ("search_aliases", (0, 11, 0)),
    ("price_badge", (0, 10, 0)),
)
_ALWAYS = {"input_order", "output_is_list", "output_name", "description", "python_module"}


def guess_version(entries: Mapping[str, Mapping[str, Any]]) -> tuple[int, ...]:
    """Tell the release by the shape of its `/object_info`; the newest where nothing is to be told."""
    keys: set[str] = set()
    for entry in entries.values():
        keys.update(entry)
    for key, version in _MARKS:
        if key in keys:
            return version
    return OLDEST if keys >= _ALWAYS else NEWEST
