"""The bounded log of a replica: segments named by the offset at which they begin.

Whoever reads needs no index: a segment's name is the offset of its first byte in all that was
ever written, so an offset stays valid while older segments go.
"""

import os

_KEPT_SEGMENTS = 4
_TAIL_BYTES = 4096


class RingLog:
    """Keeps the newest part of a stream in at most `limit_bytes` of disk.

    Never raises for a full or failing disk: what cannot be written is left out and counted, what
    was kept stays, and writing goes on when there is room again.
    """

    def __init__(self, directory: str, limit_bytes: int) -> None:
        self._directory = directory
        # One more than is kept: the newest is begun before the oldest is given up.
        self._segment_bytes = max(1024, limit_bytes // (_KEPT_SEGMENTS + 1))
        self._offset = 0
        self._room = 0
        self._fd = -1
        self._paths: list[str] = []
        self.tail = b""
        self.lost_bytes = 0

    def write(self, data: bytes) -> None:
        """Append `data`."""
        self.tail = (self.tail + data[-_TAIL_BYTES:])[-_TAIL_BYTES:]
        start = 0
        while start < len(data):
            try:
                if self._room <= 0:
                    self._begin_segment()
                size = os.write(self._fd, data[start : start + self._room])
            except OSError:
                self._leave_out(len(data) - start)
                return
            self._offset += size
            self._room -= size
            start += size
            self._drop_oldest()

    def close(self) -> None:
        """Close the newest segment. Twice is fine."""
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._room = -1, 0

    def _begin_segment(self) -> None:
        self.close()
        os.makedirs(self._directory, mode=0o700, exist_ok=True)
        path = os.path.join(self._directory, f"{self._offset:015d}")
        self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        self._paths.append(path)
        self._room = self._segment_bytes

    def _drop_oldest(self) -> None:
        while len(self._paths) > _KEPT_SEGMENTS:
            path = self._paths.pop(0)
            try:
                os.unlink(path)
            except FileNotFoundError:
                continue  # someone cleared the log by hand

    def _leave_out(self, size: int) -> None:
        if self._room == self._segment_bytes:
            os.unlink(self._paths.pop())  # begun, but not one byte of it fitted
        self.close()
        self._offset += size
        self.lost_bytes += size
