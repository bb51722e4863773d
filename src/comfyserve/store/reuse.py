"""Stored results, found by what was asked, and given to a new job that needs no replica."""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import msgspec
from sqlalchemy import Connection, bindparam, select

from comfyserve.domain.job import Job, JobState
from comfyserve.domain.story import Kind, Story
from comfyserve.domain.usage import Receipt
from comfyserve.store.assets import Asset, NewAsset, add_asset, assets_of
from comfyserve.store.engine import Database
from comfyserve.store.job_entry import Entry, NewJob, enqueue_all, enqueue_keyed
from comfyserve.store.job_history import HistoryEntry, record_entry
from comfyserve.store.job_steps import end_reused
from comfyserve.store.rows import JOB_COLUMNS, job_from
from comfyserve.store.tables import job, job_call, job_history, job_story
from comfyserve.store.webhooks import WebhookSeal

_NO_LIMIT = 2**31 - 1
_MOST_LOOKED_AT = 5

Renamed = Mapping[tuple[str, str, str], tuple[str, str, str]]
HistoryMaker = Callable[[bytes, Job, Renamed], bytes]
"""Makes the entry of the new job of that of the first: names (file, subfolder, type) by the old ones."""

_CANDIDATES = (
    select(job.c.seq, *JOB_COLUMNS)
    .join(job_call, job_call.c.job_seq == job.c.seq)
    .where(
        job_call.c.reuse_key == bindparam("key"),
        job.c.state == JobState.SUCCEEDED.value,
        # A result that was itself reused is a copy: the first one counts.
        job_call.c.reused_from.is_(None),
    )
    .order_by(job_call.c.job_seq.desc())
    .limit(_MOST_LOOKED_AT)
)
_STORY = select(job_story.c.story).where(job_story.c.job_seq == bindparam("seq"))
_HISTORY = select(job_history.c.entry).where(job_history.c.job_seq == bindparam("seq"))
_decode_story = msgspec.json.Decoder(Story).decode


class ReuseStore:
    """Results that are given again. They belong to the job that is given them, as copies over the same bytes."""

    def __init__(self, database: Database, seal: WebhookSeal, news: asyncio.Event) -> None:
        self._database = database
        self._seal = seal
        self._news = news

    async def finish(self, new: NewJob, key: str, history: HistoryMaker, now: float) -> Job | None:
        """Store a job that has ended already, with the outputs of an earlier one of the same key.

        None, and nothing stored, if there is none that still has everything it made.
        """
        entry = Entry.of(replace(new, max_queue=_NO_LIMIT), self._seal, now)

        def work(connection: Connection) -> Job | None:
            for seq, *columns in connection.execute(_CANDIDATES, {"key": key}).all():
                source = job_from(columns)
                kept = _kept(connection, seq, source, now)
                if kept is not None:
                    return _finish(
                        connection, _with_source(entry, source), (seq, kept), history, now
                    )
            return None

        ended = await self._database.write(work)
        if ended is not None:
            self._news.set()
        return ended


def _kept(connection: Connection, seq: int, source: Job, now: float) -> Sequence[Asset] | None:
    """What a job made, if all of it is still there."""
    data = connection.execute(_STORY, {"seq": seq}).scalar()
    if data is None:
        return None
    made = {e.data["asset"] for e in _decode_story(data).entries if e.kind is Kind.OUTPUT}
    live = [asset for asset in assets_of(connection, source.id) if asset.is_live(now)]
    return live if live and made <= {asset.id for asset in live} else None


def _with_source(entry: Entry, source: Job) -> Entry:
    call = entry.new.call
    noted = None if call is None else replace(call, reused_from=source.id)
    return replace(entry, new=replace(entry.new, call=noted))


def _finish(
    connection: Connection,
    entry: Entry,
    source: tuple[int, Sequence[Asset]],
    history: HistoryMaker,
    now: float,
) -> Job:
    if entry.new.idempotency_key is None:
        enqueue_all(connection, (entry,))
    elif (first := enqueue_keyed(connection, entry)).is_replay:
        return first.job
    receipt = Receipt(
        queued_ms=0, wake_ms=0, load_ms=0, execute_ms=0, total_ms=0, billed_ms=0, attempts=0
    )
    renamed = {}
    for asset in source[1]:
        copy = add_asset(connection, _copy_of(asset, entry.new.id), now)
        renamed[_name(asset)] = _name(copy)
    # After its outputs: whoever is told of the end is told of them too.
    seq, ended = end_reused(connection, entry.new.id, receipt, now)
    data = connection.execute(_HISTORY, {"seq": source[0]}).scalar()
    if data is not None:
        record_entry(
            connection,
            HistoryEntry(
                job_seq=seq,
                deployment_id=ended.deployment_id,
                prompt_id=ended.prompt_id,
                state=ended.state.value,
                entry=history(data, ended, renamed),
                summary=None,
            ),
        )
    return ended


def _copy_of(asset: Asset, job_id: str) -> NewAsset:
    return NewAsset(
        deployment_id=asset.deployment_id,
        job_id=job_id,
        node_id=asset.node_id,
        name=asset.name,
        subfolder=asset.subfolder,
        type=asset.type,
        digest=asset.digest,
        size_bytes=asset.size_bytes,
        content_type=asset.content_type,
        expires_at=asset.expires_at,
    )


def _name(asset: Asset) -> tuple[str, str, str]:
    return asset.name, asset.subfolder, asset.type
