"""ComfyUI's history: one entry per prompt id, kept as the bytes that are answered."""

from collections.abc import Sequence
from dataclasses import dataclass

from sqlalchemy import Connection, bindparam, delete, insert, select, update

from comfyserve.store.rows import chunked
from comfyserve.store.tables import job_history

# ComfyUI remembers as many. Older entries stay readable by id.
LONGEST_LIST = 10_000


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """What a finished job leaves in the history; `state` is the job's terminal state."""

    job_seq: int
    deployment_id: str
    prompt_id: str
    state: str
    entry: bytes
    summary: bytes | None = None


_here = job_history.c
_REPLACE = update(job_history).where(
    _here.deployment_id == bindparam("in_deployment"), _here.prompt_id == bindparam("of_prompt")
)
_INSERT = insert(job_history)
_ENTRY = select(_here.entry).where(
    _here.deployment_id == bindparam("deployment_id"), _here.prompt_id == bindparam("prompt_id")
)
_LIST = select(_here.prompt_id, _here.entry).where(
    _here.deployment_id == bindparam("deployment_id")
)
_NEWEST = _LIST.order_by(_here.seq.desc()).limit(bindparam("most"))
_FROM_OLDEST = _LIST.order_by(_here.seq).limit(bindparam("most")).offset(bindparam("skip"))
_CLEAR = delete(job_history).where(_here.deployment_id == bindparam("deployment_id"))
_DELETE = _CLEAR.where(_here.prompt_id.in_(bindparam("prompt_ids", expanding=True)))


def record_entry(connection: Connection, entry: HistoryEntry) -> None:
    """Store an entry. As with ComfyUI, a prompt id that ran before keeps its place in the order."""
    content = {
        "job_seq": entry.job_seq,
        "state": entry.state,
        "entry": entry.entry,
        "summary": entry.summary,
    }
    place = {"in_deployment": entry.deployment_id, "of_prompt": entry.prompt_id}
    if connection.execute(_REPLACE, {**content, **place}).rowcount == 0:
        named = {"deployment_id": entry.deployment_id, "prompt_id": entry.prompt_id}
        connection.execute(_INSERT, {**content, **named})


def read_entry(connection: Connection, deployment_id: str, prompt_id: str) -> bytes | None:
    """The entry of one prompt id."""
    sought = {"deployment_id": deployment_id, "prompt_id": prompt_id}
    entry: bytes | None = connection.execute(_ENTRY, sought).scalar_one_or_none()
    return entry


def list_entries(
    connection: Connection, deployment_id: str, max_items: int | None, offset: int | None
) -> list[tuple[str, bytes]]:
    """Entries, oldest first, by ComfyUI's rules.

    Without an offset (or with a negative one) the last `max_items`; else from that place on, and
    then never fewer than one, because ComfyUI counts only after it has added an entry.
    """
    sought: dict[str, object] = {"deployment_id": deployment_id}
    if offset is None or offset < 0:
        most = LONGEST_LIST if max_items is None else min(max(max_items, 0), LONGEST_LIST)
        rows = connection.execute(_NEWEST, {**sought, "most": most}).all()
        return [(prompt_id, entry) for prompt_id, entry in reversed(rows)]
    most = LONGEST_LIST if max_items is None else min(max(max_items, 1), LONGEST_LIST)
    rows = connection.execute(_FROM_OLDEST, {**sought, "most": most, "skip": offset}).all()
    return [(prompt_id, entry) for prompt_id, entry in rows]


def delete_entries(
    connection: Connection, deployment_id: str, prompt_ids: Sequence[str] | None
) -> None:
    """Forget entries by prompt id, or all of them. Jobs, receipts and assets stay."""
    if prompt_ids is None:
        connection.execute(_CLEAR, {"deployment_id": deployment_id})
        return
    for some in chunked(prompt_ids):
        connection.execute(_DELETE, {"deployment_id": deployment_id, "prompt_ids": some})
