"""A job's story: what happened to it, in order, to be told to whoever comes late.

Only what a reader must not miss is in it: stages, nodes, outputs. How far a node is, and what it
looks like meanwhile, is told as it is at the moment, and not kept.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

MOST = 1000
"""Entries of a story. Beyond it the oldest nodes are left out; stages and outputs never are."""


class Stage(StrEnum):
    """Where a job is, in words that a caller can show."""

    QUEUED = "queued"
    PLACING = "placing"
    STARTING = "starting"
    LOADING = "loading"
    RUNNING = "running"
    SAVING = "saving"
    DONE = "done"


class Kind(StrEnum):
    """What an entry tells."""

    STAGE = "stage"
    NODE = "node"
    OUTPUT = "output"


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that happened; `number` counts from 1 and never comes twice in a story."""

    number: int
    at: float
    kind: Kind
    data: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Story:
    """The entries of one attempt. `began` (milliseconds since the epoch) tells attempts apart."""

    began: int
    entries: Sequence[Entry] = ()

    def after(self, mark: tuple[int, int] | None) -> Sequence[Entry]:
        """What a reader who has heard up to `mark` (`began`, number) has not heard yet.

        One who heard another attempt hears this one from its beginning.
        """
        if mark is None or mark[0] != self.began:
            return self.entries
        return [entry for entry in self.entries if entry.number > mark[1]]


def event_id(story: Story, entry: Entry) -> str:
    """An entry as a reader names it."""
    return f"{story.began}-{entry.number}"


def parse_event_id(text: str | None) -> tuple[int, int] | None:
    """What `event_id` made; None for anything else: its reader hears everything."""
    began, dash, number = (text or "").partition("-")
    if not dash or len(began) > 16 or len(number) > 9:
        return None
    if not (began + number).isascii() or not began.isdecimal() or not number.isdecimal():
        return None
    return int(began), int(number)


@dataclass(slots=True)
class StoryTeller:
    """Writes the story of an attempt while it goes on."""

    began: int
    stage: Stage = Stage.QUEUED
    _entries: list[Entry] = field(default_factory=list)
    _number: int = 0
    _node: str | None = None

    @property
    def story(self) -> Story:
        """What there is so far."""
        return Story(self.began, tuple(self._entries))

    @property
    def length(self) -> int:
        """The number of the last entry."""
        return self._number

    def enter(self, stage: Stage, at: float) -> None:
        """The job comes to a stage; nothing if it is there."""
        if stage is not self.stage or not self._entries:
            self.stage = stage
            self._add(Kind.STAGE, at, {"stage": stage.value})

    def begin_node(self, node_id: str, number: int, total: int, at: float) -> None:
        """A node begins, the `number`th of `total`; nothing if it is the one that runs."""
        if node_id != self._node:
            self._node = node_id
            self._add(Kind.NODE, at, {"node": node_id, "number": number, "total": total})

    def add_output(self, asset_id: str, at: float) -> None:
        """A file was taken in."""
        self._add(Kind.OUTPUT, at, {"asset": asset_id})

    def _add(self, kind: Kind, at: float, data: Mapping[str, Any]) -> None:
        self._number += 1
        self._entries.append(Entry(self._number, at, kind, data))
        if len(self._entries) > MOST:
            oldest = next((e for e in self._entries if e.kind is Kind.NODE), None)
            if oldest is not None:
                self._entries.remove(oldest)
