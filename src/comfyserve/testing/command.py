"""How a run of the command line ended, for its tests."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Ran:
    """A command's exit code, and what it wrote where."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:  # noqa: ANN401 - the JSON border
        """Its data as JSON."""
        return json.loads(self.out)


Cli = Callable[..., Ran]
"""Runs a command with these arguments."""
