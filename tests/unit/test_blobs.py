"""Blobs: whole or not at all, once, and found by what they are."""

import asyncio
import errno
import os
import resource
import signal
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from comfyserve.domain.errors import InvalidInput, NotFound, StorageFull
from comfyserve.store.blobs import BlobStore


@pytest.fixture
async def blobs(tmp_path: Path) -> BlobStore:
    blobs = BlobStore(tmp_path / "blobs")
    await blobs.open_directory()
    return blobs


@pytest.fixture
def small_files() -> Iterator[None]:
    """No file of this process may grow beyond 10,000 bytes."""
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, hard))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    signal.signal(signal.SIGXFSZ, before)


def _files(root: Path) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.is_file())


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chunks=st.lists(st.binary(max_size=2000), max_size=6))
async def test_what_was_put_comes_back(blobs: BlobStore, chunks: list[bytes]) -> None:
    data = b"".join(chunks)
    async with blobs.writer() as writer:
        for chunk in chunks:
            await writer.write(chunk)
        written = await writer.commit()
    assert written.digest == blake3(data).hexdigest()
    assert written.size_bytes == len(data)
    assert await blobs.read_bytes(written.digest) == data
    assert await blobs.put_bytes(data) == written == await blobs.open(written.digest)


async def test_a_file_is_copied(blobs: BlobStore, tmp_path: Path) -> None:
    source = tmp_path / "source"
    source.write_bytes(b"abc" * 1_000_000)
    blob = await blobs.put_file(source)
    assert source.is_file()
    assert blob.path.read_bytes() == source.read_bytes()


async def test_equal_bytes_are_stored_once(blobs: BlobStore, tmp_path: Path) -> None:
    stored = await asyncio.gather(*(blobs.put_bytes(b"same") for _ in range(20)))
    assert len({blob.digest for blob in stored}) == 1
    assert _files(tmp_path) == [stored[0].path]


async def test_a_truncated_blob_is_mended(blobs: BlobStore) -> None:
    blob = await blobs.put_bytes(b"whole")
    blob.path.write_bytes(b"who")
    await blobs.put_bytes(b"whole")
    assert await blobs.read_bytes(blob.digest) == b"whole"


async def test_a_writer_without_commit_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    async with blobs.writer() as writer:
        await writer.write(b"half")
        assert len(_files(tmp_path)) == 1

    async def fail_halfway() -> None:
        async with blobs.writer() as writer:
            await writer.write(b"half")
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        await fail_halfway()
    assert _files(tmp_path) == []


async def test_a_writer_is_done_after_its_commit(blobs: BlobStore, tmp_path: Path) -> None:
    async with blobs.writer() as writer:
        blob = await writer.commit()
        with pytest.raises(RuntimeError, match="discarded"):
            await writer.write(b"late")
    assert blob.digest == blake3().hexdigest()
    assert _files(tmp_path) == [blob.path]


async def test_a_canceled_writer_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    async def write() -> None:
        async with blobs.writer() as writer:
            while True:
                await writer.write(b"x" * 1_000_000)
                progress.set()

    progress = asyncio.Event()
    task = asyncio.get_running_loop().create_task(write())
    await progress.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert _files(tmp_path) == []


async def test_what_is_missing(blobs: BlobStore) -> None:
    digest = "0" * 64
    assert not await blobs.exists(digest)
    assert await blobs.delete(digest)
    with pytest.raises(NotFound):
        await blobs.open(digest)
    with pytest.raises(NotFound):
        await blobs.read_bytes(digest)


@pytest.mark.parametrize("digest", ["", "..", "A" * 64, "../" + "0" * 61, "0" * 63, "0" * 65])
async def test_a_digest_is_no_path(blobs: BlobStore, digest: str) -> None:
    with pytest.raises(InvalidInput):
        await blobs.open(digest)


async def test_deleting_spares_what_was_put_again(blobs: BlobStore) -> None:
    blob = await blobs.put_bytes(b"x")
    os.utime(blob.path, (1000.0, 1000.0))
    assert not await blobs.delete(blob.digest, put_before=1000.0)
    assert await blobs.exists(blob.digest)
    await blobs.put_bytes(b"x")
    assert not await blobs.delete(blob.digest, put_before=2000.0)
    os.utime(blob.path, (1000.0, 1000.0))
    assert await blobs.delete(blob.digest, put_before=2000.0)
    assert not await blobs.exists(blob.digest)


async def test_opening_sweeps_what_a_crash_left(blobs: BlobStore, tmp_path: Path) -> None:
    kept = await blobs.put_bytes(b"kept")
    async with blobs.writer() as writer:
        await writer.write(b"half")
        await BlobStore(tmp_path / "blobs").open_directory()
        assert _files(tmp_path) == [kept.path]


@pytest.mark.usefixtures("small_files")
async def test_no_room_is_told_and_leaves_nothing(blobs: BlobStore, tmp_path: Path) -> None:
    kept = await blobs.put_bytes(b"small")
    with pytest.raises(StorageFull, match="nothing was stored"):
        await blobs.put_bytes(b"x" * 20_000)
    async with blobs.writer() as writer:
        await writer.write(b"x" * 8000)
        with pytest.raises(StorageFull):
            await writer.write(b"x" * 8000)
    assert _files(tmp_path) == [kept.path]


async def test_other_trouble_with_files_is_not_called_a_full_disk(tmp_path: Path) -> None:
    blobs = BlobStore(tmp_path / "never made")
    with pytest.raises(OSError) as raised:  # noqa: PT011 - its number is checked
        await blobs.put_bytes(b"x")
    assert raised.value.errno == errno.ENOENT


_WRITER = """
import asyncio, sys
from pathlib import Path
from comfyserve.store.blobs import BlobStore

async def main():
    blobs = BlobStore(Path(sys.argv[1]))
    await blobs.open_directory()
    number = 0
    while True:
        blob = await blobs.put_bytes(b"%d" % number * 5000)
        print(blob.digest, flush=True)
        number += 1

asyncio.run(main())
"""


async def test_a_killed_process_leaves_only_whole_blobs(tmp_path: Path) -> None:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _WRITER, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    digests = [(await process.stdout.readline()).strip().decode() for _ in range(20)]
    process.kill()
    digests += [line.decode() for line in (await process.stdout.read()).split() if len(line) == 64]
    await process.wait()
    blobs = BlobStore(tmp_path)
    await blobs.open_directory()
    for digest in digests:
        assert blake3(await blobs.read_bytes(digest)).hexdigest() == digest
    for path in _files(tmp_path):
        assert blake3(path.read_bytes()).hexdigest() == path.parent.name + path.name
