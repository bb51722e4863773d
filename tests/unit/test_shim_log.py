"""The bounded log: what the shim writes is what the launcher reads."""

import tempfile
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from comfyserve.runner.ringlog import RingLog
from comfyserve.runtime.launchers.local_files import ReplicaDir

LIMIT = 8192
WRITES = st.lists(st.integers(1, 5000), max_size=20)


def pattern(start: int, size: int) -> bytes:
    """Bytes that tell where in the stream they stand."""
    return bytes((position * 7 + position // 251) % 256 for position in range(start, start + size))


@given(WRITES)
def test_what_is_kept_is_the_newest_within_the_limit(sizes: list[int]) -> None:
    with tempfile.TemporaryDirectory() as directory:
        log = RingLog(f"{directory}/log", LIMIT)
        total = 0
        for size in sizes:
            log.write(pattern(total, size))
            total += size
            kept = sum(path.stat().st_size for path in Path(directory, "log").iterdir())
            assert min(total, LIMIT // 2) <= kept <= LIMIT
        log.close()
        files = ReplicaDir(Path(directory))
        tail = files.read_tail(3000)
        assert tail == pattern(max(0, total - 3000), min(3000, total))
        assert log.tail == pattern(max(0, total - 4096), min(4096, total))


@given(WRITES, st.integers(700, 4000))
def test_reading_on_from_each_end_misses_nothing_that_is_kept(
    sizes: list[int], limit_bytes: int
) -> None:
    with tempfile.TemporaryDirectory() as directory:
        log = RingLog(f"{directory}/log", LIMIT)
        files = ReplicaDir(Path(directory))
        total = offset = 0
        for size in sizes:
            log.write(pattern(total, size))
            total += size
        while (chunk := files.read_log(offset, limit_bytes)).data:
            assert chunk.offset >= offset
            assert offset == 0 or chunk.offset == offset
            assert len(chunk.data) <= limit_bytes
            assert chunk.data == pattern(chunk.offset, len(chunk.data))
            offset = chunk.end
        assert offset == total
        log.close()


def test_a_log_that_cannot_be_written_is_left_out_and_goes_on_later(tmp_path: Path) -> None:
    files = ReplicaDir(tmp_path)
    log = RingLog(str(tmp_path / "log"), LIMIT)
    (tmp_path / "log").write_text("in the way")
    log.write(b"lost")
    assert log.lost_bytes == 4
    (tmp_path / "log").unlink()
    log.write(b"kept")
    log.close()
    assert log.tail == b"lostkept"
    chunk = files.read_log(0, 100)
    assert (chunk.offset, chunk.data) == (4, b"kept")
    assert files.read_tail(100) == b"kept"


def test_an_offset_beyond_the_end_reads_nothing(tmp_path: Path) -> None:
    log = RingLog(str(tmp_path / "log"), LIMIT)
    log.write(b"abc")
    log.close()
    files = ReplicaDir(tmp_path)
    assert files.read_log(3, 10).data == b""
    assert files.read_log(99, 10) == files.read_log(99, 10)
    assert files.read_log(99, 10).offset == 99
    assert files.read_log(0, 0).data == b""
