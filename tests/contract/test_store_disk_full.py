"""A disk that is really full: a clear error, nothing corrupted, and it goes on afterwards."""

import subprocess
import sys
from pathlib import Path

import pytest

_FILL = """
import asyncio, os, sys
from pathlib import Path
from comfyserve.domain.errors import StorageFull
from comfyserve.domain.job import JobDocuments
from comfyserve.store import open_store
from comfyserve.store.jobs import JobCounts
from comfyserve.testing.store_data import a_new_job, furnish

home = Path(sys.argv[1])
large = JobDocuments({"1": {"class_type": "X", "inputs": {"text": "x" * 20_000}}}, {}, ("1",))

async def enqueue(store):
    return await store.jobs.enqueue(a_new_job(documents=large, max_queue=10**6), 10.0)

async def refused(work):
    try:
        await work
    except StorageFull as error:
        assert "full" in error.message or "disk" in error.message, error.message
        return True
    return False

async def main():
    reserve = home / "reserve"
    reserve.write_bytes(bytes(9_000_000))
    async with open_store(home) as store:
        await furnish(store)
        accepted, answers = 0, []
        while not any(isinstance(answer, StorageFull) for answer in answers):
            answers = await asyncio.gather(
                *(enqueue(store) for _ in range(7)), return_exceptions=True
            )
            for answer in answers:
                if isinstance(answer, BaseException) and not isinstance(answer, StorageFull):
                    raise answer
            accepted += sum(not isinstance(answer, StorageFull) for answer in answers)
        while not await refused(store.blobs.put_bytes(b"y" * 100_000)):
            raise AssertionError("the disk was to be full")
        assert os.listdir(home / "blobs" / "incoming") == []
        assert await refused(enqueue(store))
        assert await store.jobs.counts("dp_1") == JobCounts(queued=accepted)

        reserve.unlink()
        await enqueue(store)
        blob = await store.blobs.put_bytes(b"y" * 100_000)
        assert await store.blobs.read_bytes(blob.digest) == b"y" * 100_000
        assert await store.jobs.counts("dp_1") == JobCounts(queued=accepted + 1)
    async with open_store(home) as store:
        assert await store.jobs.counts("dp_1") == JobCounts(queued=accepted + 1)
        assert len(await store.jobs.open_jobs("dp_1")) == accepted + 1
        check = lambda c: c.exec_driver_sql("PRAGMA integrity_check").scalar()
        assert await store.database.read(check) == "ok"
    print("accepted", accepted)

asyncio.run(main())
"""


def _on_a_small_disk(home: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run a script in a mount namespace of its own, where `home` is a disk of 16 MB."""
    mount = 'mount -t tmpfs -o size=16m none "$1" && exec "$2" -c "$3" "$1"'
    arguments = ["sh", "-c", mount, "sh", str(home), sys.executable, script]
    for options in (["--mount"], ["--user", "--map-root-user", "--mount"]):
        probe = ["unshare", *options, "mount", "-t", "tmpfs", "none", str(home)]
        try:
            if subprocess.run(probe, capture_output=True, timeout=20).returncode != 0:
                continue
        except FileNotFoundError:
            break
        command = ["unshare", *options, *arguments]
        return subprocess.run(command, capture_output=True, text=True, timeout=50)
    pytest.skip("this machine gives no mount namespace to this user")


def test_a_full_disk(tmp_path: Path) -> None:
    done = _on_a_small_disk(tmp_path, _FILL)
    assert done.returncode == 0, done.stderr
    assert int(done.stdout.split()[-1]) > 10


_TINY = """
import asyncio, sys
from pathlib import Path
from comfyserve.domain.errors import StorageFull
from comfyserve.store import open_store

home = Path(sys.argv[1])
(home / "other").write_bytes(bytes(16 * 1024 * 1024 - 50_000))

async def main():
    try:
        async with open_store(home):
            raise AssertionError("opened")
    except StorageFull:
        pass
    (home / "other").unlink()
    async with open_store(home):
        print("opened")

asyncio.run(main())
"""


def test_a_disk_too_small_for_a_new_home(tmp_path: Path) -> None:
    done = _on_a_small_disk(tmp_path, _TINY)
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == ["opened"]
