"""A process that is killed in a burst has kept every promise that it made."""

import asyncio
import signal
import sys
from pathlib import Path

import pytest

from comfyserve.domain.job import JobState
from comfyserve.store import open_store
from comfyserve.store.jobs import JobCounts, JobFilter

_BURST = """
import asyncio, sys
from pathlib import Path
from comfyserve.domain.job import JobEventKind
from comfyserve.store import open_store
from comfyserve.testing.store_data import a_new_job, a_replica, furnish

async def enqueue(store):
    while True:
        job = (await store.jobs.enqueue(a_new_job(max_queue=10**9), 10.0)).job
        print("queued", job.id, flush=True)

async def work(store, replica_id):
    await store.replicas.save(a_replica(replica_id))
    while True:
        job = await store.jobs.claim(
            "dp_1", revision_id="rv_dp_1_1", replica_id=replica_id, owner="rt_1",
            lease_until=99.0, now=20.0,
        )
        if job is not None:
            print("claimed", job.id, flush=True)
            await store.jobs.finish(
                job.id, owner="rt_1", attempt=1, event=JobEventKind.SUCCEEDED, now=30.0,
                history=job.id.encode(),
            )
            print("finished", job.id, flush=True)

async def main():
    async with open_store(Path(sys.argv[1])) as store:
        await furnish(store)
        async with asyncio.TaskGroup() as group:
            for number in range(8):
                group.create_task(enqueue(store))
            for number in range(2):
                group.create_task(work(store, f"rp_w{number}"))

asyncio.run(main())
"""


@pytest.mark.parametrize("lines", [1, 60, 700])
async def test_every_acknowledged_job_survives(tmp_path: Path, lines: int) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _BURST, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    said = [(await process.stdout.readline()).split() for _ in range(lines)]
    process.send_signal(signal.SIGKILL)
    said += [line.split() for line in (await process.stdout.read()).splitlines()]
    await process.wait()
    told: dict[str, set[str]] = {"queued": set(), "claimed": set(), "finished": set()}
    for line in said:
        if len(line) == 2 and len(line[1]) == 36:  # the last one may have been cut off
            told[line[0].decode()].add(line[1].decode())
    assert told["queued"]

    async with open_store(tmp_path) as store:
        jobs, cursor = {}, None
        while True:
            page = await store.jobs.list(JobFilter(), 1000, cursor)
            jobs.update({job.id: job for job in page.jobs})
            if (cursor := page.next_cursor) is None:
                break
        assert told["queued"] <= set(jobs)
        assert all(jobs[job_id].attempts == 1 for job_id in told["claimed"])
        for job_id in told["finished"]:
            assert jobs[job_id].state is JobState.SUCCEEDED
            assert await store.jobs.history_entry("dp_1", job_id) == job_id.encode()
        states = [job.state for job in jobs.values()]
        assert await store.jobs.counts("dp_1") == JobCounts(
            queued=states.count(JobState.QUEUED), active=states.count(JobState.RUNNING)
        )
        entries = await store.jobs.history("dp_1")
        assert len(entries) == states.count(JobState.SUCCEEDED)
        numbers = sorted(job.number for job in jobs.values())
        assert numbers == list(range(len(numbers)))
        check = await store.database.read(
            lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar()
        )
        assert check == "ok"
